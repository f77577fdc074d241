"""Record what every configuration of a real search space takes on this machine, for benchmarks/tuning_search.py.

    python benchmarks/tuning_tables.py FOLDER            # FOLDER holds the models: see MODELS

One table per model and target: every configuration that the target's own knobs span (those that cannot work left out)
is opened and timed ``--repeats`` times, in a new random order each time, in worker processes.  The repeats go on where
a table has been begun, so the recording can be interrupted.  A configuration that cannot be converted, does not load
or crashes is recorded with its reason.

The tables are written to benchmarks/results/tuning-tables/MODEL-TARGET.json: milliseconds per run, one list per
configuration.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.machine import describe as machine
from edgec.converter.convert import convert
from edgec.errors import EdgecError
from edgec.runtime.isolation import Worker
from edgec.runtime.measurement.subject import Subject, WarmUp
from edgec.targets import registry
from edgec.targets.knobs import Circumstances, Configuration, Setting
from edgec.tuner.space import Space, key_of, make_space

RESULTS = Path(__file__).parent / "results" / "tuning-tables"
MODELS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "mnist-conv": ("Input3", (1, 28, 28), (1,)),
    "squeezenet": ("data_0", (3, 224, 224), (1,)),
    "ppocr-cls": ("x", (3, 48, 192), (1, 4)),
    "centerface": ("input.1", (3, 160, 160), (1,)),
}
"""Model to its input, the shape of one sample and the batches of its table."""
PRECISIONS = {
    "onnxruntime": ("float32", "float16", "int8"),
    "tflite": ("float32", "float16", "dynamic-int8", "int8", "int16x8"),
}
SLOT_S = 0.006
BLOCKS = 3
QUANTILE = 0.1
"""Of the runs in a slot: what other work on the machine moves least."""
OPENING = ("EDG302", "EDG303", "EDG040")
"""Errors that are a session's and not the conversion's."""
USES = 40
"""Sessions that one worker process opens, one after the other."""


def space_of(model: str, target: str) -> Space:
    """The target's own knobs for the model, on two processors."""
    precisions = PRECISIONS[target]
    knobs = registry.load(target).knobs(Circumstances(2, 1, "float32", precisions))
    asked: dict[str, tuple[Setting, ...]] = {"batch": MODELS[model][2]}
    if target == "onnxruntime":
        asked["arena_extend"] = (None,)
    return make_space(knobs, asked, {})


def converted(models: Path, cache: Path, model: str, target: str, configuration: Configuration) -> Path:
    """The artifact for the conversion's part of a configuration, made once."""
    batch, precision = configuration["batch"], str(configuration["precision"])
    folder = cache / f"{model}-{target}-{batch}-{precision}"
    suffix = registry.load(target).suffix
    if not (folder / "manifest.json").exists():
        name, shape, _ = MODELS[model]
        convert(
            models / f"{model}.onnx",
            target=target,
            output=folder,
            input_shapes={name: (int(batch or 1), *shape)},
            precision=precision,
            calibration="random" if precision in ("int8", "int16x8") else None,
        )
    return folder / f"model{suffix}"


class Timer:
    """Times configurations against the default, which stays open, in worker processes.

    The machine is not quiet, so a time is the default's time, multiplied by how a configuration compares with it in
    interleaved blocks (default, candidate, candidate, default): the ratio of the lowest deciles of the runs.  Workers
    are replaced now and then, and whenever one has failed.
    """

    def __init__(
        self, target: str, default: Path, session: Mapping[str, Setting], feeds: dict[str, Any], priority: int
    ) -> None:
        self._target = target
        self._worker = started(priority)
        self._used = 0
        self._home = started(priority)
        self._priority = priority
        self._default = self._open(self._home, default, session, feeds)
        slots = [np.quantile(self._default.time(count_of(self._default)), QUANTILE) for _ in range(20)]
        self.default_ms = float(np.quantile(slots, 0.25)) * 1e3

    def milliseconds(self, artifact: Path, session: Mapping[str, Setting], feeds: dict[str, Any]) -> float:
        """Of one run."""
        if self._used >= USES:
            self.renew()
        self._used += 1
        subject = self._open(self._worker, artifact, session, feeds)
        sides = (self._default, subject)
        counts = [count_of(side) for side in sides]
        logarithms = []
        for block in range(BLOCKS):
            slots: list[list[float]] = [[], []]
            for which in (0, 1, 1, 0) if block % 2 == 0 else (1, 0, 0, 1):
                slots[which].append(float(np.quantile(sides[which].time(counts[which]), QUANTILE)))
            logarithms.append(float(np.mean(np.log(slots[1])) - np.mean(np.log(slots[0]))))
        subject.close()
        return self.default_ms * math.exp(float(np.median(logarithms)))

    def _open(self, worker: Worker, artifact: Path, session: Mapping[str, Setting], feeds: dict[str, Any]) -> Subject:
        spec = registry.load(self._target).session(artifact)
        opened = worker.open(spec.factory, artifact, {**spec.options, **session})
        subject = Subject(opened, [feeds], WarmUp(3, 0.02, 0.1))
        subject.warm_up()
        return subject

    def renew(self) -> None:
        """End the candidates' worker, and start another."""
        self._worker.close()
        self._worker, self._used = started(self._priority), 0

    def close(self) -> None:
        """End both workers."""
        self._worker.close()
        self._home.close()


