"""Accuracy of an int8 .tflite on the digits, run in LiteRT on the CPU.

python examples/edgetpu/accuracy.py out/edgetpu/model.tflite
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgec.targets.tflite.graph import read
from edgec.targets.tflite.session import open_session

DIGITS = Path(__file__).resolve().parents[1] / "digits"


def main() -> None:
    path = Path(sys.argv[1])
    entry = read(path).main.inputs[0]
    session = open_session(path)
    with np.load(DIGITS / "samples.npz") as archive:
        images = next(iter(archive.values()))
    labels = np.load(DIGITS / "labels.npy")
    channels_last = np.moveaxis(images.reshape(-1, 1, 8, 8), 1, -1)
    integers = np.clip(np.rint(channels_last / entry.scales[0]) + entry.zero_points[0], -128, 127).astype(np.int8)
    right = 0
    for image, label in zip(integers, labels, strict=True):
        (scores,) = session.run({session.inputs[0].name: image[np.newaxis]}).values()
        right += int(scores.argmax()) == int(label)
    print(f"{right} of {len(labels)} digits right ({right / len(labels):.1%})")


if __name__ == "__main__":
    main()
