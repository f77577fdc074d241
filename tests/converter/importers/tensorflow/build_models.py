"""Build the small models that the tests with TensorFlow import: ``python build_models.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
import tf_keras


def image_model() -> keras.Model:
    """What a vision network is made of, channels last, with two outputs of which one is an image."""
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    y = layers.Activation("hard_swish")(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Concatenate()([layers.Add()([x, y]), layers.MaxPooling2D(3, 1, "same")(x)])
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    mask = layers.Conv2D(4, 1, name="mask", activation="gelu")(x)
    logits = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(mask))
    return keras.Model(image, [logits, mask])


def sequence_model() -> keras.Model:
    """Inputs and outputs in dictionaries; attention and recurrent layers."""
    layers = keras.layers
    words, features = keras.Input((12,), name="words", dtype="int32"), keras.Input((16,), name="features")
    x = layers.Embedding(50, 8)(words)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    both = layers.Concatenate()([layers.GRU(4)(x), layers.Bidirectional(layers.LSTM(3))(x)])
    outputs = {"a": layers.Dense(3, name="tone")(both), "b": layers.Dense(2, name="style")(features)}
    return keras.Model({"words": words, "features": features}, outputs)


def legacy_model() -> tf_keras.Model:
    """A model of Keras 2 with operators of TensorFlow between its layers."""
    image = tf_keras.Input((8, 8, 1), name="image")
    x = tf_keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(image)
    x = (tf.nn.relu(x) * 2 + tf.reduce_mean(x))[:, 0]
    return tf_keras.Model(image, tf_keras.layers.Dense(3, activation="softmax", name="classes")(x))


def lambda_model(package: object) -> object:
    """A model with Python bytecode in it."""
    entry = package.Input((4,), name="x")  # type: ignore[attr-defined]
    twice = package.layers.Lambda(lambda x: x * 2, name="twice")(entry)  # type: ignore[attr-defined]
    return package.Model(entry, twice)  # type: ignore[attr-defined]


class Signatures(tf.Module):
    """Two signatures, one of them with an operator that tf2onnx does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "left"), tf.TensorSpec((None, 4), name="right")])
    def combine(self, left: tf.Tensor, right: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": (left + right) @ self.weight, "classes": tf.argmax(left - right, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    def odd(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.math.digamma(x)}


def main(folder: Path) -> None:
    """Write every model."""
    keras.utils.set_random_seed(0)
    image_model().save(folder / "image.keras")
    sequence_model().save(folder / "sequence.keras")
    legacy_model().save(folder / "legacy.h5")
    lambda_model(keras).save(folder / "lambda.keras")  # type: ignore[attr-defined]
    lambda_model(tf_keras).save(folder / "lambda.h5")  # type: ignore[attr-defined]
    image_model().export(folder / "image_saved")
    image_model().save_weights(folder / "only.weights.h5")
    module = Signatures()
    signatures = {"combine": module.combine, "odd": module.odd}
    tf.saved_model.save(module, str(folder / "signatures"), signatures=signatures)
    (folder / "linked.h5").write_bytes((folder / "legacy.h5").read_bytes())
    with h5py.File(folder / "linked.h5", "a") as file:
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/")
    (folder / "damaged.h5").write_bytes((folder / "legacy.h5").read_bytes()[:3000])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
