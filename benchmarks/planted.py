"""A wrong node planted in each of ten models: is it located exactly, and in how many truncated runs?

    python benchmarks/planted.py --work FOLDER

The target lowers every node right but one, whose result gets another sign, twice the size, or another order; place and
mistake are drawn with a seed.  Writes docs/benchmarks/planted.json and planted.md; ends with 1 unless all are located.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import catalogue
from benchmarks.measure.machine import describe
from edgec.converter.bisect import bisect
from edgec.converter.bisection.steps import Step, find_steps
from edgec.converter.importers.imported import SourceOptions
from edgec.converter.prepare import prepare
from edgec.targets import registry
from tests.converter.planted import MISTAKES, Planted

ROOT = Path(__file__).resolve().parent.parent
MODELS = (
    "digits",
    "mnist-conv",
    "espcn",
    "espcn-subpixel",
    "ppocr-cls",
    "ppocr-det",
    "basic-pitch",
    "centerface",
    "mobilenetv2",
    "vit-tiny",
)
HEAD = """# A planted wrong node

Written by `python benchmarks/planted.py --work work`. In each model the target computes one node wrong; `edgec bisect`
has to name it. MobileNetV2 and ViT have random weights, the others are real. *Runs* are truncated conversions that were
executed; the bound is log2(nodes) + 3.
"""


def main() -> None:
    """Plant, bisect, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--work", type=Path, required=True, help="folder for models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "benchmarks")
    given = parser.parse_args()
    machine, rows = describe(), {}
    for number, name in enumerate(given.models):
        random = np.random.default_rng((given.seed, number))
        rows[name] = row = measure(name, given.work, random)
        print(f"{name}: {json.dumps(row)}", file=sys.stderr, flush=True)
    document = {"part": "planted", "seed": given.seed, "machine": machine, "results": rows}
    (given.results / "planted.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    write(given.results)
    sys.exit(0 if all(row["located"] and row["runs"] <= row["bound"] for row in rows.values()) else 1)


def measure(name: str, work: Path, random: np.random.Generator) -> dict[str, Any]:
    """One mistake in one model."""
    if name == "digits":
        path, shapes = ROOT / "examples" / "digits" / "digits.onnx", {}
    else:
        model = catalogue.load(name, work)
        path, shapes = model.path, dict(model.shapes)
    steps = _places(path, shapes)
    step = steps[int(random.integers(len(steps)))]
    value, mistake = step.watches[0].value.name, MISTAKES[int(random.integers(len(MISTAKES)))]
    planted = Planted("tflite", value, mistake)
    start = time.process_time()
    with mock.patch("edgec.converter.bisect.registry.load", lambda _: planted):
        report = bisect(path, target="tflite", input_shapes=shapes, isolate=False)
    found = [] if report.first is None else [item.name for item in report.first.values]
    return {
        "nodes": report.nodes,
        "planted": value,
        "mistake": mistake,
        "found": found,
        "located": found == [value],
        "runs": report.runs,
        "bound": round(math.log2(report.nodes) + 3, 2),
        "cpu_seconds": round(time.process_time() - start, 2),
    }


def _places(path: Path, shapes: dict[str, tuple[int, ...]]) -> list[Step]:
    """Where a mistake in floats can be made and is no exchange of equals."""
    graph = prepare(path, registry.load("tflite"), SourceOptions(shapes)).model.graph
    names = {value.name for node in graph.nodes for value in node.outputs}
    steps = [step for step in find_steps(graph, names).steps if len(step.watches) == 1]
    return [step for step in steps if step.watches[0].value.dtype.is_float and max(step.watches[0].value.dims) > 1]


def write(folder: Path) -> None:
    """Write `folder`/planted.md."""
    document = json.loads((folder / "planted.json").read_text(encoding="utf-8"))
    rows = document["results"]
    lines = [HEAD, "| model | nodes | mistake | planted in | located | runs | bound | CPU |"]
    lines.append("| --- | ---: | --- | --- | --- | ---: | ---: | ---: |")
    for name, row in rows.items():
        located = "yes" if row["located"] else f"no: {', '.join(row['found']) or 'nothing'}"
        lines.append(
            f"| {name} | {row['nodes']} | {row['mistake']} | `{row['planted']}` | {located} | {row['runs']} | "
            f"{row['bound']:.1f} | {row['cpu_seconds']:.1f} s |"
        )
    found = sum(row["located"] for row in rows.values())
    lines += ["", f"{found} of {len(rows)} located."]
    (folder / "planted.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
