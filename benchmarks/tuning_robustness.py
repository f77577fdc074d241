"""Does the search rely on what is true of the recorded tables only?  The same tables, made untrue in five ways.

    python -m benchmarks.tuning_robustness [--seeds 20] [--tables FOLDER]

edgec's search starts from hints of the targets (two threads take about 0.6 of the time, ...).  Other models and
machines may not agree with them, so every table of benchmarks/tuning_search.py is played again

- `swapped`: the values of every knob changed places at random (what was one thread's time is two threads', ...), so
  that the hints are wrong at random;
- `inverted`: every time is its reciprocal, so that the best is the worst and every hint points the wrong way;
- `alien`: the times are a random sum of effects of knobs and of pairs of them, half of the knobs without any;
- `shuffled`: the times dealt out anew, so that nothing can be learnt from one configuration about another;
- `noisy`: every repeat off by 15 % more.

Counted is what benchmarks/tuning_search.py counts, for edgec's search and for random search, over seeds that each draw
their own perturbation.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tuning_search import METHODS, load, measurements_until
from benchmarks.tuning_tables import RESULTS, space_of
from edgec.targets.knobs import Setting
from edgec.tuner.space import Space, key_of

OUTPUT = RESULTS.parent / "tuning-robustness.json"
JUDGED = ("edgec", "edgec-without-hints", "random")

Rows = dict[str, Any]
Perturbation = Callable[[Space, Rows, np.random.Generator], Rows]


def swapped(space: Space, rows: Rows, rng: np.random.Generator) -> Rows:
    """Knobs that other knobs depend on keep their values in place, so that every configuration stays one."""
    gates = {name for knob in space.knobs for name in knob.when}
    places: dict[str, dict[str, Setting]] = {}
    for knob in space.knobs:
        order = rng.permutation(len(knob.values)) if knob.name not in gates else range(len(knob.values))
        places[knob.name] = {repr(value): knob.values[place] for value, place in zip(knob.values, order)}
    found: Rows = {}
    for key, row in rows.items():
        other = {name: places[name][repr(value)] for name, value in row["configuration"].items()}
        source = rows.get(key_of(space.canonical(other)), row)
        batches = (row["configuration"].get("batch", 1), source["configuration"].get("batch", 1))
        found[key] = {**source, "configuration": row["configuration"], "ms": scaled(source, batches[0] / batches[1])}
    return found


def inverted(space: Space, rows: Rows, rng: np.random.Generator) -> Rows:
    """Around the median of a sample's time."""
    samples = [value / row["configuration"].get("batch", 1) for row in rows.values() for value in row["ms"]]
    middle = float(np.median(samples))
    return {
        key: {**row, "ms": [(middle * row["configuration"].get("batch", 1)) ** 2 / value for value in row["ms"]]}
        for key, row in rows.items()
    }


def alien(space: Space, rows: Rows, rng: np.random.Generator) -> Rows:
    """Effects of up to a factor of 3 or so on the knobs that matter, of pairs of them, and the repeats' own noise."""
    matters = {knob.name: rng.random() < 0.5 for knob in space.knobs}
    effects = {
        knob.name: dict(zip(map(repr, knob.values), rng.normal(0, rng.choice([0.05, 0.2, 0.5]), len(knob.values))))
        for knob in space.knobs
        if matters[knob.name]
    }
    pairs: dict[tuple[str, str, str, str], float] = {}
    found: Rows = {}
    for key, row in rows.items():
        configuration = row["configuration"]
        total = float(rng.normal(0, 0.02))
        names = [name for name in configuration if name in effects]
        for place, name in enumerate(names):
            value = repr(configuration[name])
            total += effects[name][value]
            for other in names[place + 1 :]:
                pair = (name, value, other, repr(configuration[other]))
                total += pairs.setdefault(pair, float(rng.normal(0, 0.08)))
        own = np.log(row["ms"]) - np.mean(np.log(row["ms"])) if row["ms"] else ()
        batch = configuration.get("batch", 1)
        found[key] = {**row, "ms": [batch * math.exp(total + wobble) for wobble in own]}
    return found


def shuffled(space: Space, rows: Rows, rng: np.random.Generator) -> Rows:
    """A sample's time goes with the row."""
    keys = list(rows)
    found: Rows = {}
    for key, place in zip(keys, rng.permutation(len(keys))):
        source, row = rows[keys[place]], rows[key]
        batches = (row["configuration"].get("batch", 1), source["configuration"].get("batch", 1))
        found[key] = {**source, "configuration": row["configuration"], "ms": scaled(source, batches[0] / batches[1])}
    return found


def noisy(space: Space, rows: Rows, rng: np.random.Generator) -> Rows:
    """Off by a lognormal factor."""
    return {
        key: {**row, "ms": [value * math.exp(rng.normal(0, 0.15)) for value in row["ms"]]} for key, row in rows.items()
    }


def scaled(row: Mapping[str, Any], factor: float) -> list[float]:
    return [value * factor for value in row["ms"]]


PERTURBATIONS: dict[str, Perturbation] = {
    "swapped": swapped,
    "inverted": inverted,
    "alien": alien,
    "shuffled": shuffled,
    "noisy": noisy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", help="one of the perturbations")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    results = []
    for path in sorted(options.tables.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        space = space_of(document["model"], document["target"])
        for name, perturb in PERTURBATIONS.items():
            if options.only not in (None, name):
                continue
            counts: dict[str, list[int]] = {method: [] for method in JUDGED}
            began = time.process_time()
            for seed in range(options.seeds):
                rows = perturb(space, document["rows"], np.random.default_rng([seed, 23]))
                table = load({**document, "rows": rows}, seed)
                for method in JUDGED:
                    counts[method].append(measurements_until(table, METHODS[method](table, seed)))
            summary = {
                method: {"median": float(np.median(found)), "p90": float(np.quantile(found, 0.9)), "counts": found}
                for method, found in counts.items()
            }
            results.append({"table": path.stem, "perturbation": name, "methods": summary})
            line = "  ".join(f"{method} {item['median']:g} ({item['p90']:g})" for method, item in summary.items())
            print(f"{path.stem:24} {name:9} {line} [{time.process_time() - began:.0f} s]", flush=True)
    document = {"seeds": options.seeds, "tables": results, "pooled": pooled(results)}
    for name, item in document["pooled"].items():
        print(f"all tables               {name:9} {item}")
    options.output.write_text(json.dumps(document, indent=1) + "\n")


def pooled(results: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Median and p90 over the tables and seeds of each perturbation."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in {entry["perturbation"]: None for entry in results}:
        chosen = [entry["methods"] for entry in results if entry["perturbation"] == name]
        found[name] = {}
        for method in JUDGED:
            counts = np.concatenate([methods[method]["counts"] for methods in chosen])
            found[name][method] = [float(np.median(counts)), float(np.quantile(counts, 0.9))]
    return found


if __name__ == "__main__":
    main()