def started(priority: int) -> Worker:
    """A worker process of this niceness; its threads inherit it."""
    worker = Worker()
    if priority:
        os.setpriority(os.PRIO_PROCESS, worker._process.pid, priority)
    return worker


def count_of(subject: Subject) -> int:
    """Runs in one slot."""
    return max(1, min(200, round(SLOT_S / max(subject.latency_s, 1e-9))))


def record(models: Path, cache: Path, model: str, target: str, repeats: int, priority: int) -> None:
    """Bring one table to so many repeats."""
    path = RESULTS / f"{model}-{target}.json"
    space = space_of(model, target)
    points = space.points
    assert points is not None
    table: dict[str, Any] = {"model": model, "target": target, "machine": machine(), "knobs": space.describe()}
    table.update(objective="throughput" if len(MODELS[model][2]) > 1 else "latency", rows={})
    if path.exists():
        table = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, Any] = table["rows"]
    refused: dict[str, str] = {}
    for point in points:
        rows.setdefault(key_of(point), {"configuration": point, "ms": [], "failed": None})
    name, shape, _ = MODELS[model]
    rng = np.random.default_rng(len(next(iter(rows.values()))["ms"]))
    timer = Timer(
        target,
        converted(models, cache, model, target, space.default),
        space.session(space.default),
        {name: np.random.default_rng(1).random((int(space.default["batch"] or 1), *shape), np.float32)},
        priority,
    )
    while (done := min(len(row["ms"]) for row in rows.values() if row["failed"] is None)) < repeats:
        began = time.monotonic()
        for position in rng.permutation(len(points)):
            point = points[position]
            row = rows[key_of(point)]
            if row["failed"] is not None or len(row["ms"]) > done:
                continue
            batch = int(point["batch"] or 1)
            sample = np.random.default_rng(1).random((batch, *shape), np.float32)
            conversion = key_of(space.conversion(point))
            if conversion in refused:
                row["failed"] = refused[conversion]
                continue
            try:
                artifact = converted(models, cache, model, target, point)
                if str(point["precision"]) in ("int8", "int16x8"):
                    sample = fitting(artifact, target, sample)
                found = timer.milliseconds(artifact, space.session(point), {name: sample})
                row["ms"].append(float(f"{found:.4g}"))
            except EdgecError as error:
                row["failed"] = f"{error.code}: {error.message}"
                print(f"{point}: {row['failed']}", file=sys.stderr)
                if error.code not in OPENING:
                    refused[conversion] = row["failed"]
                timer.renew()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(compact(table), encoding="utf-8")
        os.replace(temporary, path)
        seconds = time.monotonic() - began
        print(f"{model} {target}: {len(points)} configurations, repeat {done + 1}, {seconds:.0f} s", flush=True)
    timer.close()


def fitting(artifact: Path, target: str, sample: Any) -> Any:
    """The sample in the element type of the artifact's input."""
    dtype = registry.load(target).inspect(artifact)["inputs"][0]["dtype"]
    return sample if dtype == "float32" else (sample * 100).astype(dtype)


def compact(table: Mapping[str, Any]) -> str:
    """One line per row."""
    head = {key: value for key, value in table.items() if key != "rows"}
    lines = [f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in table["rows"].items()]
    return json.dumps(head, indent=1)[:-2] + ',\n "rows": {\n' + ",\n".join(lines) + "\n }\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder with mnist-conv.onnx, squeezenet.onnx, ...: see MODELS")
    parser.add_argument("--cache", type=Path, default=Path("tuning-conversions"), help="folder for the conversions")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--priority", type=int, default=0, help="niceness of the workers; below 0 needs root")
    parser.add_argument("--only", help="MODEL-TARGET")
    options = parser.parse_args()
    for repeat in range(1, options.repeats + 1):
        for model in MODELS:
            for target in PRECISIONS:
                if not (options.models / f"{model}.onnx").exists():
                    if repeat == 1:
                        print(f"{model} is not in {options.models}: no table of it", file=sys.stderr)
                elif options.only in (None, f"{model}-{target}"):
                    record(options.models, options.cache, model, target, repeat, options.priority)


if __name__ == "__main__":
    main()
