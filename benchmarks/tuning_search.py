"""How many measurements a search needs: edgec's against random search and plain Optuna TPE, on recorded tables.

    python -m benchmarks.tuning_search            # reads benchmarks/results/tuning-tables/*.json

A table (benchmarks/tuning_tables.py) holds several repeats of every configuration.  For every seed the repeats are
split in two halves at random: the search sees the median of one half, and is judged by the median of the other: the
regret is how much slower the configuration is that it would choose (the best it has seen) than the best of the table.
A search is done with the first measurement after which the regret is within max(3 %, the table's split-half p90), the
90th percentile over the configurations of how far the two halves are apart.

Counted are measurements.  TPE, as Optuna is used, measures what it proposes, again and again the same; `tpe-distinct`
does not count those.  Tables on which random search needs fewer than 8 measurements (median) decide nothing and are
listed only.  The rules of the issue: at most half of the better of random and TPE (median), and never worse at the 90th
percentile.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.tuning_tables import RESULTS, space_of
from edgec.targets.knobs import Configuration
from edgec.tuner.goals import Goals
from edgec.tuner.proposing import propose
from edgec.tuner.samplers import distributions
from edgec.tuner.search import timed
from edgec.tuner.space import Space, key_of
from edgec.tuner.trials import State, Trial

OUTPUT = RESULTS.parent / "tuning-search.json"
TOLERANCE = 0.03
CAP = 150
"""Measurements after which a search is given up and counted as so many."""


@dataclass(frozen=True)
class Table:
    """A recorded table, one half of it to search on and one to judge by.

    Attributes:
        seen, judged: key to milliseconds of one sample (throughput) or one run (latency).
        failed: keys that have no time.
    """

    space: Space
    goals: Goals
    seen: Mapping[str, float]
    judged: Mapping[str, float]
    failed: frozenset[str]
    tolerance: float

    def regret(self, key: str) -> float:
        """How much slower a configuration is than the best, by the other half."""
        return self.judged[key] / min(self.judged.values()) - 1


Method = Callable[[Table, int], list[str]]
"""The keys that a search measures, in order, for a seed; at most CAP."""


def load(document: Mapping[str, Any], seed: int) -> Table:
    """A random split of a table's repeats."""
    space = space_of(document["model"], document["target"])
    objective = document["objective"]
    rng = np.random.default_rng([seed, 7])
    seen, judged, failed = {}, {}, set()
    for key, row in document["rows"].items():
        if row["failed"] is not None or not row["ms"]:
            failed.add(key)
            continue
        scale = 1.0 / row["configuration"]["batch"] if objective == "throughput" else 1.0
        order = rng.permutation(len(row["ms"]))
        half = len(order) // 2
        values = np.array(row["ms"])[order] * scale
        seen[key], judged[key] = float(np.median(values[:half])), float(np.median(values[half:]))
    apart = [abs(math.log(seen[key] / judged[key])) for key in seen]
    tolerance = max(TOLERANCE, math.expm1(float(np.quantile(apart, 0.9))))
    return Table(space, Goals((objective,)), seen, judged, frozenset(failed), tolerance)


def measurements_until(table: Table, keys: Sequence[str]) -> int:
    """After how many measurements the search would choose something good enough; CAP where it does not."""
    best: str | None = None
    for count, key in enumerate(keys, 1):
        if key not in table.failed and (best is None or table.seen[key] < table.seen[best]):
            best = key
        if best is not None and table.regret(best) <= table.tolerance:
            return count
    return CAP


def ours(table: Table, seed: int, hints: bool = True) -> list[str]:
    """The surrogate, from the default on."""
    space = (
        table.space
        if hints
        else replace(table.space, knobs=tuple(replace(k, hints={}, overheads={}) for k in table.space.knobs))
    )
    trials: list[Trial] = []
    while len(trials) < CAP:
        point = propose(space, table.goals, trials, seed)
        if point is None:
            break
        trials.append(told(table, len(trials), point))
        if good(table, trials[-1]):
            break
    return [key_of(trial.configuration) for trial in trials]


