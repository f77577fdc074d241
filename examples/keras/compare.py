"""Run the digits through the converted model and compare with the labels: no TensorFlow is needed any more.

    python examples/keras/compare.py FOLDER

FOLDER holds ``model.tflite``, ``samples.npz`` and ``labels.npy``.  Exit code 0 only if 95 % of the digits are right.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(folder: Path) -> int:
    """Print the accuracy and the size."""
    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with np.load(folder / "samples.npz") as samples:
        images = samples["image"]
    digits = []
    for image in images:
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        digits.append(int(np.argmax(interpreter.get_tensor(result["index"]))))
    accuracy = float((np.array(digits) == np.load(folder / "labels.npy")).mean())
    size = (folder / "model.tflite").stat().st_size
    print(f"model.tflite: {accuracy:.2%} of {len(digits)} unseen digits, {size / 1000:.1f} kB")
    return 0 if accuracy >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
