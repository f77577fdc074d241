"""Tune real models on this machine with both CPU runtimes, as a user does, and say what was gained.

    python -m benchmarks.tuning_real MODELS WORK      # MODELS: ppocr-det.onnx, mnist-conv.onnx, squeezenet.onnx

One study per model, runtime and goal, through the command line; WORK keeps the studies, so the script goes on where it
was stopped.  The result, benchmarks/results/tuning-real.json, holds for each study the default, the winner and the gain
with its interval, or that there was none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure.machine import describe as machine

RESULT = Path(__file__).parent / "results" / "tuning-real.json"
ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "ppocr-det": ["--input-shape", "x:1,3,320,320"],
    "mnist-conv": [],
    "squeezenet": [],
}
TARGETS = ("onnxruntime", "tflite")
GOALS = {
    "latency": ["--objective", "latency"],
    "throughput": ["--objective", "throughput", "--knob", "batch=1,2,4,8"],
}
"""Goal to its options; precisions that lose quality are not asked for, so every gain is one at full precision."""


def study(models: Path, work: Path, model: str, target: str, goal: str, trials: int) -> dict[str, Any]:
    """The document of one study, and what the process cost."""
    folder = work / f"{model}-{target}-{goal}"
    command = [sys.executable, "-m", "edgec", "tune", str(models / f"{model}.onnx"), "--target", target]
    command += [*MODELS[model], *GOALS[goal], "--trials", str(trials), "-o", str(folder), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(done.stdout)
    if done.returncode:
        return {"model": model, "target": target, "goal": goal, "error": document["error"]}
    return {
        "model": model,
        "target": target,
        "goal": goal,
        "configurations": document["configurations"],
        "counts": document["counts"],
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "default": document["default"],
        "winner": document["winner"],
        "gain": document["gain"],
        "notes": document["notes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--goal", choices=sorted(GOALS), action="append")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for goal in options.goal or list(GOALS):
        for model in MODELS:
            for target in TARGETS:
                found = study(options.models, options.work, model, target, goal, options.trials)
                results.append(found)
                gain = (found.get("gain") or {}).get("text", "no significant gain")
                chosen = (found.get("winner") or {}).get("configuration")
                print(f"{model:12} {target:12} {goal:11} {found.get('error') or gain}  {chosen}", flush=True)
                RESULT.parent.mkdir(exist_ok=True)
                RESULT.write_text(
                    json.dumps({"machine": machine(), "trials": options.trials, "studies": results}, indent=1) + "\n"
                )


if __name__ == "__main__":
    main()
