"""Tune ONNX Runtime on an NVIDIA GPU, and compare studies with the exhaustive table of the same space.

    python -m benchmarks.tuning_cuda FOLDER --minutes 9          # again and again until it says that it is done

Needs onnxruntime-gpu, onnx, optuna (with SQLAlchemy), numpy and click; LiteRT is not needed.  The model, a stem, eight
3x3 convolutions of 64 channels on 56x56 and a mean, is built here.  The space: batch x precision x device memory limit
x arena strategy x CUDA graph, with inputs and outputs at fixed places on the device.

1. The default is measured alone, and the device's A/A floor.
2. Every configuration is raced against the default with a CUDA graph, which does not wait for the host, until its
   interval is narrow: the exhaustive table.
3. For every goal and seed a study of a third of that many trials runs as `edgec tune` runs it.
4. The study's winner and the table's best are raced against each other in several pairs of fresh processes, and the
   table's best against itself: two configurations are equal within that A/A floor.

The limit of the limited goal lies in the widest gap between the table's latencies, so that it is clear who keeps it.
Every finished race is on the disk at once (FOLDER/*.jsonl), and the same command goes on where it was stopped.  At the
end FOLDER/tuning-cuda.json (or --result) holds everything.
"""

from __future__ import annotations

import argparse
import itertools
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
from edgec.runtime.measurement import Floor, measure_floor
from edgec.targets import registry
from edgec.targets.knobs import Circumstances, Setting
from edgec.tuner.confirming import confirm
from edgec.tuner.conversions import Conversions, Source
from edgec.tuner.goals import LATENCY, THROUGHPUT, Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.measuring import LocalMeasurements, Rules
from edgec.tuner.samples import make_samples
from edgec.tuner.search import Budget, Search, timed
from edgec.tuner.space import Space, key_of, make_space
from edgec.tuner.storage import Mirror
from edgec.tuner.trials import Trial, TrialFailed

SEED = 1
CHANNELS, SIDE, LAYERS = 64, 56, 8
ASKED: dict[str, dict[str, tuple[Setting, ...]]] = {
    "cuda": {"batch": (1, 8, 32), "device_limit": (256 << 20, 1024 << 20, None), "io_binding": (True,)},
    "cpu": {"batch": (1, 2), "optimise": ("basic", "all"), "execution_mode": ("sequential",), "arena": (True,)},
}
"""Provider to the values that are tried of some knobs; ``cpu`` is only for trying this script."""
PAIRS = 4
"""Pairs of fresh processes in which a study's winner meets the table's best."""
GOALS = {"throughput": ("throughput",), "throughput-limited": ("throughput",), "latency": ("latency",)}


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
        session: dict[str, Setting] = {"provider": provider} if provider != "cpu" else {}
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

    def alone(self, point: Mapping[str, Setting]) -> dict[str, Any]:
        """A configuration alone; races are run against it from now on."""
        found = self.measurements.reference(point)
        say(f"{short(point)}: {found.latency_ms:.4f} ms ({found.low_ms:.4f} to {found.high_ms:.4f}) {found.note or ''}")
        return {
            "configuration": dict(point),
            "latency_ms": found.latency_ms,
            "interval_ms": [found.low_ms, found.high_ms],
            "memory_bytes": found.memory_bytes,
            **found.extra,
            "note": found.note,
        }

    @property
    def yardstick(self) -> dict[str, Setting]:
        """What the table is raced against: the default, with a CUDA graph where there is one."""
        graph = {"cuda_graph": True} if "cuda_graph" in self.space.default else {}
        return self.space.canonical({**self.space.default, **graph})

    def floor(self, point: Mapping[str, Setting]) -> dict[str, Any]:
        """The A/A floor of a configuration, in fresh processes."""
        self.check_time()
        found = self.measurements.floor(point, keep=False)
        return self.floor_found(point, found)

    def free_floor(self, point: Mapping[str, Setting]) -> dict[str, Any]:
        """The same where both processes run on whatever processor they are put on."""
        self.check_time()
        self.measurements.close()
        found = measure_floor(lambda: self.measurements.open(point), rules=self.measurements.rules.duel)
        return self.floor_found(point, found)

    def floor_found(self, point: Mapping[str, Setting], found: Floor) -> dict[str, Any]:
        """As JSON."""
        say(f"A/A floor of {short(point)}: {found.value:.2%}, pairs {[round(ratio, 4) for ratio in found.ratios]}")
        return {"value": found.value, "ratios": list(found.ratios)}

    def table(self, reference_ms: float) -> list[dict[str, Any]]:
        """Every configuration against the yardstick, of which one run takes so long."""
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
                row.update(race.extra)
        except TrialFailed as error:
            return {**row, "failed": f"{error.kind}: {error.reason}"}
        values, intervals = timed(point, *(reference_ms * x for x in (standing.ratio, standing.low, standing.high)))
        row.update(values=values, intervals=intervals, blocks=standing.blocks, unstable=standing.unstable)
        row.update(failed=None, seconds=round(time.monotonic() - began, 3))
        return row

    def study(self, name: str, goals: Goals, seed: int, trials: int, floor: float) -> dict[str, Any]:
        """A study as `edgec tune` runs it, and its confirmed winner."""
        folder = self.folder / name
        with Journal(folder) as journal:
            if not journal.entries:
                journal.append({"kind": "study", "schema": SCHEMA, "knobs": self.space.describe()})
            mirror = Mirror(folder, None, name, self.space, goals, {})
            search = Search(
                self.space, goals, self.measurements, journal, mirror, seed=seed, watch=lambda t: watch(name, t)
            )
            while len(search.trials) < trials:
                self.check_time()
                if search.run(Budget(trials=len(search.trials) + 1)) == "exhausted":
                    break
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

    def face_to_face(self, best: Mapping[str, Setting], winner: Mapping[str, Setting], floor: float) -> dict[str, Any]:
        """The winner against the table's best, time per sample, in pairs of fresh processes."""
        if key_of(best) == key_of(winner):
            return {"same": True, "verdict": "the same configuration"}
        scale = float(best.get("batch") or 1) / float(winner.get("batch") or 1)
        pairs = []
        for _ in range(PAIRS):
            self.check_time()
            with self.measurements.race(winner, against=best) as race:
                standing = race.step()
                while not standing.settled:
                    standing = race.step()
            pairs.append({"ratio": standing.ratio * scale, "interval": [standing.low * scale, standing.high * scale]})
        ratio = math.exp(sum(math.log(pair["ratio"]) for pair in pairs) / len(pairs))
        verdict = "equal" if abs(math.log(ratio)) <= math.log1p(floor) else "study's" if ratio < 1 else "table's"
        return {"same": False, "ratio": ratio, "pairs": pairs, "verdict": verdict}


