"""Throughput and latency of the dynamic batcher against no batching and against a naive batcher.

    python -m benchmarks.batching [--models mnist-conv,ppocr-cls] [--clients 1,8,64] [--rounds 5] [-o FILE]
    python -m benchmarks.batching --table FILE                    # the table of docs/serving.md from such a file
    python -m benchmarks.batching --provider cuda --models mlp-2048,mobilenetv2 -o FILE     # on a GPU machine

Clients are threads that send one sample and wait for its answer (closed loop).  Every system has the same cores:

- direct: every client runs the session itself, the better of one thread per run and one run on all cores;
- naive: a thread takes what is queued until the batch is full or `max_delay` is over, always;
- batcher: :class:`edgec.runtime.batching.DynamicBatcher` with the same largest batch and delay, a run on all cores at a
  time, or as many runs of one thread at once as there are cores.

Rounds of all systems are interleaved; figures are medians over the rounds, and go on until every batcher has the 1000
answers that a 99th percentile needs.  The gain is the throughput over that of the better direct system in the same
round, with its 95 % bootstrap interval.  The bound of the latency is the delay plus two runs: the one that is under way
when a sample arrives, and its own; runs are taken at their 99th percentile.  Where the p99 is beyond it, the table says
so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import catalogue
from benchmarks.measure.machine import describe
from edgec.ir.types import Array
from edgec.runtime.batching import DynamicBatcher
from edgec.runtime.memory import HostPool
from edgec.runtime.onnxruntime import open_session
from edgec.runtime.session import Session, TensorSpec


@dataclass(frozen=True)
class Case:
    """A model to serve: shapes of a sample's inputs, what all samples share, and where the batch is."""

    shapes: Mapping[str, tuple[int, ...]]
    largest: int
    shared: Mapping[str, Array] = field(default_factory=dict)
    axes: Mapping[str, int] = field(default_factory=dict)


RATE = np.array(16000, np.int64)
CASES = {
    "device": Case({"x": (64,)}, 64),
    "mlp-2048": Case({"x": (2048,)}, 64),
    "silero-vad-16k": Case({"input": (512,), "state": (2, 128)}, 64, {"sr": RATE}, {"state": 1, "stateN": 1}),
    "mnist-conv": Case({"Input3": (1, 28, 28)}, 64),
    "ppocr-cls": Case({"x": (3, 48, 192)}, 16),
    "ppocr-rec": Case({"x": (3, 48, 320)}, 8),
    "mobilenetv2": Case({"input": (3, 224, 224)}, 8),
}
"""Accelerators, and fully connected and recurrent models anywhere, take hardly longer for many samples than for one;
convolutions on a CPU compute as much per sample in a batch as alone."""

DELAY_S = 0.002
FOR_P99 = 1000
"""Answers, or runs, of which a 99th percentile can be told."""
MOST_ROUNDS = 20
"""Rounds after which a p99 is left out."""


