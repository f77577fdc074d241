"""How far the measurement can be trusted: gains between equals, and how small a real gain is found.

    python benchmarks/measurement.py --work FOLDER [--equals 50] [--slowed 15] [--results benchmarks/results]

Every comparison opens two processes anew.  `--equals` comparisons per case are of a configuration with itself: whoever
reports a gain there is wrong.  `--slowed` per case and size are of a session that is slowed by a known part with the
plain one.  The same two processes are compared by edgec's duel and, for as many seconds each, by the two usual ways: a
block of A and then a block of B, and single runs interleaved A B B A, each judged by mean, median and lower quartile.
Do not quieten the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import catalogue
from benchmarks.measure.machine import describe
from edgec.runtime.measurement import Duel, DuelRules, Floor, Subject, measure_floor, open_subject

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("mnist-conv", "ppocr-cls")
SLOWDOWNS = (0.015, 0.03, 0.05, 0.10)
CLAIM = 0.01
"""A naive protocol claims a gain when it sees more than this."""


@dataclass(frozen=True)
class Case:
    """A model on a runtime."""

    name: str
    factory: str
    path: Path
    feeds: dict[str, Any]

    def open(self, slowed: float = 0.0, **options: Any) -> Subject:
        """The subject in a new process."""
        if slowed:
            options |= {"factory": self.factory, "fraction": slowed}
            return open_subject("benchmarks.slowed:open_session", self.path, options, self.feeds)
        return open_subject(self.factory, self.path, options, self.feeds)


def cases(work: Path) -> Iterator[Case]:
    """Both models on ONNX Runtime and on LiteRT."""
    import edgec

    for name in MODELS:
        model = catalogue.load(name, work)
        static = catalogue.static_copy(model, work)
        for target in ("onnxruntime", "tflite"):
            result = edgec.convert(static, target=target, output=work / f"{name}-{target}")
            spec = _spec(target, result.artifact)
            with open_subject(spec, result.artifact, {}, {}) as subject:
                shapes = {item.name: (item.shape, item.dtype) for item in subject.inputs}
            random = np.random.default_rng(0)
            feeds = {key: random.random(shape).astype(dtype) for key, (shape, dtype) in shapes.items()}
            yield Case(f"{name} {target}", spec, result.artifact, feeds)


def _spec(target: str, artifact: Path) -> str:
    from edgec.targets import registry

    return registry.load(target).session(artifact).factory


def compare(case: Case, rules: DuelRules, slowed: float = 0.0, **options: Any) -> dict[str, Any]:
    """One comparison by all protocols; ratios are candidate / incumbent."""
    began = time.perf_counter()
    with case.open(slowed) as incumbent, case.open(**options) as candidate:
        estimate = Duel(incumbent, candidate, rules).run()
        total = time.perf_counter() - began
        seconds = estimate.seconds
        first, second = _block(incumbent, seconds / 2), _block(candidate, seconds / 2)
        one, two = _interleaved(incumbent, candidate, seconds)
    return {
        "ratio": round(estimate.ratio, 5),
        "interval": [round(estimate.low, 5), round(estimate.high, 5)],
        "status": str(estimate.status),
        "verdict": str(estimate.verdict),
        "blocks": estimate.blocks,
        "seconds": round(seconds, 3),
        "total_seconds": round(total, 3),
        "block then block": _ratios(first, second),
        "interleaved single runs": _ratios(one, two),
        "load": round(os.getloadavg()[0], 2),
    }


def _block(subject: Subject, seconds: float) -> list[float]:
    found: list[float] = []
    count = max(1, round(0.05 / subject.latency_s))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found += subject.time(count)
    return found


def _interleaved(first: Subject, second: Subject, seconds: float) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for which in (0, 1, 1, 0):
            found[which].extend((first, second)[which].time(1))
    return found


def _ratios(first: list[float], second: list[float]) -> dict[str, float]:
    a, b = np.asarray(first), np.asarray(second)
    return {
        "mean": round(float(b.mean() / a.mean()), 5),
        "median": round(float(np.median(b) / np.median(a)), 5),
        "lower quartile": round(float(np.quantile(b, 0.25) / np.quantile(a, 0.25)), 5),
    }


def main() -> None:
    """Measure, and write what came out after every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for models and artifacts")
    parser.add_argument("--equals", type=int, default=50, help="comparisons of equals per case")
    parser.add_argument("--slowed", type=int, default=15, help="comparisons per case and size of slowdown")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    machine = describe()
    found = list(cases(arguments.work.resolve()))
    floors: dict[str, Floor] = {case.name: measure_floor(case.open) for case in found}
    for name, floor in floors.items():
        print(f"{name}: floor {floor.value:.2%}", file=sys.stderr, flush=True)
    equals: dict[str, list[dict[str, Any]]] = {case.name: [] for case in found}
    slowed: dict[str, dict[str, list[dict[str, Any]]]] = {
        case.name: {f"{slowdown:g}": [] for slowdown in SLOWDOWNS} for case in found
    }
    threads: dict[str, list[dict[str, Any]]] = {case.name: [] for case in found}
    for number in range(max(arguments.equals, arguments.slowed)):
        for case in found:
            rules = DuelRules(floor=floors[case.name].value)
            if number < arguments.equals:
                equals[case.name].append(compare(case, rules))
            if number < arguments.slowed:
                for slowdown in SLOWDOWNS:
                    slowed[case.name][f"{slowdown:g}"].append(compare(case, rules, slowdown))
            if number < 5:
                threads[case.name].append(compare(case, rules, threads=2))
        document = {
            "machine": machine,
            "command": f"benchmarks/measurement.py --equals {arguments.equals} --slowed {arguments.slowed}",
            "floors": {name: {"value": round(f.value, 5), "ratios": list(f.ratios)} for name, f in floors.items()},
            "summary": summarize(equals, slowed),
            "threads 1 to 2": threads,
            "equals": equals,
            "slowed": slowed,
        }
        text = json.dumps(document, separators=(",", ":")).replace('{"ratio"', '\n{"ratio"')
        (arguments.results / "measurement.json").write_text(text + "\n")
        print(f"round {number + 1}: {json.dumps(document['summary']['equals'])}", file=sys.stderr, flush=True)


