"""What mixed precision costs and gains: nodes raised, loss on other data, latency against int8 and float32, the search.

    python benchmarks/mixed_precision.py --work FOLDER [--tensorflow-python TF/bin/python]

TF is an environment with edgec's extra [tensorflow], which reads the .h5 sources; without it they are left out, and the
report says so.  Writes mixed.json and mixed.md in docs/benchmarks.  Needs Pillow, as benchmarks/int8_agreement.py does.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import catalogue
from benchmarks.int8.samples import Floats, samples
from benchmarks.measure.latency import Runner, compare
from benchmarks.measure.machine import describe
from benchmarks.measure.process import run_measured
from tests.models import ModelUnavailable, source_model

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mobilenetv2": ("mobilenetv2", ()),
    "ppocr-det": ("ppocr-det", ("--input-shape", "x:1,3,320,320")),
    "mini-xception": ("emotion_model.hdf5", ("--batch", "1")),
    "resnet8-cifar": ("image_classification.h5", ("--batch", "1")),
    "yolov8n": ("yolov8n", ()),
}
"""Name of the samples to the source and the options of the conversion."""
LIMITS = ("5%", "2%", "1%", "0.5%")
HEAD = """# Mixed precision

Written by this; the raw numbers, with every artifact that was tried, are in `mixed.json` beside this file:

    python benchmarks/mixed_precision.py --work work --tensorflow-python TF/bin/python

Each model is converted for LiteRT with `--precision mixed --max-drop LIMIT` and its calibration samples; the limit is
of the relative L2 on those. *Other data* is the relative L2 on samples that were neither calibrated nor searched with.
*Raised* counts the nodes that stay float32 of those that could be integers; *int8* is the share of the multiplications
and of the weights that are integers. *CPU* is that of the whole conversion, its search included. Latencies are those of
one thread, as ratios of CPU time with 95 % intervals. MobileNetV2 and YOLOv8n have random weights.
"""


def main() -> None:
    """Measure the chosen models and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--limits", nargs="+", default=list(LIMITS))
    parser.add_argument("--work", type=Path, required=True, help="folder for models and artifacts")
    parser.add_argument("--tensorflow-python", type=Path, help="python of an environment with edgec[tensorflow]")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for one latency comparison")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "benchmarks")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = {}
    for name in given.models:
        rows[name] = measure(name, work, given.tensorflow_python, given.limits, given.seconds)
        document = {"part": "mixed", "machine": describe(), "results": rows}
        (given.results / "mixed.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        write(given.results)
        print(name, "done", file=sys.stderr, flush=True)


def measure(name: str, work: Path, tensorflow: Path | None, limits: list[str], seconds: float) -> dict[str, Any]:
    """One model: float32, int8 and mixed artifacts at every limit."""
    source, options = SUBJECTS[name]
    try:
        model = _model(source, work, tensorflow)
        given = samples(name, ROOT / "examples")
    except ModelUnavailable as error:
        return {"skipped": str(error)}
    if model is None:
        return {"skipped": "a Keras file needs --tensorflow-python"}
    folder = work / name
    folder.mkdir(exist_ok=True)
    data = folder / "calibration.npy"
    np.save(data, given.calibration)
    wanted = _reference(model, given.comparison)
    calibrated = ("--calibration", str(data), "--cache", str(folder / "cache"))
    plain = _converted(model, folder / "float32", options, "--precision", "float32")
    whole = _converted(model, folder / "int8", options, "--precision", "int8", *calibrated)
    row: dict[str, Any] = {
        "samples": [len(given.calibration), len(given.comparison)],
        "int8": _other(whole, wanted, given.comparison),
        "limits": {},
    }
    for limit in limits:
        chosen = ("--precision", "mixed", "--max-drop", limit, *calibrated)
        made = _converted(model, folder / f"mixed-{limit}", options, *chosen)
        found = _other(made, wanted, given.comparison)
        if made["artifact"] is not None:
            found["mixed"] = made["manifest"]["quantization"]["mixed"]
            for other, artifact in (("float32", plain["artifact"]), ("int8", whole["artifact"])):
                if artifact is not None:
                    found[f"against_{other}"] = _ratio(made["artifact"], artifact, given.comparison[0], seconds)
        row["limits"][limit] = found
    return row


def _model(source: str, work: Path, tensorflow: Path | None) -> Path | None:
    if not source.endswith((".h5", ".hdf5")):
        return catalogue.load(source, work / "models").path
    target = work / f"{Path(source).stem}.onnx"
    if not target.exists():
        if tensorflow is None:
            return None
        command = [str(tensorflow.absolute()), "-m", "edgec", "import", str(source_model(source)), "-o", str(target)]
        run_measured(command, ROOT, {"TF_CPP_MIN_LOG_LEVEL": "3"})
    return target


def _converted(model: Path, out: Path, options: tuple[str, ...], *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgec", "convert", str(model), "--target", "tflite", *options, *more]
    cost = run_measured([*command, "-o", str(out)], ROOT, {"TF_CPP_MIN_LOG_LEVEL": "3"})
    found: dict[str, Any] = {"cpu_seconds": round(cost.cpu_seconds, 1), "artifact": None, "message": cost.message}
    if cost.returncode == 0:
        found["artifact"] = out / "model.tflite"
        found["manifest"] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


def _other(made: dict[str, Any], wanted: Floats, inputs: Floats) -> dict[str, Any]:
    """Cost of a conversion, and the relative L2 and top-1 agreement of its artifact on other data."""
    entry: dict[str, Any] = {"cpu_seconds": made["cpu_seconds"]}
    if made["artifact"] is None:
        return {**entry, "refused": made["message"]}
    interpreter = Interpreter(str(made["artifact"]), num_threads=1)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for item in inputs:
        interpreter.set_tensor(given["index"], item)
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"]))
    outputs = np.stack(found).astype(np.float64)
    reference = wanted.astype(np.float64)
    error = float(np.sqrt(np.square(outputs - reference).sum() / np.square(reference).sum()))
    same = outputs.reshape(len(outputs), -1).argmax(1) == reference.reshape(len(outputs), -1).argmax(1)
    size = made["manifest"]["artifact"]["size"]
    return {**entry, "relative_l2": round(error, 5), "top1_agreement": round(float(same.mean()), 4), "bytes": size}


def _reference(path: Path, inputs: Floats) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: item})[0] for item in inputs])


