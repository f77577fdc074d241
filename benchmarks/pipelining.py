"""Throughput of pipelines against the bound that their slowest stage sets, and against a plain loop.

    python -m benchmarks.pipelining [--cases devices,cls,mobilenetv2] [--items 200] [--rounds 9] [--quiet 0.1] [-o FILE]

The bound is the rate of the slowest stage alone: the same items through that stage in a plain loop, in the same round.
A round measures the loop over all stages, the slowest stage alone, the pipeline, and the slowest stage once more; the
share is pipeline / mean of the two bounds, its median over the rounds has a 95 % bootstrap interval.  Where the stages
compute on the CPU this needs a core for each of them: `pipeline_cores` says how much the machine gave, and the CPU
milliseconds per item of the loop and of the pipeline what the machinery costs in any case.  With `--quiet 0.1`, rounds
in which other processes took more than a tenth of the machine are not counted but repeated, and the row says how many.

- devices: three stages that wait 2, 4 and 3 ms, as accelerators do that compute without the CPU: the machinery's cost;
- cls, mobilenetv2: scaling and normalising a photograph of 640 x 480, the model on one thread, the best five classes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import catalogue
from benchmarks.measure.machine import describe
from edgec.runtime.onnxruntime import open_session
from edgec.runtime.pipelining import Pipeline, Stage

Functions = dict[str, Callable[[Any], Any]]

MOST_DISTURBED = 500
"""Rounds that are repeated before it gives up."""

SIZES = {"cls": (48, 192), "mobilenetv2": (224, 224)}
MODELS = {"cls": "ppocr-cls", "mobilenetv2": "mobilenetv2"}


def waiting(seconds: float) -> Callable[[Any], Any]:
    """A device that takes so long for an item."""

    def work(item: Any) -> Any:
        time.sleep(seconds)
        return item

    return work


def scale(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Area averages by summed rows and columns, then ImageNet's normalisation; [h, w, 3] -> [1, 3, height, width]."""
    rows = np.linspace(0, image.shape[0], height + 1).astype(np.intp)
    columns = np.linspace(0, image.shape[1], width + 1).astype(np.intp)
    sums = np.add.reduceat(image, rows[:-1], axis=0, dtype=np.uint32)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))[..., None].astype(np.float32) / 255
    normal = (means - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def best_five(outputs: dict[str, NDArray[np.float32]]) -> list[tuple[int, float]]:
    """Class and share of the five largest outputs."""
    values = next(iter(outputs.values())).reshape(-1).astype(np.float64)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    return [(int(place), float(shares[place])) for place in np.argsort(shares)[-5:][::-1]]


def functions_of(case: str, folder: Path) -> Functions:
    """The stages of a case."""
    if case == "devices":
        return {"decoder": waiting(0.002), "accelerator": waiting(0.004), "encoder": waiting(0.003)}
    model = catalogue.load(MODELS[case], folder)
    session = open_session(model.path, threads=1)
    name = session.inputs[0].name
    height, width = SIZES[case]
    return {
        "preprocess": lambda image: {name: scale(image, height, width)},
        "infer": session.run,
        "postprocess": best_five,
    }


def items_of(case: str, count: int) -> list[Any]:
    """Photographs, or numbers where nothing is computed."""
    if case == "devices":
        return list(range(count))
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(8)]
    return [images[index % 8] for index in range(count)]


