"""Throughput of pipelines against the bounds that their slowest stage sets, and against a plain loop.

    python -m benchmarks.pipelining [--cases devices,...] [--items 200] [--rounds 9] [--quiet 0.1] [-o FILE]

Two bounds, in items per second:

- alone: the slowest stage's items in a plain loop, while nothing else runs;
- in company: the same loop while another thread does the work of all other stages at the pipeline's rate, without
  queues. Stages share caches, memory and Python's lock however they are connected, so no pipeline of threads does more;
  the CPU milliseconds of the slowest stage for an item, alone and in company, say how much of it is caches and memory.

A round measures the loop over all stages, the slowest stage alone, the pipeline, the slowest stage in company, the
pipeline set apart, and the slowest stage alone once more.  Set apart, the slowest stage has a core of its own while the
others share the rest (`Stage(cores=...)`), and stages of less than 0.1 ms have no threads of their own
(`Stage(inline=True)`).  Shares are taken against the bounds of the same round; their medians over the rounds have 95 %
bootstrap intervals.  Where the stages compute on the CPU this needs a core for each of them: `pipeline_cores` says how
much the machine gave, and the CPU milliseconds per item of the loop and of the pipeline what the machinery costs in any
case.  With `--quiet 0.1`, rounds in which other processes took more than a tenth of the machine are not counted but
repeated, and the row says how many.

- devices: three stages that wait 2, 4 and 3 ms, as accelerators do that compute without the CPU: the machinery's cost;
- cls, mobilenetv2: scaling and normalising a photograph of 640 x 480, the model on one thread, the best five classes:
  stages in Python and NumPy, which take turns with Python's lock;
- models: MobileNetV2, then PP-OCR's recognition, one thread each: stages that compute outside of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
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

QUEUE = 4
"""Items that may wait before a stage."""

SHORT_S = 0.0001
"""Stages that take less are run by the thread of the stage before them, where stages are set apart."""

SIZES = {"cls": (48, 192), "mobilenetv2": (224, 224)}
MODELS = {"cls": "ppocr-cls", "mobilenetv2": "mobilenetv2"}
LINE = (1, 3, 48, 320)
"""Shape of a line of text for the recognition."""


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
    if case == "models":
        classes, lines = (
            open_session(catalogue.load(name, folder).path, threads=1) for name in ("mobilenetv2", "ppocr-rec")
        )
        line = np.random.default_rng(1).random(LINE, np.float32)
        image, text = classes.inputs[0].name, lines.inputs[0].name
        return {
            "classify": lambda values: best_five(classes.run({image: values})),
            "recognise": lambda best: (best, float(next(iter(lines.run({text: line}).values())).max())),
        }
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
    if case == "models":
        tensors = [random.random((1, 3, *SIZES["mobilenetv2"]), np.float32) for _ in range(8)]
        return [tensors[index % 8] for index in range(count)]
    images = [random.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(8)]
    return [images[index % 8] for index in range(count)]


def per_second(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Items per second of a plain loop."""
    return timed(work, items)[0]


def timed(work: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, float]:
    """Items per second of a plain loop, and CPU seconds of this thread for one."""
    start, used = time.perf_counter(), time.thread_time()
    for item in items:
        work(item)
    return len(items) / (time.perf_counter() - start), (time.thread_time() - used) / len(items)