PROTOCOLS = tuple(
    (way, by) for way in ("block then block", "interleaved single runs") for by in ("mean", "median", "lower quartile")
)


def summarize(
    equals: dict[str, list[dict[str, Any]]], slowed: dict[str, dict[str, list[dict[str, Any]]]]
) -> dict[str, Any]:
    """Gains between equals, the 95th percentile of what each protocol sees there, and how often real gains are found.

    A naive protocol is given the best threshold that it could have: the 97.5th percentile of its own gains between
    equals, which makes it wrong as often as the duel may be.
    """
    rows = [row for case in equals.values() for row in case]
    faults = [row for row in rows if row["verdict"] == "candidate"]
    losses = [row for row in rows if row["verdict"] == "incumbent"]
    fakes = {"edgec": [abs(1 - row["ratio"]) for row in rows]}
    for way, by in PROTOCOLS:
        fakes[f"{way}, {by}"] = [abs(1 - row[way][by]) for row in rows]
    summary: dict[str, Any] = {
        "equals": {
            "comparisons": len(rows),
            "false wins": len(faults),
            "false losses": len(losses),
            "wide": sum(row["status"] == "wide" for row in rows),
            "unstable": sum(row["status"] == "unstable" for row in rows),
            "median seconds": round(float(np.median([row["seconds"] for row in rows])), 2) if rows else None,
            "median seconds with opening": round(float(np.median([row["total_seconds"] for row in rows])), 2),
            "loads": [min(row["load"] for row in rows), max(row["load"] for row in rows)],
        },
        "fake difference, 95th percentile": {key: round(float(np.quantile(v, 0.95)), 4) for key, v in fakes.items()},
        "claims of more than 1 % between equals": {
            f"{way}, {by}": round(float(np.mean([1 - row[way][by] > CLAIM for row in rows])), 4)
            for way, by in PROTOCOLS
        },
        "found": {},
    }
    thresholds = {(way, by): float(np.quantile([1 - row[way][by] for row in rows], 0.975)) for way, by in PROTOCOLS}
    for slowdown in SLOWDOWNS:
        mine = [row for case in slowed.values() for row in case[f"{slowdown:g}"]]
        if not mine:
            continue
        entry: dict[str, Any] = {
            "comparisons": len(mine),
            "edgec": round(float(np.mean([row["verdict"] == "candidate" for row in mine])), 3),
            "median seconds": round(float(np.median([row["seconds"] for row in mine])), 2),
            "median seconds with opening": round(float(np.median([row["total_seconds"] for row in mine])), 2),
            "error of the gain, 95th percentile": round(
                float(np.quantile([abs(row["ratio"] * (1 + slowdown) - 1) for row in mine], 0.95)), 4
            ),
        }
        for (way, by), threshold in thresholds.items():
            entry[f"{way}, {by}"] = round(float(np.mean([1 - row[way][by] > threshold for row in mine])), 3)
        summary["found"][f"slower by {slowdown:.1%}"] = entry
    return summary


if __name__ == "__main__":
    main()