def told(table: Table, number: int, point: Configuration) -> Trial:
    """The trial that the coordinator would have made of a row."""
    key = key_of(point)
    if key in table.failed:
        failure = ("wrong", table.space.conversion(point))
        return Trial(number, State.FAILED, point, failure=failure, reason="recorded as failed")
    batch = int(point["batch"] or 1) if table.goals.objectives == ("throughput",) else 1
    milliseconds = table.seen[key] * batch
    values, intervals = timed(point, milliseconds, milliseconds * 0.99, milliseconds * 1.01)
    return Trial(number, State.COMPLETE, point, values, intervals)


def good(table: Table, trial: Trial) -> bool:
    """Whether a search may stop here, to save time: nothing that follows is counted."""
    key = key_of(trial.configuration)
    return key not in table.failed and table.regret(key) <= table.tolerance and is_lowest(table, key)


def is_lowest(table: Table, key: str) -> bool:
    """Whether the row is so good that no later one is sure to replace it."""
    return table.seen[key] <= min(table.seen.values()) * 1.0000001


def randomly(table: Table, seed: int) -> list[str]:
    """All configurations in random order: random search without duplicates."""
    points = table.space.points
    assert points is not None
    order = np.random.default_rng([seed, 11]).permutation(len(points))
    return [key_of(points[position]) for position in order[:CAP]]


def tpe(table: Table, seed: int, distinct: bool = False) -> list[str]:
    """Optuna's default sampler as its documentation uses it; a failed trial is told as failed."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    found: list[str] = []
    known: set[str] = set()
    asked = 0
    while len(found) < CAP and asked < 6 * CAP:
        trial = study.ask(distributions(table.space))
        asked += 1
        point = table.space.canonical(trial.params)
        key = key_of(point)
        possible = key in table.seen
        study.tell(trial, table.seen[key] if possible else None, None if possible else optuna.trial.TrialState.FAIL)
        if table.space.why_impossible(point) is not None or (distinct and key in known):
            continue
        known.add(key)
        found.append(key)
        if possible and is_lowest(table, key):
            break
    return found


METHODS: dict[str, Method] = {
    "edgec": ours,
    "edgec-without-hints": lambda table, seed: ours(table, seed, hints=False),
    "random": randomly,
    "tpe": tpe,
    "tpe-distinct": lambda table, seed: tpe(table, seed, distinct=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results = []
    for path in sorted(options.tables.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        counts: dict[str, list[int]] = {name: [] for name in METHODS}
        tolerances, began = [], time.process_time()
        for seed in range(options.seeds):
            table = load(document, seed)
            tolerances.append(table.tolerance)
            for name, method in METHODS.items():
                counts[name].append(measurements_until(table, method(table, seed)))
        summary = {
            name: {"median": float(np.median(found)), "p90": float(np.quantile(found, 0.9)), "counts": found}
            for name, found in counts.items()
        }
        better = min(summary["random"]["median"], summary["tpe"]["median"])
        better_p90 = min(summary["random"]["p90"], summary["tpe"]["p90"])
        decides = summary["random"]["median"] >= 8
        entry = {
            "table": path.stem,
            "objective": document["objective"],
            "configurations": len(document["rows"]),
            "failed": sum(row["failed"] is not None for row in document["rows"].values()),
            "repeats": min(len(row["ms"]) for row in document["rows"].values() if row["failed"] is None),
            "tolerance": float(np.median(tolerances)),
            "decides": decides,
            "ratio": summary["edgec"]["median"] / better,
            "passes": summary["edgec"]["median"] <= better / 2 and summary["edgec"]["p90"] <= better_p90,
            "methods": summary,
        }
        results.append(entry)
        line = "  ".join(f"{name} {item['median']:g} ({item['p90']:g})" for name, item in summary.items())
        print(
            f"{path.stem:28} {entry['configurations']:4} tolerance {entry['tolerance']:.1%} "
            f"{'decides' if decides else 'too easy'} {'ok ' if entry['passes'] else 'NO '} {line} "
            f"[{time.process_time() - began:.0f} s]",
            flush=True,
        )
    options.output.write_text(json.dumps({"seeds": options.seeds, "cap": CAP, "tables": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
