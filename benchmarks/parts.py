"""The parts of the benchmark; each yields rows, the model's or row's name and a JSON object, as they are measured."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import catalogue, synthetic
from benchmarks.catalogue import BenchmarkModel
from benchmarks.measure.latency import compare
from benchmarks.measure.operators import count_inner_transposes, count_operators
from benchmarks.measure.process import ProcessCost, run_measured, summary
from benchmarks.measure.runners import Array, LiteRunner, OnnxRunner, worst_relative_error
from tests.models import ModelUnavailable

CHAIN_LENGTHS = (500, 1000, 2000, 5000, 10_000, 20_000)

Row = dict[str, object]
Results = Iterator[tuple[str, Row]]


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    root: Path
    work: Path
    peer_python: Path | None
    models: tuple[str, ...]
    runs: int
    seconds: float


def convert(settings: Settings) -> Results:
    """CPU seconds and peak memory of both converters, the runs interleaved; the first run of each warms the caches."""
    for model in _models(settings):
        commands = {"edgec": _edgec_command(settings, model, "edgec")}
        if settings.peer_python is not None:
            commands["onnx2tf"] = _peer_command(settings, model)
        costs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
        for turn in range(settings.runs + 1):
            for name, command in commands.items():
                cost = _run(settings, command)
                if turn:
                    costs[name].append(cost)
        row: Row = {name: summary(found) for name, found in costs.items()}
        _add_loads(settings, model, row)
        yield model.name, row


def latency(settings: Settings) -> Results:
    """edgec's artifact with NHWC images against the peer's artifact and against ONNX Runtime, 1 and 2 threads."""
    for model in _models(settings):
        ours = _artifact(settings, model)
        theirs = _peer_artifact(settings, model)
        if ours is None:
            yield model.name, {"ok": False, "message": "edgec has no artifact"}
            continue
        static = catalogue.static_copy(model, settings.work / "static")
        row: Row = {"ok": True}
        reference = OnnxRunner(static, 1)
        inputs, expected = reference.inputs, reference()
        row["edgec_relative_error"] = _relative_error(ours, inputs, expected)
        row["peer_relative_error"] = _relative_error(theirs, inputs, expected) if theirs else None
        for threads in (1, 2):
            open_ours = partial(LiteRunner, ours, threads, inputs)
            open_reference = partial(OnnxRunner, static, threads, inputs)
            row[f"onnxruntime_{threads}"] = compare(open_ours, open_reference, seconds=settings.seconds).document()
            if theirs is not None and isinstance(row["peer_relative_error"], float):
                open_theirs = partial(LiteRunner, theirs, threads, inputs)
                row[f"peer_{threads}"] = compare(open_ours, open_theirs, seconds=settings.seconds).document()
        row["same_file_1"] = compare(
            partial(LiteRunner, ours, 1, inputs), partial(LiteRunner, ours, 1, inputs), seconds=settings.seconds
        ).document()
        yield model.name, row


def operators(settings: Settings) -> Results:
    """Operator and TRANSPOSE counts of the artifacts: edgec in ONNX layout and with NHWC images, and the peer's."""
    for model in _models(settings):
        row: Row = {}
        files = {
            "edgec": _converted(settings, model, "edgec-onnx-layout", ()),
            "edgec_nhwc": _artifact(settings, model),
            "onnx2tf": _peer_artifact(settings, model),
        }
        for name, path in files.items():
            if path is None:
                continue
            counts = count_operators(path)
            row[name] = {
                "operators": sum(counts.values()),
                "transposes": counts.get("TRANSPOSE", 0),
                "inner_transposes": count_inner_transposes(path),
                "custom": [operator for operator in counts if operator.startswith("CUSTOM")],
                "bytes": path.stat().st_size,
            }
        yield model.name, row


def scaling(settings: Settings) -> Results:
    """The default passes on chains of 500 to 20,000 nodes, each in its own process, and the exponent of the growth."""
    folder = settings.work / "chains"
    folder.mkdir(parents=True, exist_ok=True)
    passes = [sys.executable, str(settings.root / "benchmarks" / "chain_passes.py"), "tflite"]
    points = []
    for length in CHAIN_LENGTHS:
        path = folder / f"chain-{length}.onnx"
        if not path.exists():
            synthetic.write("chain", path, nodes=length)
        command = [*passes, str(path)]
        costs = [_run(settings, command) for _ in range(settings.runs)]
        row = summary(costs)
        yield f"chain-{length}", row
        if row["ok"]:
            points.append((length, min(cost.cpu_seconds for cost in costs)))
    if len(points) > 1:
        base = _run(settings, passes)
        logs = [(math.log(length), math.log(max(cpu - base.cpu_seconds, 1e-3))) for length, cpu in points]
        slope = float(np.polyfit([x for x, _ in logs], [y for _, y in logs], 1)[0])
        yield "fit", {"imports_cpu_seconds": round(base.cpu_seconds, 3), "exponent": round(slope, 3)}


def inspect(settings: Settings) -> Results:
    """`edgec inspect --json` of a 2.7 GB model with external data."""
    folder = settings.work / "large"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "large.onnx"
    if not path.exists():
        synthetic.write("large", path)
    command = [sys.executable, "-m", "edgec", "inspect", str(path), "--json"]
    yield "large", _repeat(settings, command)