def gap(latencies: list[float], low: float, high: float) -> float:
    """The middle of the widest gap between latencies from `low` to `high`, milliseconds."""
    inside = sorted(value for value in latencies if low <= value <= high)
    wide = max(itertools.pairwise(inside), key=lambda pair: pair[1] / pair[0], default=(low, high))
    return round(math.sqrt(wide[0] * wide[1]), 4)


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
    parser.add_argument("--seconds", type=float, default=2.0, help="budget of one race")
    parser.add_argument("--seeds", type=int, default=2, help="so many studies per goal")
    parser.add_argument("--free", action="store_true", help="the default's A/A floor on free processors, too")
    options = parser.parse_args()
    deadline = time.monotonic() + options.minutes * 60
    rules = Rules()
    rules = replace(rules, duel=replace(rules.duel, budget_s=options.seconds))
    bench = Bench(options.folder, options.provider, deadline, rules, options.side, options.layers)
    points = bench.space.points
    assert points is not None
    say(f"{len(points)} configurations; {gpu()}")
    trials = max(8, len(points) // 3)
    studies: dict[str, Any] = {}
    over = False
    try:
        default = bench.kept("default", lambda: bench.alone(bench.space.default))
        floors = {"default": bench.kept("floor", lambda: bench.floor(bench.space.default))}
        if options.free:
            floors["default, free processors"] = bench.kept("floor-free", lambda: bench.free_floor(bench.space.default))
        yardstick = bench.kept("yardstick", lambda: bench.alone(bench.yardstick))
        bench.measurements.pin(bench.yardstick)
        rows = bench.kept("table", lambda: bench.table(yardstick["latency_ms"]))
        lowest, fastest = (best_of(rows, Goals((name,)))["values"][LATENCY] for name in ("latency", "throughput"))
        latencies = [row["values"][LATENCY] for row in rows if row["failed"] is None]
        limits = {"throughput-limited": {"latency": gap(latencies, 1.2 * lowest, fastest)}}
        for seed in range(1, options.seeds + 1):
            for goal, objectives in GOALS.items():
                goals = Goals(objectives, limits.get(goal))
                best = best_of(rows, goals)["configuration"]
                own = bench.kept(f"floor-{key_of(best)}", lambda b=best: bench.floor(b))
                floors[short(best)] = own
                name = f"{goal}-{seed}"
                study = bench.kept(
                    f"study-{name}",
                    lambda n=name, g=goals, s=seed: bench.study(n, g, s, trials, floors["default"]["value"]),
                )
                study = {**study, "seed": seed, "table_best": best, "floor_of_best": own}
                if study["winner"] is None:
                    say(f"{name}: no winner: {study['notes']}")
                    studies[name] = {**study, "face_to_face": {"verdict": "no winner"}}
                    continue
                winner = study["winner"]["configuration"]
                face = bench.kept(f"face-{name}", lambda w=winner, b=best, f=own: bench.face_to_face(b, w, f["value"]))
                say(f"{name}: table's best {short(best)}; study's winner {short(winner)}; {json.dumps(face)}")
                row = next(row for row in rows if row["key"] == key_of(winner))
                if not goals.is_feasible(row["values"]):
                    face = {**face, "verdict": "over the limit"}
                studies[name] = {**study, "face_to_face": face}
    except OutOfTime:
        say("out of time: give the same command again, it goes on")
        if not studies:
            return 75
        over = True
    finally:
        bench.measurements.close()
    document = {
        "benchmark": "tuning_cuda",
        "gpu": gpu(),
        "machine": machine(),
        "configurations": len(points),
        "trials_per_study": trials,
        "default": default,
        "floors": floors,
        "yardstick": yardstick,
        "table": rows,
        "studies": studies,
    }
    result = options.result or options.folder / "tuning-cuda.json"
    write(result, document)
    verdicts = {name: study["face_to_face"]["verdict"] for name, study in studies.items()}
    say(f"done: {result}; the study's winner against the table's best: {verdicts}")
    if over:
        return 75
    return 1 if {"table's", "no winner", "over the limit"} & set(verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
