"""python -m tests.conformance: run the conformance suite and print what fails.

Example: python -m tests.conformance --target tflite --set node --filter 'test_resize' --verbose
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.models import node_test_data

from .cases import SETS
from .judge import OUTCOMES, Outcome
from .report import summary, write_docs
from .suite import read_results, run_suite


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when no forbidden outcome occurred."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--target", default="tflite", help='a target, or "identity" to test the suite itself')
    parser.add_argument("--set", action="append", choices=SETS, help="may be repeated; all sets when left out")
    parser.add_argument("--bound", action="store_true", help="leave out raw cases that have a bound variant")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--no-data", action="store_true", help="convert without the stored inputs")
    parser.add_argument("--data", type=Path, help="unpacked onnx/backend/test/data; downloaded when left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome to FILE")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="run nothing: read what --json wrote")
    parser.add_argument("--show", default="", help="outcomes to list, with commas; 'all' for every one but pass")
    parser.add_argument("--write-docs", action="store_true", help="write docs/coverage/TARGET.md")
    options = parser.parse_args(arguments)

    show = set(OUTCOMES) - {"pass"} if options.show == "all" else set(filter(None, options.show.split(",")))
    if unknown := show - set(OUTCOMES):
        parser.error(f"unknown outcome {', '.join(sorted(unknown))}; known: {', '.join(OUTCOMES)}")
    started, done = time.monotonic(), 0

    def progress(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if outcome.outcome in show:
            print(f"{outcome.outcome:14} {outcome.key}  {outcome.code or ''} {outcome.message}")
            if outcome.reference:
                print(f"{'':14} ONNX Runtime: {outcome.reference}")
        if done % 100 == 0 and sys.stderr.isatty():
            print(f"{done} cases, {time.monotonic() - started:.0f} s", file=sys.stderr)

    data = options.data or node_test_data()
    if options.from_json:
        results = read_results(data, options.from_json)
    else:
        results = run_suite(
            data,
            options.target,
            sets=options.set or SETS,
            pattern=options.filter,
            raw=not options.bound,
            jobs=options.jobs,
            with_data=not options.no_data,
            progress=progress,
        )
    print(summary(results))
    print(f"{len(results.outcomes)} runs in {time.monotonic() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(results.to_json(), indent=1) + "\n")
    if options.write_docs:
        print(f"wrote {write_docs(results, Path.cwd()).relative_to(Path.cwd())}")
    return 1 if results.forbidden() else 0


if __name__ == "__main__":
    sys.exit(main())
