"""Convert ``digits.onnx`` to LiteRT and show its accuracy before and after on 360 labelled digits.

    python examples/digits/quickstart.py [--output FOLDER]

Exit code 0 only if the conversion was verified and not one of the predicted digits changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import edgec

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"
SAMPLES = HERE / "samples.npz"
LABELS = HERE / "labels.npy"

Classify = Callable[[np.ndarray], int]


def onnx_classifier(path: Path) -> Classify:
    """The class that ONNX Runtime finds for one image [1,1,8,8] float32."""
    import onnxruntime  # after edgec, which keeps it from sending telemetry

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: int(np.argmax(session.run(None, {"x": image})[0]))


def litert_classifier(path: Path) -> Classify:
    """The class that LiteRT finds for the same image: shapes and layout are those of the ONNX model."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def classify(image: np.ndarray) -> int:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return int(np.argmax(interpreter.get_tensor(result)))

    return classify


def classify_all(classify: Classify, images: np.ndarray) -> tuple[np.ndarray, float]:
    """The predicted digits [N] and the mean milliseconds for one image (a rough figure, not a benchmark)."""
    classify(images[0])
    start = time.perf_counter()
    digits = np.array([classify(image) for image in images])
    return digits, (time.perf_counter() - start) * 1000 / len(images)


def main() -> int:
    """Convert, run both files on every sample, print a small table."""
    parser = argparse.ArgumentParser(description="Convert the digits classifier to LiteRT and compare its accuracy.")
    parser.add_argument(
        "--output", type=Path, default=HERE / "out", help="folder for the artifact (default: %(default)s)"
    )
    options = parser.parse_args()

    try:
        result = edgec.convert(MODEL, target="tflite", output=options.output)
    except edgec.EdgecError as error:
        print(error, file=sys.stderr)
        return error.exit_code

    with np.load(SAMPLES) as samples:
        images = samples["x"][:, None]
    labels = np.load(LABELS)
    before, before_time = classify_all(onnx_classifier(MODEL), images)
    after, after_time = classify_all(litert_classifier(result.artifact), images)

    print(f"{'':8}{'file':16}{'size':>10}{'accuracy':>12}{'per image':>12}")
    rows = (("before", MODEL, before, before_time), ("after", result.artifact, after, after_time))
    for label, path, digits, milliseconds in rows:
        size = f"{path.stat().st_size / 1000:.1f} kB"
        accuracy = f"{(digits == labels).mean():.2%}"
        print(f"{label:8}{path.name:16}{size:>10}{accuracy:>12}{milliseconds:>9.3f} ms")
    print(f"same digit from both files: {(before == after).sum()} of {len(labels)}")
    print(f"artifact: {result.artifact}\nmanifest: {result.manifest}")
    return 0 if np.array_equal(before, after) else 1


if __name__ == "__main__":
    sys.exit(main())
