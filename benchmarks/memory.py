"""Memory pools against plain allocation: NumPy's on the host, CuPy's own pool on a GPU, buffers on an OpenCL device.

    python -m benchmarks.memory [--parts host,cuda,opencl] [--rounds 15] [-o FILE]

A part whose library or device is missing is left out and says so.  `host` needs NumPy only; `cuda` needs CuPy and a GPU
and nothing else of edgec's dependencies but onnx, so it runs on a bare GPU machine from a copy of the repository;
`opencl` needs pyopencl and a device.

Each line allocates, writes to every page and gives back.  Both sides take turns; figures are CPU microseconds per
allocation (elapsed ones on devices), the median over the rounds, and the median ratio with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.machine import describe
from edgec.runtime.memory import CupyPool, HostPool, OpenCLPool, pinned_source

SIZES = tuple(1 << exponent for exponent in (10, 14, 16, 18, 20, 22, 24, 26))
PAGE = 4096
Work = Callable[[], int]
"""Does some allocations and says how many."""


def compare(sides: dict[str, Work], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Microseconds per allocation of both sides, and second / first with its interval; A B B A in every round."""
    first, second = sides
    times: dict[str, list[float]] = {first: [], second: []}
    faults: dict[str, list[float]] = {first: [], second: []}
    for _ in range(2):
        for work in sides.values():
            work()
    for _ in range(rounds):
        spent = dict.fromkeys(sides, 0.0)
        done = dict.fromkeys(sides, 0)
        minor = dict.fromkeys(sides, 0)
        for name in (first, second, second, first):
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, clock()
            done[name] += sides[name]()
            spent[name] += clock() - start
            minor[name] += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        for name in sides:
            times[name].append(spent[name] / done[name] * 1e6)
            faults[name].append(minor[name] / done[name])
    ratios = np.array(times[second]) / np.array(times[first])
    draws = np.random.default_rng(0).integers(0, rounds, (1000, rounds))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        **{f"{name} us": round(float(np.median(values)), 3) for name, values in times.items()},
        **{f"{name} page faults": round(float(np.median(values)), 2) for name, values in faults.items()},
        "ratio": round(float(np.median(ratios)), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


def repeated(allocate: Callable[[int], Any], size: int) -> Work:
    """Allocate, write to every page, give back; for about five milliseconds."""
    count = max(5, min(2000, (1 << 25) // size))

    def work() -> int:
        for _ in range(count):
            array = allocate(size)
            array[::PAGE] = 1
            del array
        return count

    return work


def mixed(allocate: Callable[[int], Any], threads: int) -> Work:
    """Thirty arrays alive at a time, sizes from 1 KiB to 4 MiB, as many lifetimes: what serving several models does."""
    sizes = [int(2 ** random.Random(seed).uniform(10, 22)) for seed in range(300)]

    def one(seed: int) -> None:
        order = random.Random(seed)
        alive: list[Any] = []
        for size in sizes:
            array = allocate(size)
            array[::PAGE] = 1
            if len(alive) < 30:
                alive.append(array)
            else:
                alive[order.randrange(30)] = array

    def work() -> int:
        workers = [threading.Thread(target=one, args=(seed,)) for seed in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return len(sizes) * threads

    return work


def host(rounds: int) -> Iterator[dict[str, Any]]:
    """HostPool against numpy.empty."""

    def plain(size: int) -> Any:
        return np.empty(size, np.uint8)

    for size in SIZES:
        pool = HostPool()

        def pooled(size: int, pool: HostPool = pool) -> Any:
            return pool.empty(size, np.uint8)

        sides = {"numpy": repeated(plain, size), "HostPool": repeated(pooled, size)}
        yield {"part": "host", "what": f"{size >> 10} KiB", **compare(sides, rounds, time.process_time)}
    for threads in (1, 4):
        pool = HostPool()

        def shared(size: int, pool: HostPool = pool) -> Any:
            return pool.empty(size, np.uint8)

        sides = {"numpy": mixed(plain, threads), "HostPool": mixed(shared, threads)}
        row = compare(sides, rounds, time.process_time)
        found = pool.statistics()
        more = {"reserved": found.reserved, "peak_in_use": found.peak_in_use, "fragmentation": found.fragmentation}
        yield {"part": "host", "what": f"mixed sizes, {threads} threads", **row, **more}


def cuda(rounds: int) -> Iterator[dict[str, Any]]:
    """CupyPool against CuPy's default pool and against no pool; pinned against pageable transfers."""
    if importlib.util.find_spec("cupy") is None:
        yield {"part": "cuda", "left_out": "CuPy is not installed"}
        return
    import cupy

    try:
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        yield {"part": "cuda", "left_out": str(error)}
        return
    synchronize = cupy.cuda.Stream.null.synchronize

    def timed(allocate: Callable[[int], Any], size: int) -> Work:
        def work() -> int:
            for _ in range(50):
                array = allocate(size)
                array[:1] = 1
                del array
            synchronize()
            return 50

        return work

    def unpooled(size: int) -> Any:
        with cupy.cuda.using_allocator(None):
            return cupy.empty(size, np.uint8)

    def default(size: int) -> Any:
        return cupy.empty(size, np.uint8)

    for size in (1 << 16, 1 << 20, 1 << 24, 1 << 28):
        pool = CupyPool(1 << 32)

        def pooled(size: int, pool: CupyPool = pool) -> Any:
            return pool.empty(size, np.uint8)

        for other, allocate in (("CuPy's pool", default), ("no pool", unpooled)):
            sides = {other: timed(allocate, size), "CupyPool": timed(pooled, size)}
            what = f"{size >> 10} KiB against {other}"
            yield {"part": "cuda", "device": name, "what": what, **compare(sides, rounds, time.perf_counter)}
    pinned = HostPool(1 << 30, source=pinned_source())
    pageable = HostPool(1 << 30)
    for size in (1 << 16, 1 << 20, 1 << 24, 1 << 28):
        there = cupy.empty(size, np.uint8)

        def upload(pool: HostPool, size: int = size, there: Any = there) -> Work:
            array = pool.empty(size, np.uint8)
            array[:] = 1

            def work() -> int:
                for _ in range(5):
                    there.set(array)
                synchronize()
                return 5

            return work

        sides = {"pageable": upload(pageable), "pinned": upload(pinned)}
        row = compare(sides, rounds, time.perf_counter)
        speeds = {f"{side} GB/s": round(size / row[f"{side} us"] / 1e3, 2) for side in sides}
        yield {"part": "cuda", "device": name, "what": f"upload {size >> 10} KiB", **row, **speeds}


def opencl(rounds: int) -> Iterator[dict[str, Any]]:
    """OpenCLPool against a new buffer each time."""
    if importlib.util.find_spec("pyopencl") is None:
        yield {"part": "opencl", "left_out": "pyopencl is not installed"}
        return
    import pyopencl

    try:
        context = pyopencl.create_some_context(interactive=False)
    except (pyopencl.Error, RuntimeError) as error:
        yield {"part": "opencl", "left_out": str(error)}
        return
    queue = pyopencl.CommandQueue(context)
    flags = pyopencl.mem_flags.READ_WRITE
    zero = np.uint8(0)

    def timed(allocate: Callable[[int], Any], size: int) -> Work:
        def work() -> int:
            for _ in range(20):
                buffer = allocate(size)
                pyopencl.enqueue_fill_buffer(queue, buffer, zero, 0, size).wait()
                buffer.release()
            return 20

        return work

    for size in (1 << 12, 1 << 16, 1 << 20, 1 << 24):
        pool = OpenCLPool(queue, 1 << 30)
        sides = {
            "new buffer": timed(lambda size: pyopencl.Buffer(context, flags, size), size),
            "OpenCLPool": timed(pool.allocate, size),
        }
        what = f"{size >> 10} KiB"
        yield {"part": "opencl", "device": queue.device.name, "what": what, **compare(sides, rounds, time.perf_counter)}


PARTS = {"host": host, "cuda": cuda, "opencl": opencl}


def main() -> None:
    """Measure, print each row, and write the JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for part in arguments.parts.split(","):
        for row in PARTS[part](arguments.rounds):
            rows.append(row)
            print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if arguments.output:
        document = {"machine": describe(), "rounds": arguments.rounds, "rows": rows}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