def _ratio(first: Path, second: Path, item: Floats, seconds: float) -> dict[str, object]:
    return compare(partial(_runner, first, item), partial(_runner, second, item), seconds=seconds).document()


def _runner(path: Path, item: Floats) -> Runner:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], item)
    invoke: Runner = interpreter.invoke
    return invoke


def write(folder: Path) -> None:
    """Write `folder`/mixed.md from `folder`/mixed.json."""
    document = json.loads((folder / "mixed.json").read_text(encoding="utf-8"))
    machine = document["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [HEAD, f"{machine['processor']}, {machine['cores']} cores, {packages}; {machine['date']}.", ""]
    lines.append(
        "| model | limit | raised | int8 operations, weights | loss | other data | tried | CPU | of float32 | of int8 |"
    )
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, row in document["results"].items():
        lines += _lines(name, row)
    (folder / "mixed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(name: str, row: dict[str, Any]) -> list[str]:
    if "skipped" in row:
        return [f"| {name} | not measured: {row['skipped']} | | | | | | | | |"]
    whole = row["int8"]
    other = "refused" if "refused" in whole else f"{whole['relative_l2']:.2%}"
    lines = [f"| {name} | int8 | 0 | 100%, 100% | | {other} | | {whole['cpu_seconds']:.1f} s | | |"]
    for limit, found in row["limits"].items():
        if "refused" in found:
            lines.append(
                f"| {name} | {limit} | refused: {found['refused']} | | | | | {found['cpu_seconds']:.1f} s | | |"
            )
            continue
        mixed = found["mixed"]
        cells = [
            f"{mixed['raised']} of {mixed['nodes']}",
            f"{mixed['int8_operations']:.0%}, {mixed['int8_weights']:.0%}",
            f"{mixed['loss']:.2%}",
            f"{found['relative_l2']:.2%}",
            str(len(mixed["curve"])),
            f"{found['cpu_seconds']:.1f} s",
            *(_against(found.get(f"against_{kind}")) for kind in ("float32", "int8")),
        ]
        lines.append(f"| {name} | {limit} | {' | '.join(cells)} |")
    return lines


def _against(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    low, high = entry["processor_interval"]
    return f"{entry['processor_ratio']:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