def start(settings: Settings) -> Results:
    """`edgec --help` and `edgec --version`, against Python alone and Polygraphy, if the peer has it."""
    commands = {
        "edgec --help": [sys.executable, "-m", "edgec", "--help"],
        "edgec --version": [sys.executable, "-m", "edgec", "--version"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    polygraphy = _beside_peer(settings, "polygraphy")
    if polygraphy is not None:
        commands["polygraphy --help"] = [str(polygraphy), "--help"]
    for name, command in commands.items():
        yield name, _repeat(settings, command)


PARTS: dict[str, Callable[[Settings], Results]] = {
    "convert": convert,
    "latency": latency,
    "operators": operators,
    "scaling": scaling,
    "inspect": inspect,
    "help": start,
}


def _models(settings: Settings) -> list[BenchmarkModel]:
    models = []
    for name in settings.models:
        try:
            models.append(catalogue.load(name, settings.work / "models"))
        except ModelUnavailable as reason:
            _say(f"{name} is left out: {reason}")
    return models


def _beside_peer(settings: Settings, name: str) -> Path | None:
    """A script in the peer's environment, if it is installed there."""
    path = settings.peer_python.with_name(name) if settings.peer_python is not None else None
    return path if path is not None and path.exists() else None


def _edgec_command(
    settings: Settings, model: BenchmarkModel, folder: str, options: tuple[str, ...] = ("--io-layout", "NHWC")
) -> list[str]:
    output = settings.work / folder / model.name
    command = [sys.executable, "-m", "edgec", "convert", str(model.path), "--target", "tflite", "-o", str(output)]
    for name, shape in model.shapes:
        command += ["--input-shape", f"{name}:{','.join(map(str, shape))}"]
    return [*command, *options]


def _peer_command(settings: Settings, model: BenchmarkModel) -> list[str]:
    if settings.peer_python is None:
        raise ValueError("no --peer-python was given")
    static = catalogue.static_copy(model, settings.work / "static")
    output = settings.work / "onnx2tf" / model.name
    return [str(settings.peer_python.with_name("onnx2tf")), "-i", str(static), "-o", str(output)]


def _run(settings: Settings, command: list[str]) -> ProcessCost:
    return run_measured(
        command, settings.work, {"PYTHONPATH": str(settings.root)} if "onnx2tf" not in command[0] else {}
    )


def _repeat(settings: Settings, command: list[str]) -> Row:
    _run(settings, command)
    return summary([_run(settings, command) for _ in range(max(settings.runs, 5))])


def _artifact(settings: Settings, model: BenchmarkModel) -> Path | None:
    """edgec's artifact with NHWC images."""
    return _converted(settings, model, "edgec", ("--io-layout", "NHWC"))


def _converted(settings: Settings, model: BenchmarkModel, folder: str, options: tuple[str, ...]) -> Path | None:
    output = settings.work / folder / model.name
    for stale in output.glob("*.tflite"):
        stale.unlink()
    cost = _run(settings, _edgec_command(settings, model, folder, options))
    return _only(output, "*.tflite") if cost.returncode == 0 else None


def _peer_artifact(settings: Settings, model: BenchmarkModel) -> Path | None:
    folder = settings.work / "onnx2tf" / model.name
    if not list(folder.glob("*_float32.tflite")) and settings.peer_python is not None:
        _run(settings, _peer_command(settings, model))
    return _only(folder, "*_float32.tflite")


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    return found[0] if found else None


def _add_loads(settings: Settings, model: BenchmarkModel, row: Row) -> None:
    """Say whether each artifact loads and what its error is: an exit code of 0 proves nothing."""
    static = catalogue.static_copy(model, settings.work / "static")
    reference = OnnxRunner(static, 1)
    expected = reference()
    files = {
        "edgec": _only(settings.work / "edgec" / model.name, "*.tflite"),
        "onnx2tf": _only(settings.work / "onnx2tf" / model.name, "*_float32.tflite"),
    }
    for name, path in files.items():
        entry = row.get(name)
        if path is None or not isinstance(entry, dict) or not entry["ok"]:
            continue
        found = _relative_error(path, reference.inputs, expected)
        if isinstance(found, float):
            entry["relative_error"] = found
        else:
            entry["loads"], entry["load_message"] = False, found
    ours, theirs = row.get("edgec"), row.get("onnx2tf")
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.get("ok") and theirs.get("ok"):
        row["cpu_ratio"] = round(float(ours["cpu_seconds"]) / float(theirs["cpu_seconds"]), 3)
        row["memory_ratio"] = round(float(ours["peak_megabytes"]) / float(theirs["peak_megabytes"]), 3)


def _relative_error(path: Path, inputs: dict[str, Array], expected: list[Array]) -> float | str:
    """The artifact's largest relative L2 error against ONNX Runtime, or why it does not run."""
    try:
        runner = LiteRunner(path, 1, inputs)
        runner()
    except (RuntimeError, ValueError) as error:
        return str(error)[-200:]
    return float(f"{worst_relative_error(expected, runner.results()):.3g}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