def perceptron(folder: Path, width: int = 2048, layers: int = 4) -> Path:
    """Fully connected layers with random weights: 64 MiB that every run has to read."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        weight = (random.standard_normal((width, width)) / width**0.5).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(onnx.helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
        nodes.append(onnx.helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        value = f"r{layer}"
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width]) for name in ("x", value)]
    graph = onnx.helper.make_graph(nodes, "perceptron", ends[:1], ends[1:], weights)
    path = folder / "mlp-2048.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def model_file(name: str, folder: Path) -> Path:
    """The model with an open batch."""
    if name == "mlp-2048":
        return perceptron(folder)
    path = catalogue.load(name, folder).path
    return path if CASES[name].axes else dynamic_copy(path, folder)


def dynamic_copy(path: Path, folder: Path) -> Path:
    """The model with an open batch: first extents are symbolic, constant Reshapes to one sample keep the extent."""
    model = onnx.load(path)
    graph = model.graph
    constants = {item.name for item in graph.initializer}
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and dims:
            dims[0].Clear()
            dims[0].dim_param = "batch"
    del graph.value_info[:]
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for item in graph.initializer:
        if item.name in shapes:
            values = onnx.numpy_helper.to_array(item).copy()
            if len(values) > 1 and values[0] == 1:
                values[0] = 0
                item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))
    copy = folder / f"{path.stem}-dynamic.onnx"
    onnx.save(model, copy)
    return copy


@dataclass
class Timed:
    """A session whose runs are timed; `seconds` of every run."""

    session: Session
    seconds: list[float] = field(default_factory=list)

    @property
    def inputs(self) -> Any:
        return self.session.inputs

    @property
    def outputs(self) -> Any:
        return self.session.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = self.session.run(feeds)
        self.seconds.append(time.perf_counter() - start)
        return outputs

    def close(self) -> None:
        self.session.close()


Sample = dict[str, Array]
Serve = Callable[[Sample], dict[str, Array]]


class Device:
    """An accelerator that computes without the CPU, one run at a time: 4 ms, and 0.1 ms for each of its rows."""

    inputs = (TensorSpec("x", np.dtype(np.float32), ("batch", 64)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), ("batch", 64)),)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            time.sleep(0.004 + 0.0001 * len(feeds["x"]))
        return {"y": feeds["x"] * 2}

    def close(self) -> None: ...


class NaiveBatcher:
    """What a first version looks like: wait for the delay or a full batch, stack, run, hand out views."""

    def __init__(self, session: Session, case: Case, delay_s: float):
        self._session, self._case, self._delay_s = session, case, delay_s
        self._queue: queue.Queue[tuple[Sample, Future[dict[str, Array]]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def run(self, sample: Sample) -> dict[str, Array]:
        future: Future[dict[str, Array]] = Future()
        self._queue.put((sample, future))
        return future.result()

    def _loop(self) -> None:
        axes = self._case.axes
        while (first := self._queue.get()) is not None:
            batch = [first]
            end = time.monotonic() + self._delay_s
            while len(batch) < self._case.largest and (left := end - time.monotonic()) > 0:
                try:
                    item = self._queue.get(timeout=left)
                except queue.Empty:
                    break
                if item is None:
                    self._queue.put(None)
                    break
                batch.append(item)
            feeds = {name: np.stack([sample[name] for sample, _ in batch], axes.get(name, 0)) for name in first[0]}
            outputs = self._session.run({**feeds, **self._case.shared})
            for row, (_, future) in enumerate(batch):
                future.set_result({key: value.take(row, axes.get(key, 0)) for key, value in outputs.items()})

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()


@contextlib.contextmanager
def system(name: str, sessions: dict[int, Session], case: Case) -> Iterator[tuple[Serve, Timed, Callable[[], Any]]]:
    """How one sample is answered, the timed session, and what the batcher says about itself at the end."""
    cores = max(sessions)
    single = name in ("direct, 1 thread a run", "batcher, a run per core")
    timed = Timed(sessions[1 if single else cores])
    if name.startswith("direct"):
        yield lambda sample: timed.run(alone(case, sample)), timed, dict
    elif name == "naive":
        naive = NaiveBatcher(timed, case, DELAY_S)
        yield naive.run, timed, dict
        naive.close()
    else:
        with DynamicBatcher(
            timed,
            max_batch=case.largest,
            max_delay_s=DELAY_S,
            queue_limit=256,
            shared=case.shared,
            axes=case.axes,
            pool=HostPool(),
            concurrency=1 if name == "batcher" else len(os.sched_getaffinity(0)),
        ) as batcher:
            yield batcher.run, timed, lambda: batcher.statistics().to_json()


def alone(case: Case, sample: Sample) -> dict[str, Array]:
    """A batch of one."""
    return {**{name: np.expand_dims(array, case.axes.get(name, 0)) for name, array in sample.items()}, **case.shared}


def one_round(
    serve: Serve, samples: list[Sample], expected: list[tuple[int, float]], clients: int, seconds: float
) -> tuple[float, float, list[float]]:
    """Answers per second, CPU seconds per answer, and all latencies; the largest value of every answer is compared."""
    end = time.perf_counter() + seconds
    latencies: list[list[float]] = [[] for _ in range(clients)]
    wrong: list[int] = []

    def client(number: int) -> None:
        turn = number
        start = time.perf_counter()
        while start < end or not latencies[number]:
            index = turn % len(samples)
            found = next(iter(serve(samples[index]).values()))
            latencies[number].append(time.perf_counter() - start)
            place, value = expected[index]
            if not abs(found.item(place) - value) <= 1e-3 * abs(value):
                wrong.append(index)
            turn += 1
            start = time.perf_counter()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    start, processor = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, used = time.perf_counter() - start, time.process_time() - processor
    if wrong:
        raise SystemExit(f"{len(wrong)} answers were wrong")
    count = sum(len(part) for part in latencies)
    return count / elapsed, used / count, [value for part in latencies for value in part]


SYSTEMS = ("direct, 1 thread a run", "direct, all cores a run", "naive", "batcher", "batcher, a run per core")


def measure(
    model: str, folder: Path, clients: list[int], seconds: float, rounds: int, provider: str
) -> Iterator[dict[str, Any]]:
    """One row per number of clients."""
    cores = len(os.sched_getaffinity(0))
    sessions: dict[int, Session] = {1: Device()}
    if model != "device":
        path = model_file(model, folder)
        counts = sorted({1, cores}) if provider == "cpu" else [1]
        sessions = {threads: open_session(path, threads=threads, provider=provider) for threads in counts}
    random = np.random.default_rng(0)
    case = CASES[model]
    samples = [{name: random.random(shape, np.float32) for name, shape in case.shapes.items()} for _ in range(16)]
    expected = []
    for sample in samples:
        found = next(iter(sessions[1].run(alone(case, sample)).values()))
        place = int(np.abs(found).argmax())
        expected.append((place, found.item(place)))
    for count in clients:
        table: dict[str, dict[str, list[Any]]] = {
            system_name: {"rate": [], "processor": [], "latency": [], "runs": [], "sizes": []}
            for system_name in SYSTEMS
        }
        turn = 0
        while turn <= rounds or (turn <= MOST_ROUNDS and fewest(table) < FOR_P99):
            for system_name in SYSTEMS if turn % 2 else reversed(SYSTEMS):
                with system(system_name, sessions, case) as (serve, timed, report):
                    length = seconds if turn else seconds / 4  # the first round warms up
                    rate, processor, latency = one_round(serve, samples, expected, count, length)
                    said = report()
                if turn:
                    row = table[system_name]
                    row["rate"].append(rate)
                    row["processor"].append(processor)
                    row["latency"].extend(latency)
                    row["runs"].extend(timed.seconds)
                    row["sizes"].append(said.get("mean_size"))
            turn += 1
        best = np.maximum(*(np.array(table[system_name]["rate"]) for system_name in SYSTEMS[:2]))
        gains = {name: with_interval(np.array(table[name]["rate"]) / best) for name in SYSTEMS[2:]}
        found = {key: summary(value) for key, value in table.items()}
        yield {"model": model, "clients": count, "rounds": turn - 1, "gains": gains, **found}


def fewest(table: Mapping[str, Mapping[str, list[Any]]]) -> int:
    """Answers of the batcher that has fewest."""
    return min(len(table[name]["latency"]) for name in SYSTEMS if name.startswith("batcher"))


def with_interval(values: NDArray[np.float64]) -> list[float]:
    """The median over the rounds and the ends of its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), [0.025, 0.975])
    return [round(float(value), 3) for value in (np.median(values), low, high)]