def per_second(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Items per second of a plain loop."""
    start = time.perf_counter()
    for item in items:
        work(item)
    return len(items) / (time.perf_counter() - start)


def busy() -> tuple[float, float]:
    """CPU seconds of the whole machine that were used, and of this process."""
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), time.process_time()


def others(before: tuple[float, float], seconds: float) -> float:
    """What part of the machine other processes took since then."""
    machine, own = (now - then for now, then in zip(busy(), before))
    return max(0.0, machine - own) / (seconds * (os.cpu_count() or 1))


def measure(case: str, count: int, rounds: int, quiet: float, folder: Path) -> Iterator[dict[str, Any]]:
    """One row for the case."""
    functions = functions_of(case, folder)
    items = items_of(case, count)
    inputs: dict[str, list[Any]] = {}
    current = items
    expected: list[Any] = []
    for name, function in functions.items():
        inputs[name] = current[:8] if case != "devices" else current
        current = [function(item) for item in inputs[name]]
    expected = [current[index % len(current)] for index in range(count)]

    def everything(item: Any) -> Any:
        for function in functions.values():
            item = function(item)
        return item

    feeds = {name: [found[index % len(found)] for index in range(count)] for name, found in inputs.items()}
    alone = {
        name: statistics.median(per_second(function, feeds[name][:50]) for _ in range(3))
        for name, function in functions.items()
    }
    slowest = min(alone, key=lambda name: alone[name])
    table: dict[str, list[float]] = {
        "loop": [],
        "bound": [],
        "pipeline": [],
        "share": [],
        "loop_used": [],
        "used": [],
        "cores": [],
    }
    with Pipeline([Stage(name, function) for name, function in functions.items()], queue=4) as pipeline:
        turn = disturbed = 0
        while turn <= rounds:
            began, taken = time.perf_counter(), busy()
            used = time.process_time()
            loop = per_second(everything, items)
            loop_used = time.process_time() - used
            before = per_second(functions[slowest], feeds[slowest])
            start, used = time.perf_counter(), time.process_time()
            results = list(pipeline.map(items))
            elapsed, used = time.perf_counter() - start, time.process_time() - used
            rate = count / elapsed
            after = per_second(functions[slowest], feeds[slowest])
            if results != expected:
                raise SystemExit("the results are wrong or out of order")
            disturbance = others(taken, time.perf_counter() - began)
            if turn and disturbance > quiet:
                disturbed += 1
                if disturbed > MOST_DISTURBED:
                    raise SystemExit(f"{disturbed} rounds were disturbed by other processes, {turn - 1} were not")
                continue
            turn += 1
            if turn > 1:
                bound = 2 / (1 / before + 1 / after)
                for name, value in (("loop", loop), ("bound", bound), ("pipeline", rate), ("share", rate / bound)):
                    table[name].append(value)
                table["loop_used"].append(loop_used / count)
                table["used"].append(used / count)
                table["cores"].append(used / elapsed)
        found = pipeline.statistics()
    shares = np.array(table["share"])
    draws = np.random.default_rng(0).integers(0, rounds, (1000, rounds))
    low, high = np.quantile(np.median(shares[draws], axis=1), [0.025, 0.975])
    yield {
        "case": case,
        "alone_per_second": {name: round(value, 1) for name, value in alone.items()},
        "slowest": slowest,
        "bottleneck": found.bottleneck,
        **{f"{name}_per_second": round(statistics.median(table[name]), 1) for name in ("loop", "bound", "pipeline")},
        "share_of_bound": round(float(np.median(shares)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "gain_over_loop": round(statistics.median(np.array(table["pipeline"]) / np.array(table["loop"])), 3),
        "loop_processor_ms": round(statistics.median(table["loop_used"]) * 1e3, 3),
        "pipeline_processor_ms": round(statistics.median(table["used"]) * 1e3, 3),
        "pipeline_cores": round(statistics.median(table["cores"]), 2),
        "items": count,
        "rounds": rounds,
        "disturbed": disturbed,
    }


def main() -> None:
    """Measure, print each row, and write the JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="devices,cls,mobilenetv2")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quiet", type=float, default=1.0, help="largest part of the machine that others may take")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.cases.split(","):
            for row in measure(case, arguments.items, arguments.rounds, arguments.quiet, Path(folder)):
                rows.append(row)
                print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if arguments.output:
        document = {"machine": describe(), "rows": rows}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
