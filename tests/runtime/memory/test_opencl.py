"""The OpenCL pool on whatever OpenCL device there is; skipped without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgec.errors import UsageError
from edgec.runtime.memory import MemoryOptions, OpenCLPool, PoolExhausted

opencl = pytest.importorskip("pyopencl", reason="the extra [opencl] is not installed")


def first_queue() -> tuple[Any, Any]:
    """The first device that runs a kernel: context (a queue does not keep it) and queue."""
    try:
        platforms = opencl.get_platforms()
    except opencl.Error as error:
        pytest.skip(f"no OpenCL platform: {error}")
    reasons = []
    for platform in platforms:
        for device in platform.get_devices():
            try:
                context = opencl.Context([device])
                opencl.Program(context, "__kernel void nothing() {}").build()
                return context, opencl.CommandQueue(context)
            except opencl.Error as error:
                reasons.append(f"{platform.name}: {error}")
    pytest.skip(f"no OpenCL device builds a kernel: {'; '.join(reasons)}")


@pytest.fixture(scope="module")
def queue() -> Iterator[Any]:
    context, queue = first_queue()
    yield queue
    queue.finish()
    del context


def test_arrays_compute_and_their_memory_is_used_again(queue: Any) -> None:
    pool = OpenCLPool(queue)
    for turn in range(5):
        x = pool.put(np.full((100, 100), turn, np.float32))
        y = pool.empty((100, 100), np.float32)
        program = opencl.Program(
            queue.context,
            "__kernel void twice(__global const float *x, __global float *y) "
            "{ int i = get_global_id(0); y[i] = 2 * x[i]; }",
        ).build()
        program.twice(queue, (10_000,), None, x.data, y.data)
        assert (y.get() == 2 * turn).all()
        del x, y
    found = pool.statistics()
    assert found.live == 0 and found.in_use == 0
    assert found.reserved == found.free and found.idle_blocks == 2
    assert pool.trim() == found.reserved
    assert pool.statistics().reserved == 0


def test_the_limit_holds_for_what_is_out_and_what_is_kept(queue: Any) -> None:
    limit = 10_000_000
    pool = OpenCLPool(queue, limit)
    kept = [pool.allocate(2_000_000) for _ in range(4)]
    assert pool.statistics().reserved <= limit
    with pytest.raises(PoolExhausted) as caught:
        pool.allocate(2_000_000)
    assert isinstance(caught.value, MemoryError) and caught.value.code == "EDG710"
    kept.clear()
    assert pool.statistics().idle_blocks == 4
    kept.append(pool.allocate(2_000_000))  # one of the four
    assert pool.statistics().idle_blocks == 3
    kept.append(pool.allocate(5_000_000))  # blocks of another size make room
    found = pool.statistics()
    assert found.reserved <= limit and found.peak_reserved <= limit and found.refused == 1


def test_more_than_the_device_gives_is_refused(queue: Any) -> None:
    pool = OpenCLPool(queue)
    with pytest.raises(PoolExhausted):
        pool.allocate(queue.device.max_mem_alloc_size * 2)
    with pytest.raises(UsageError):
        pool.allocate(-1)
    assert pool.empty((0, 3), np.float32).shape == (0, 3)


def test_a_closed_pool_gives_nothing_more_and_keeps_nothing(queue: Any) -> None:
    pool = OpenCLPool(queue)
    buffer = pool.allocate(1000)
    assert pool.close().live == 1
    with pytest.raises(UsageError) as caught:
        pool.allocate(1000)
    assert caught.value.code == "EDG711"
    buffer.release()
    assert pool.statistics().reserved == 0


def test_threads_stay_below_the_limit(queue: Any, in_threads: Callable[[Callable[[int], None], int], None]) -> None:
    limit = 4_000_000
    pool = OpenCLPool(queue, limit)
    exhausted = []

    def work(seed: int) -> None:
        chance = np.random.default_rng(seed)
        held: list[Any] = []
        for _ in range(200):
            try:
                held.append(pool.allocate(int(chance.integers(1, 400_000))))
            except PoolExhausted:
                exhausted.append(seed)
                held.clear()
            assert pool.statistics().reserved <= limit

    in_threads(work, 4)
    assert exhausted, "the limit was never reached"
    found = pool.statistics()
    assert found.live == 0 and found.peak_reserved <= limit


def test_the_options_give_a_pool_with_their_limit(queue: Any) -> None:
    pool = MemoryOptions(device_limit=12345).device_pool("opencl", queue=queue)
    assert isinstance(pool, OpenCLPool) and pool.limit == 12345
    with pytest.raises(UsageError):
        OpenCLPool(queue, 0)
