"""Device memory of an OpenCL device with a limit, over pyopencl's pool.

pyopencl sorts blocks into bins of similar size and never moves a block between bins.  Keeping one of its pools per bin
shows whether a request will be served from what is held, before it is made; that is what lets the limit be exact.
Source: pyopencl documentation, "Memory Pools" (``pyopencl.tools.MemoryPool``).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgec.errors import EdgecError, UsageError
from edgec.runtime.memory.report import DeviceStatistics, PoolExhausted, readable


class OpenCLPool:
    """Buffers and arrays of one OpenCL device; they return to the pool when they are collected or released.

    A kernel does not keep the buffers that were set as its arguments (``Kernel.set_args``): keep them until the queue
    has finished.

    Args:
        queue: the ``pyopencl.CommandQueue`` to allocate for; its context must be alive.
        limit: most bytes on the device, those that the pool holds for the next request included; None for no limit.

    Raises:
        EdgecError: EDG013 without pyopencl.
        UsageError: EDG712 for a limit below 1.
    """

    def __init__(self, queue: Any, limit: int | None = None):
        if limit is not None and limit < 1:
            raise UsageError("EDG712", "the limit of a device pool must be at least 1", why=f"it is {limit}")
        self._opencl = _import()
        self._queue = queue
        self._context = queue.context  # a queue does not keep its context alive
        self._device = queue.device
        self._allocator = self._opencl.tools.ImmediateAllocator(queue)
        self._sizes = self._opencl.tools.MemoryPool(self._allocator)  # asked about bins only
        self._bins: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._peak = self._refused = self._allocations = 0
        self.limit = limit

    def allocate(self, size: int) -> Any:
        """A ``pyopencl.PooledBuffer`` of at least ``size`` bytes; also what pyopencl takes as an ``allocator``.

        Raises:
            PoolExhausted: EDG710 where limit or device leave no room.
            UsageError: EDG711 when the pool is closed; EDG712 for a negative size.
        """
        if size < 0:
            raise UsageError("EDG712", "a buffer cannot have a negative size", why=f"it is {size}")
        number = self._sizes.bin_number(max(1, size))
        rounded = self._sizes.alloc_size(number)
        with self._lock:
            if self._closed:
                raise UsageError("EDG711", "the memory pool is closed", help="allocate before close()")
            pool = self._bins.get(number)
            if pool is None:
                pool = self._bins[number] = self._opencl.tools.MemoryPool(self._allocator)
            if not pool.held_blocks:
                self._make_room(size, rounded)
            try:
                buffer = pool.allocate(max(1, size))
            except self._opencl.Error as error:
                self._refused += 1
                raise PoolExhausted(
                    "EDG710", f"the OpenCL device has no room for {readable(size)}", why=str(error)
                ) from error
            self._allocations += 1
            self._peak = max(self._peak, self._managed())
            return buffer

    __call__ = allocate

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike) -> Any:
        """An uninitialised ``pyopencl.array.Array`` on the device; errors as in :meth:`allocate`."""
        import pyopencl.array

        extents = shape if isinstance(shape, int) else tuple(shape)
        return pyopencl.array.Array(self._queue, extents, np.dtype(dtype), allocator=self.allocate)

    def put(self, array: npt.NDArray[Any]) -> Any:
        """A copy of a host array on the device; errors as in :meth:`allocate`."""
        there = self.empty(array.shape, array.dtype)
        if math.prod(array.shape):
            there.set(np.ascontiguousarray(array))
        return there

    def trim(self) -> int:
        """Give what no buffer uses back to the device; how many bytes that were."""
        with self._lock:
            before = self._managed()
            for pool in self._bins.values():
                pool.free_held()
            return before - self._managed()

    def statistics(self) -> DeviceStatistics:
        """Sizes and counts of this moment."""
        with self._lock:
            reserved = self._managed()
            held = sum(pool.held_blocks * self._sizes.alloc_size(number) for number, pool in self._bins.items())
            return DeviceStatistics(
                limit=self.limit,
                reserved=reserved,
                in_use=reserved - held,
                free=held,
                idle_blocks=sum(pool.held_blocks for pool in self._bins.values()),
                live=sum(pool.active_blocks for pool in self._bins.values()),
                peak_reserved=self._peak,
                refused=self._refused,
            )

    def close(self) -> DeviceStatistics:
        """Refuse further requests and hold nothing any more; buffers that are out stay valid. What is still out."""
        with self._lock:
            self._closed = True
            for pool in self._bins.values():
                pool.stop_holding()
        return self.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _managed(self) -> int:
        return sum(int(pool.managed_bytes) for pool in self._bins.values())

    def _make_room(self, size: int, rounded: int) -> None:
        """Check a request that no held block serves; drop held blocks where that helps. Under the lock."""
        largest = int(self._device.max_mem_alloc_size)
        if size > largest:
            self._refused += 1
            why = f"its largest buffer is {readable(largest)}"
            raise PoolExhausted("EDG710", f"the OpenCL device has no room for {readable(size)}", why=why)
        if self.limit is None:
            return
        for number in sorted(self._bins, reverse=True):
            if self._managed() + rounded <= self.limit:
                return
            self._bins[number].free_held()
        managed = self._managed()
        if managed + rounded <= self.limit:
            return
        self._refused += 1
        raise PoolExhausted(
            "EDG710",
            f"the OpenCL memory pool has no room for {readable(size)}",
            why=f"its limit is {readable(self.limit)}, {readable(managed)} are in use, the bin has {readable(rounded)}",
            help="release buffers, or give the pool a higher limit",
            details={"size": size, "limit": self.limit, "in_use": managed},
        )


def _import() -> Any:
    try:
        import pyopencl
        import pyopencl.tools
    except ImportError as error:
        raise EdgecError(
            "EDG013", "memory pools on OpenCL need pyopencl", why=str(error), help="pip install 'edgec[opencl]'"
        ) from error
    return pyopencl