def summary(row: dict[str, list[Any]]) -> dict[str, Any]:
    """Medians over the rounds; percentiles over all answers, None for fewer than ten beyond."""
    latency, runs = np.array(row["latency"]), np.array(row["runs"])
    sizes = [size for size in row["sizes"] if size is not None]
    p99 = float(np.quantile(latency, 0.99)) * 1e3 if len(latency) >= FOR_P99 else None
    run = float(np.quantile(runs, 0.99)) * 1e3 if len(runs) >= FOR_P99 else float(runs.max()) * 1e3
    bound = DELAY_S * 1e3 + 2 * run
    return {
        "per_second": round(statistics.median(row["rate"]), 1),
        "lowest": round(min(row["rate"]), 1),
        "highest": round(max(row["rate"]), 1),
        "processor_ms_per_answer": round(statistics.median(row["processor"]) * 1e3, 4),
        "median_ms": round(float(np.median(latency)) * 1e3, 3),
        "p99_ms": None if p99 is None else round(p99, 3),
        "bound_ms": round(bound, 3),
        "within_bound": None if p99 is None else bool(p99 <= bound),
        "answers": len(latency),
        "mean_batch": round(statistics.median(sizes), 2) if sizes else None,
    }


def as_table(document: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown; the batcher's are those of the better one, by throughput."""
    heads = (
        "model",
        "clients",
        "gain: naive, batcher",
        "CPU ms per answer: none, naive, batcher",
        "batch",
        "p99 of bound, ms",
    )
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for row in document["rows"]:
        direct = max(SYSTEMS[:2], key=lambda name: float(row[name]["per_second"]))
        batcher = max(SYSTEMS[3:], key=lambda name: float(row[name]["per_second"]))
        gains = ", ".join("{:.2f} ({:.2f} to {:.2f})".format(*row["gains"][name]) for name in ("naive", batcher))
        costs = ", ".join(f"{row[name]['processor_ms_per_answer']:.3g}" for name in (direct, "naive", batcher))
        part = row[batcher]
        tail = "-" if part["p99_ms"] is None else f"{part['p99_ms']:.1f} of {part['bound_ms']:.1f}"
        cells = row["model"], str(row["clients"]), gains, costs, str(part["mean_batch"]), tail
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print a table, and write the JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(CASES))
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--provider", default="cpu", help="cuda on a GPU machine with onnxruntime-gpu")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="print the results in FILE as Markdown, measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.table:
        print("\n".join(as_table(json.loads(arguments.table.read_text(encoding="utf-8")))))
        return
    clients = [int(value) for value in arguments.clients.split(",")]
    rows = []
    heads = ("per s", 9), ("gain (95 %)", 18), ("CPU ms", 8), ("p50", 8), ("p99", 8), ("bound", 8)
    print(f"{'model':14} {'clients':>7} {'system':24} " + " ".join(f"{head:>{width}}" for head, width in heads))
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            for row in measure(name, Path(folder), clients, arguments.seconds, arguments.rounds, arguments.provider):
                rows.append(row)
                for system_name in SYSTEMS:
                    part = row[system_name]
                    p99 = "-" if part["p99_ms"] is None else f"{part['p99_ms']:.2f}"
                    gain = row["gains"].get(system_name)
                    print(
                        f"{name:14} {row['clients']:7} {system_name:24} {part['per_second']:9.1f} "
                        f"{'' if gain is None else '{:.2f} ({:.2f}-{:.2f})'.format(*gain):>18} "
                        f"{part['processor_ms_per_answer']:8.3f} {part['median_ms']:8.2f} {p99:>8} "
                        f"{part['bound_ms']:8.2f}{'' if part['within_bound'] is not False else ' exceeded'}",
                        flush=True,
                    )
    document = {
        "machine": describe(),
        "provider": arguments.provider,
        "delay_ms": DELAY_S * 1e3,
        "largest": {name: case.largest for name, case in CASES.items()},
        "rows": rows,
    }
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
