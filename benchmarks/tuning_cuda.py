"""Tune ONNX Runtime on an NVIDIA GPU, and compare the study with the exhaustive table of the same space.

    python -m benchmarks.tuning_cuda FOLDER --minutes 9          # again and again until it says that it is done

Needs onnxruntime-gpu, onnx, optuna (with SQLAlchemy), numpy and click; LiteRT is not needed.  The model, a stem, eight
3x3 convolutions of 64 channels on 56x56 and a mean, is built here.  The space: batch x precision x device memory limit
x arena strategy x CUDA graph.

1. The default is measured alone, and the device's A/A floor.
2. Every configuration is raced against the default until its interval is narrow: the exhaustive table.
3. A study of a third of that many trials runs as `edgec tune` runs it.
4. The study's winner and the table's best are raced against each other, and the table's best against itself in fresh
   processes: two configurations are equal within that A/A floor.  (The default's own is much wider: without a CUDA
   graph the host's launches decide.)

Every finished race is on the disk at once (FOLDER/*.jsonl), and the same command goes on where it was stopped.  At the
end FOLDER/tuning-cuda.json (or --result) holds everything.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.machine import describe as machine
from edgec.converter.options import ConversionOptions
from edgec.runtime.measurement import Duel, measure_floor
from edgec.targets import registry
from edgec.targets.knobs import Circumstances, Setting
from edgec.tuner.confirming import confirm
from edgec.tuner.conversions import Conversions, Source
from edgec.tuner.goals import LATENCY, THROUGHPUT, Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.measuring import CONFIRMATION, LocalMeasurements, Rules
from edgec.tuner.samples import make_samples
from edgec.tuner.search import Budget, Search, timed
from edgec.tuner.space import Space, key_of, make_space
from edgec.tuner.storage import Mirror
from edgec.tuner.trials import Trial, TrialFailed

SEED = 1
CHANNELS, SIDE, LAYERS = 64, 56, 8
ASKED: dict[str, dict[str, tuple[Setting, ...]]] = {
    "cuda": {"batch": (1, 8, 32), "device_limit": (256 << 20, 1024 << 20, None)},
    "cpu": {"batch": (1, 2), "optimise": ("basic", "all"), "execution_mode": ("sequential",), "arena": (True,)},
}
"""Provider to the values that are tried of some knobs; ``cpu`` is only for trying this script."""


class OutOfTime(Exception):
    """The minutes of this call are over."""


def build(path: Path, side: int, layers: int) -> None:
    """Write the model: float32 [N, 3, side, side] to [N, 64]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(SEED)
    nodes, weights, value, channels = [], [], "image", 3
    for layer in range(layers + 1):
        kernel = rng.standard_normal((CHANNELS, channels, 3, 3), np.float32) * math.sqrt(2 / (channels * 9))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(CHANNELS, np.float32), f"b{layer}"))
        inputs = [value, f"w{layer}", f"b{layer}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{layer}"], f"conv{layer}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        value, channels = f"r{layer}", CHANNELS
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"], "pool"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], "flatten"))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", CHANNELS])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


