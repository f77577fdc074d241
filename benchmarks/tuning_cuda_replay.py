"""Studies of today's search on the exhaustive tables that were recorded on an NVIDIA GPU; needs no GPU.

    python -m benchmarks.tuning_cuda_replay [--seeds 20] [--output FILE]

benchmarks/results/tuning-cuda-h200.json holds every configuration of a space raced on a real device
(benchmarks/tuning_cuda.py).  A race is played from a row: blocks around the recorded time, as far apart as the recorded
interval and number of blocks say.  Search, racing and confirmation are those of `edgec tune`.  A study is right when
its winner keeps the limits in the table and is not slower there than the table's best by more than the recorded A/A
floor of that best.  What a replay leaves out is how the host wavers between two trials: that the device itself showed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tuning_cuda import GOALS, LAYERS, SIDE, Bench, best_of, gap, short, write
from edgec.tuner.confirming import confirm
from edgec.tuner.goals import LATENCY, Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.measuring import Rules
from edgec.tuner.replay import Replay
from edgec.tuner.search import Budget, Search
from edgec.tuner.space import Space, key_of

RESULTS = Path(__file__).parent / "results"
RECORDED = RESULTS / "tuning-cuda-h200.json"
BLOCKS = 40
MEDIAN_ERROR = 1.2533  # of the median of n normal values, in sigma / sqrt(n)
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Study:
    """One replayed study.

    Attributes:
        regret: the winner's recorded cost over the best one's, minus 1.
        floor: the A/A floor of the best, as recorded.
        within: whether it keeps the limits in the table.
    """

    goal: str
    seed: int
    winner: str
    regret: float
    floor: float
    within: bool

    @property
    def right(self) -> bool:
        """Within the limits, and no slower than the best by more than its floor."""
        return self.within and self.regret <= self.floor


def played(rows: list[dict[str, Any]], seed: int) -> Replay:
    """The table as races, milliseconds of blocks; another seed, other blocks."""
    rng = np.random.default_rng([seed, 13])
    times, memory = {}, {}
    for row in rows:
        low, high = row["intervals"][LATENCY]
        middle = row["values"][LATENCY]
        half = (high - low) / 2 / middle
        sigma = half * math.sqrt(row["blocks"]) / (MEDIAN_ERROR * NORMAL_95)
        times[row["key"]] = [float(x) for x in middle * np.exp(sigma * rng.standard_normal(BLOCKS))]
        memory[row["key"]] = row["memory_bytes"]
    return Replay(times, memory=memory)


def studies(run: Mapping[str, Any], space: Space, seeds: int) -> Iterator[Study]:
    """Studies of every goal on a recorded run."""
    rows = run["table"]
    by_key = {row["key"]: row for row in rows}
    lowest, fastest = (best_of(rows, Goals((name,)))["values"][LATENCY] for name in ("latency", "throughput"))
    limits = {"throughput-limited": {"latency": gap([row["values"][LATENCY] for row in rows], 1.2 * lowest, fastest)}}
    for goal, objectives in GOALS.items():
        goals = Goals(objectives, limits.get(goal))
        best = best_of(rows, goals)
        floor = float(run["floors"][short(best["configuration"])]["value"])
        for seed in range(1, seeds + 1):
            found = winner(played(rows, seed), space, goals, seed, run["trials_per_study"], default_floor(run))
            row = by_key[key_of(found)]
            regret = math.expm1(goals.costs(row["values"])[0] - goals.costs(best["values"])[0])
            yield Study(goal, seed, short(found), regret, floor, goals.is_feasible(row["values"]))


def default_floor(run: Mapping[str, Any]) -> float:
    """What a study took for the device's A/A floor."""
    return float(run["floors"]["default"]["value"])


def winner(measurements: Replay, space: Space, goals: Goals, seed: int, trials: int, floor: float) -> dict[str, Any]:
    """The configuration that a study ends with."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "study") as journal:
        journal.append({"kind": "study", "schema": SCHEMA, "knobs": space.describe()})
        search = Search(space, goals, measurements, journal, seed=seed)
        search.run(Budget(trials=trials))
        found = confirm(search.trials, goals, measurements, floor)
    if found.trial is None:
        raise SystemExit(f"no winner: {found.notes}")
    return dict(found.trial.configuration)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS / "tuning-cuda-replay.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "cuda", time.monotonic() + 3600, Rules(), SIDE, LAYERS)
        space = bench.space
        bench.measurements.close()
    document: dict[str, Any] = {"recorded": options.recorded.name, "seeds": options.seeds, "runs": []}
    wrong = 0
    for number, run in enumerate(json.loads(options.recorded.read_text(encoding="utf-8"))["runs"], 1):
        found = list(studies(run, space, options.seeds))
        for goal in GOALS:
            of_goal = [study for study in found if study.goal == goal]
            right = sum(study.right for study in of_goal)
            worst = max(of_goal, key=lambda study: study.regret)
            print(
                f"run {number} {goal:20} right {right}/{len(of_goal)}  over the limit "
                f"{sum(not study.within for study in of_goal)}  worst regret {worst.regret:.2%} "
                f"(floor {worst.floor:.2%}) {worst.winner}",
                flush=True,
            )
            wrong += len(of_goal) - right
        document["runs"].append([vars(study) | {"right": study.right} for study in found])
    write(options.output, document)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
