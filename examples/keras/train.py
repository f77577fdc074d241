"""Train a small Keras CNN on scikit-learn's digits and save it, with the digits that it has not seen.

    python examples/keras/train.py [--output FOLDER]

Writes ``digits.keras``, ``samples.npz`` (image, float32 [N,1,8,8,1], values 0 to 16) and ``labels.npy`` (int64 [N]).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent


def network() -> keras.Model:
    """A CNN as Keras users write it: channels last, BatchNormalization, dropout, the scaling inside."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16)(image)
    for filters in (16, 32):
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("hard_swish")(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x))


def main() -> None:
    """Train for some seconds, say how good it is, write the files."""
    parser = argparse.ArgumentParser(description="Train a small Keras CNN on scikit-learn's digits.")
    parser.add_argument("--output", type=Path, default=HERE / "out", help="folder for the files (default: %(default)s)")
    folder: Path = parser.parse_args().output
    keras.utils.set_random_seed(1)
    data = load_digits()
    images, labels = data.images[..., None].astype(np.float32), data.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    seen, unseen = order[360:], order[:360]
    model = network()
    model.compile(optimizer=keras.optimizers.Adam(0.005), loss="sparse_categorical_crossentropy")
    model.fit(images[seen], labels[seen], batch_size=64, epochs=15, verbose=0)
    correct = model.predict(images[unseen], verbose=0).argmax(axis=1) == labels[unseen]
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "digits.keras")
    np.savez(folder / "samples.npz", image=images[unseen][:, None])
    np.save(folder / "labels.npy", labels[unseen])
    print(f"trained: {correct.mean():.2%} of {len(unseen)} unseen digits, saved to {folder / 'digits.keras'}")


if __name__ == "__main__":
    main()