class Bench:
    """One run of this script.

    Args:
        folder: where everything is kept.
        deadline: when this call has to end, on the monotonic clock.
    """

    def __init__(self, folder: Path, provider: str, deadline: float, rules: Rules, side: int, layers: int):
        self.folder = folder
        self.deadline = deadline
        self.provider = provider
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / "convolutions.onnx"
        if not model.exists():
            build(model, side, layers)
        self.target = registry.load("onnxruntime")
        # Without fixed device buffers a process's luck with its host pages outweighs every knob.
        session: dict[str, Setting] = {"provider": provider, "io_binding": True} if provider != "cpu" else {}
        options = ConversionOptions(precision="float32", seed=SEED)
        self.source = Source(model, {"image": (1, 3, side, side)}, 1, options)
        offered = self.target.knobs(
            Circumstances(2, 1, "float32", ("float32", "float16"), model.stat().st_size, session)
        )
        self.space: Space = make_space(offered, ASKED[provider], {})
        samples = make_samples(self.source)
        self.measurements = LocalMeasurements(
            self.target,
            self.space,
            Conversions(self.target, self.source, self.space, folder, lambda step: None),
            self.source,
            samples,
            session,
            rules,
        )

    def check_time(self) -> None:
        """Stop between two races."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    # the parts, each of which is done once and kept

    def kept(self, name: str, make: Any) -> Any:
        """The JSON value of a part: read where it was done before."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write(path, make())
        return json.loads(path.read_text(encoding="utf-8"))

    def default(self) -> dict[str, Any]:
        """The default alone."""
        found = self.measurements.reference(self.space.default)
        say(f"default: {found.latency_ms:.4f} ms ({found.low_ms:.4f} to {found.high_ms:.4f}) {found.note or ''}")
        return {
            "configuration": self.space.default,
            "latency_ms": found.latency_ms,
            "interval_ms": [found.low_ms, found.high_ms],
            "memory_bytes": found.memory_bytes,
            "note": found.note,
        }

    def floor(self) -> dict[str, Any]:
        """The A/A floor."""
        found = self.measurements.floor(lambda number, estimate: say(f"A/A pair {number}: {estimate.ratio:.4f}"))
        say(f"A/A floor: {found.value:.2%}")
        return {"value": found.value, "ratios": list(found.ratios)}

    def floor_of(self, point: Mapping[str, Setting]) -> dict[str, Any]:
        """The A/A floor of one configuration, in fresh processes."""
        self.check_time()
        self.measurements.close()
        found = measure_floor(lambda: self.measurements._open(point), rules=replace(CONFIRMATION, budget_s=4.0))
        say(f"A/A floor of {short(point)}: {found.value:.2%}, pairs {[round(ratio, 4) for ratio in found.ratios]}")
        return {"value": found.value, "ratios": list(found.ratios)}

    def table(self, reference_ms: float) -> list[dict[str, Any]]:
        """Every configuration against the default."""
        path = self.folder / "table.jsonl"
        rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):
                    row = json.loads(line)
                    rows[row["key"]] = row
        points = self.space.points
        assert points is not None
        order = np.random.default_rng(SEED).permutation(len(points))
        with path.open("a", encoding="utf-8") as file:
            for place, position in enumerate(order):
                point = points[position]
                if key_of(point) in rows:
                    continue
                self.check_time()
                row = self.row(point, reference_ms)
                rows[row["key"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
                say(f"{place + 1}/{len(points)} {short(point)}: {row.get('failed') or brief(row)}")
        return [rows[key_of(point)] for point in points]

    def row(self, point: Mapping[str, Setting], reference_ms: float) -> dict[str, Any]:
        """One race to its end."""
        row: dict[str, Any] = {"key": key_of(point), "configuration": dict(point)}
        began = time.monotonic()
        try:
            with self.measurements.race(point) as race:
                standing = race.step()
                while not standing.settled:
                    standing = race.step()
                row["memory_bytes"] = race.memory_bytes
        except TrialFailed as error:
            return {**row, "failed": f"{error.kind}: {error.reason}"}
        values, intervals = timed(point, *(reference_ms * x for x in (standing.ratio, standing.low, standing.high)))
        row.update(values=values, intervals=intervals, blocks=standing.blocks, unstable=standing.unstable)
        row.update(failed=None, seconds=round(time.monotonic() - began, 3))
        return row

    def study(self, name: str, goals: Goals, trials: int, floor: float) -> dict[str, Any]:
        """A study as `edgec tune` runs it, and its confirmed winner."""
        folder = self.folder / name
        with Journal(folder) as journal:
            if not journal.entries:
                journal.append({"kind": "study", "schema": SCHEMA, "knobs": self.space.describe()})
            mirror = Mirror(folder, None, name, self.space, goals, {})
            search = Search(
                self.space, goals, self.measurements, journal, mirror, seed=SEED, watch=lambda t: watch(name, t)
            )
            while len(search.trials) < trials:
                self.check_time()
                if search.run(Budget(trials=len(search.trials) + 1)) == "exhausted":
                    break
            if search.trials:
                self.measurements.pin(self.space.default)
            self.check_time()
            found = confirm(search.trials, goals, self.measurements, floor)
        winner = None
        if found.trial is not None:
            say(f"{name}: winner trial {found.trial.number} {short(found.trial.configuration)}")
            winner = {"number": found.trial.number, "configuration": dict(found.trial.configuration)}
        return {
            "goals": goals.to_json(),
            "trials": [trial.to_json() | {"samples_ms": []} for trial in search.trials],
            "winner": winner,
            "values": dict(found.values),
            "gain": None if found.gain is None else found.gain.to_json(),
            "notes": list(found.notes),
        }

    def face_to_face(self, first: Mapping[str, Setting], second: Mapping[str, Setting], floor: float) -> dict[str, Any]:
        """Two configurations against each other, per sample: the first is the incumbent."""
        if key_of(first) == key_of(second):
            return {"same": True, "within_floor": True}
        self.check_time()
        self.measurements.close()
        batches = [int(point.get("batch") or 1) for point in (first, second)]
        with self.measurements._open(first) as one, self.measurements._open(second) as two:
            estimate = Duel(one, two, replace(CONFIRMATION, floor=floor), scale=batches[0] / batches[1]).run()
        within = abs(math.log(estimate.ratio)) <= math.log1p(floor) or estimate.low <= 1 <= estimate.high
        return {"same": False, "estimate": estimate.to_json(), "within_floor": bool(within)}


def best_of(rows: list[dict[str, Any]], goals: Goals) -> dict[str, Any]:
    """The best row within the limits."""
    working = [row for row in rows if row["failed"] is None and goals.is_feasible(row["values"])]
    return min(working, key=lambda row: goals.costs(row["values"]))


def watch(name: str, trial: Trial) -> None:
    """One line per finished trial."""
    if trial.state.value != "running":
        value = f"{trial.values[LATENCY]:.4f} ms" if LATENCY in trial.values else ""
        text = f"{trial.state.value} {value} {trial.reason or ''}"
        say(f"{name} trial {trial.number} {short(trial.configuration)}: {text}")


def short(point: Mapping[str, Setting]) -> str:
    """``batch=8 cuda_graph=true``."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in point.items())


def brief(row: Mapping[str, Any]) -> str:
    """Latency and throughput of a row."""
    return f"{row['values'][LATENCY]:.4f} ms, {row['values'][THROUGHPUT]:.0f}/s, {row['blocks']} blocks"


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


def write(path: Path, value: Any) -> None:
    """Write JSON so that it is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def gpu() -> str | None:
    """Name, driver and memory of the first GPU, as nvidia-smi says them."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is kept, and gone on with")
    parser.add_argument("--result", type=Path, help="the JSON at the end; FOLDER/tuning-cuda.json by default")
    parser.add_argument("--minutes", type=float, default=60.0, help="end this call after so long, between two races")
    parser.add_argument("--provider", choices=sorted(ASKED), default="cuda")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--seconds", type=float, default=3.0, help="budget of one race")
    options = parser.parse_args()
    deadline = time.monotonic() + options.minutes * 60
    rules = Rules()
    rules = replace(rules, duel=replace(rules.duel, budget_s=options.seconds))
    bench = Bench(options.folder, options.provider, deadline, rules, options.side, options.layers)
    points = bench.space.points
    assert points is not None
    say(f"{len(points)} configurations; {gpu()}")
    try:
        default = bench.kept("default", bench.default)
        bench.measurements.pin(bench.space.default)
        floor = bench.kept("floor", bench.floor)
        rows = bench.kept("table", lambda: bench.table(default["latency_ms"]))
        trials = max(8, len(points) // 3)
        studies = {}
        fastest = best_of(rows, Goals(("throughput",)))
        lowest = best_of(rows, Goals(("latency",)))
        middle = math.sqrt(lowest["values"][LATENCY] * fastest["values"][LATENCY])
        limit = round(max(middle, 1.2 * lowest["values"][LATENCY]), 4)
        for name, goals in {
            "throughput": Goals(("throughput",)),
            "throughput-limited": Goals(("throughput",), {"latency": limit}),
            "latency": Goals(("latency",)),
        }.items():
            study = bench.kept(f"study-{name}", lambda n=name, g=goals: bench.study(n, g, trials, floor["value"]))
            best = best_of(rows, goals)["configuration"]
            if study["winner"] is None:
                say(f"{name}: no winner: {study['notes']}")
                studies[name] = {**study, "table_best": best, "face_to_face": {"within_floor": False}}
                continue
            winner = study["winner"]["configuration"]
            own = bench.kept(f"floor-{name}", lambda b=best: bench.floor_of(b))
            face = bench.kept(f"face-{name}", lambda w=winner, b=best, f=own: bench.face_to_face(b, w, f["value"]))
            say(f"{name}: table's best {short(best)}; study's winner {short(winner)}; {json.dumps(face)}")
            studies[name] = {**study, "table_best": best, "floor_of_best": own, "face_to_face": face}
    except OutOfTime:
        say("out of time: give the same command again, it goes on")
        return 75
    finally:
        bench.measurements.close()
    document = {
        "benchmark": "tuning_cuda",
        "gpu": gpu(),
        "machine": machine(),
        "configurations": len(points),
        "trials_per_study": trials,
        "default": default,
        "floor": floor,
        "table": rows,
        "studies": studies,
    }
    result = options.result or options.folder / "tuning-cuda.json"
    write(result, document)
    verdicts = {name: study["face_to_face"]["within_floor"] for name, study in studies.items()}
    say(f"done: {result}; winner equals the table's best within the A/A floor: {verdicts}")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
