"""edgec against onnx2tf: cost of the conversion, latency and operators of the artifacts, and edgec's own budgets.

    python benchmarks/convert.py --peer-python PEER/bin/python --work FOLDER [--what convert latency ...] [--models ...]

PEER is a virtual environment (Python 3.12) with onnx2tf 2.6.9. Every part writes docs/benchmarks/PART.json; the table
docs/benchmarks/convert.md is written anew from all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import catalogue, parts, report
from benchmarks.measure.machine import describe

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the chosen parts in order and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=list(parts.PARTS), default=list(parts.PARTS))
    parser.add_argument("--models", nargs="+", default=list(catalogue.DEFAULT_MODELS))
    parser.add_argument("--runs", type=int, default=3, help="conversions of each model by each converter")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for one latency comparison")
    parser.add_argument("--peer-python", type=Path, help="python of the peer's environment; without it edgec alone")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and artifacts")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "benchmarks")
    arguments = parser.parse_args()
    settings = parts.Settings(
        root=ROOT,
        work=arguments.work.resolve(),
        # Not resolved: a virtual environment's python is a link, and its folder is what counts.
        peer_python=arguments.peer_python.absolute() if arguments.peer_python else None,
        models=tuple(arguments.models),
        runs=arguments.runs,
        seconds=arguments.seconds,
    )
    settings.work.mkdir(parents=True, exist_ok=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    for name in arguments.what:
        machine, rows = describe(), {}
        for row_name, row in parts.PARTS[name](settings):
            rows[row_name] = row
            print(f"{name} {row_name}: {json.dumps(row)}", file=sys.stderr, flush=True)
            document = {"part": name, "machine": machine, "results": rows}
            (arguments.results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    report.write(arguments.results)


if __name__ == "__main__":
    main()