def in_company(
    work: Callable[[Any], Any], items: Sequence[Any], others: Sequence[tuple[Callable[[Any], Any], Any]], rate: float
) -> tuple[float, float]:
    """As :func:`timed`, while a thread does the other work so often per second."""
    over, began = threading.Event(), threading.Event()

    def accompany() -> None:
        due = time.perf_counter()
        while not over.is_set():
            for function, item in others:
                function(item)
            began.set()
            due = max(due + 1 / rate, time.perf_counter() - 1 / rate)  # one that is late does not catch up for ever
            over.wait(max(0.0, due - time.perf_counter()))

    thread = threading.Thread(target=accompany)
    thread.start()
    began.wait()
    try:
        return timed(work, items)
    finally:
        over.set()
        thread.join()


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
    others_work = [(function, feeds[name][0]) for name, function in functions.items() if name != slowest]
    table: defaultdict[str, list[float]] = defaultdict(list)
    with (
        Pipeline([Stage(name, function) for name, function in functions.items()], queue=QUEUE) as pipeline,
        Pipeline(apart(functions, slowest, alone), queue=QUEUE) as bound_pipeline,
    ):
        turn = disturbed = 0
        while turn <= rounds:
            began, taken = time.perf_counter(), busy()
            used = time.process_time()
            found = {"loop": per_second(everything, items)}
            found["loop_used"] = (time.process_time() - used) / count
            before, found["alone_used"] = timed(functions[slowest], feeds[slowest])
            found["pipeline"], found["used"] = through(pipeline, items, expected)
            found["company"], found["company_used"] = in_company(
                functions[slowest], feeds[slowest], others_work, found["pipeline"]
            )
            found["apart"], found["apart_used"] = through(bound_pipeline, items, expected)
            after = per_second(functions[slowest], feeds[slowest])
            disturbance = others(taken, time.perf_counter() - began)
            if turn and disturbance > quiet:
                disturbed += 1
                if disturbed > MOST_DISTURBED:
                    raise SystemExit(f"{disturbed} rounds were disturbed by other processes, {turn - 1} were not")
                continue
            turn += 1
            if turn > 1:
                found["bound"] = 2 / (1 / before + 1 / after)
                found["cores"] = found["used"] * found["pipeline"]
                for name, value in found.items():
                    table[name].append(value)
        told = pipeline.statistics()
    columns = {name: np.array(values) for name, values in table.items()}
    yield {
        "case": case,
        "alone_per_second": {name: round(value, 1) for name, value in alone.items()},
        "slowest": slowest,
        "bottleneck": told.bottleneck,
        **{
            f"{name}_per_second": rounded(columns[name], 1)
            for name in ("loop", "bound", "company", "pipeline", "apart")
        },
        "share_of_bound": with_interval(columns["pipeline"] / columns["bound"]),
        "share_in_company": with_interval(columns["pipeline"] / columns["company"]),
        "apart_share_of_bound": with_interval(columns["apart"] / columns["bound"]),
        "apart_share_in_company": with_interval(columns["apart"] / columns["company"]),
        "company_of_bound": with_interval(columns["company"] / columns["bound"]),
        "gain_over_loop": rounded(columns["pipeline"] / columns["loop"], 3),
        "slowest_processor_ms": {
            "alone": rounded(columns["alone_used"] * 1e3, 3),
            "in_company": rounded(columns["company_used"] * 1e3, 3),
        },
        "loop_processor_ms": rounded(columns["loop_used"] * 1e3, 3),
        "pipeline_processor_ms": rounded(columns["used"] * 1e3, 3),
        "apart_processor_ms": rounded(columns["apart_used"] * 1e3, 3),
        "pipeline_cores": rounded(columns["cores"], 2),
        "items": count,
        "rounds": rounds,
        "disturbed": disturbed,
    }


def apart(functions: Functions, slowest: str, rates: dict[str, float]) -> list[Stage]:
    """Stages of which the slowest has the first core and the others the rest, and short ones have no threads."""
    cores = sorted(os.sched_getaffinity(0))
    stages: list[Stage] = []
    for name, function in functions.items():
        if stages and rates[name] > 1 / SHORT_S:
            stages.append(Stage(name, function, inline=True))
        elif len(cores) < 2:
            stages.append(Stage(name, function))
        else:
            stages.append(Stage(name, function, cores=cores[:1] if name == slowest else cores[1:]))
    return stages


def through(pipeline: Pipeline, items: list[Any], expected: list[Any]) -> tuple[float, float]:
    """Items per second, and CPU seconds of the process for one."""
    start, used = time.perf_counter(), time.process_time()
    results = list(pipeline.map(items))
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    if results != expected:
        raise SystemExit("the results are wrong or out of order")
    return len(items) / elapsed, used / len(items)


def rounded(values: NDArray[np.float64], digits: int) -> float:
    """The median, for a table."""
    return round(float(np.median(values)), digits)


def with_interval(values: NDArray[np.float64]) -> list[float]:
    """The median over the rounds and the ends of its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), [0.025, 0.975])
    return [round(float(value), 4) for value in (np.median(values), low, high)]


def main() -> None:
    """Measure, print each row, and write the JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="devices,cls,mobilenetv2,models")
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
