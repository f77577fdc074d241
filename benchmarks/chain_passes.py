"""Read a file and run the default passes: `python benchmarks/chain_passes.py TARGET FILE`; without FILE, imports alone.

A process of its own, so that its CPU time and memory are those of the import and the passes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edgec.converter.importers.onnx import import_model
from edgec.ir.passes.base import parse_pipeline
from edgec.targets import registry


def main() -> None:
    """Import the model, apply the target's pipeline and say on stderr what each step took."""
    pipeline = parse_pipeline(registry.load(sys.argv[1]).pipeline)
    if len(sys.argv) < 3:
        return
    imported = import_model(Path(sys.argv[2]))
    print(f"import {time.process_time():.2f} s CPU since the start", file=sys.stderr)
    for step in pipeline:
        start = time.process_time()
        changed = step.apply(imported.model)
        print(f"{step} {time.process_time() - start:.2f} s CPU{'' if changed else ', no change'}", file=sys.stderr)
    print(f"{sum(1 for _ in imported.model.graph.nodes)} nodes left", file=sys.stderr)


if __name__ == "__main__":
    main()
