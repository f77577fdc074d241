"""Memory of an NVIDIA GPU with a limit, over CuPy's pool, and pinned host memory for fast transfers.

Source: CuPy documentation, "Memory Management" (``cupy.cuda.MemoryPool``, ``alloc_pinned_memory``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgec.errors import EdgecError, UsageError
from edgec.ir.types import Array
from edgec.runtime.memory.host import Source
from edgec.runtime.memory.report import DeviceStatistics, PoolExhausted, readable


class CupyPool:
    """Arrays of one GPU; they return to the pool when they are collected.

    It is a pool of its own: CuPy's default pool, and what other libraries have on the GPU, do not count.

    Args:
        limit: most bytes on the GPU, those that the pool keeps for the next array included; None for no limit.
        device: number of the GPU as CUDA counts.

    Raises:
        EdgecError: EDG013 without CuPy; EDG521 when there is no such GPU.
        UsageError: EDG712 for a limit below 1.
    """

    def __init__(self, limit: int | None = None, *, device: int = 0):
        if limit is not None and limit < 1:
            raise UsageError("EDG712", "the limit of a device pool must be at least 1", why=f"it is {limit}")
        self._cupy = _import()
        self.limit = limit
        self._closed = False
        self._peak = self._refused = 0
        try:
            count = int(self._cupy.cuda.runtime.getDeviceCount())
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            raise EdgecError("EDG521", "no NVIDIA GPU answers", why=str(error), help="edgec devices") from error
        if not 0 <= device < count:
            raise EdgecError("EDG521", f"there is no NVIDIA GPU {device}", why=f"CUDA counts {count}")
        self._device = self._cupy.cuda.Device(device)
        self._pool = self._cupy.cuda.MemoryPool()
        with self._device:  # CuPy's limits are per device
            self._pool.set_limit(size=limit or 0)

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike) -> Any:
        """An uninitialised ``cupy.ndarray``, at a multiple of 512 bytes.

        Raises:
            PoolExhausted: EDG710 where limit or GPU leave no room.
            UsageError: EDG711 when the pool is closed.
        """
        with self.active():
            return self._cupy.empty(shape, np.dtype(dtype))

    def put(self, array: Array) -> Any:
        """A copy of a host array on the GPU; errors as in :meth:`empty`."""
        with self.active():
            return self._cupy.asarray(array)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let everything that this thread allocates with CuPy come from the pool; errors as in :meth:`empty`."""
        if self._closed:
            raise UsageError("EDG711", "the memory pool is closed", help="allocate before close()")
        try:
            with self._device, self._cupy.cuda.using_allocator(self._pool.malloc):
                yield
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            self._refused += 1
            limit = f"its limit is {readable(self.limit)}, " if self.limit is not None else ""
            raise PoolExhausted(
                "EDG710",
                "the GPU memory pool has no room",
                why=f"{limit}{readable(int(self._pool.used_bytes()))} are in use; CuPy says: {error}",
                help="drop arrays, or give the pool a higher limit",
                details={"limit": self.limit, "in_use": int(self._pool.used_bytes())},
            ) from error
        finally:
            self._peak = max(self._peak, int(self._pool.total_bytes()))

    def trim(self) -> int:
        """Give what no array uses back to the GPU; how many bytes that were."""
        with self._device:
            before = int(self._pool.total_bytes())
            self._pool.free_all_blocks()
            return before - int(self._pool.total_bytes())

    def statistics(self) -> DeviceStatistics:
        """Sizes and counts of this moment; CuPy does not count the arrays that are out."""
        with self._device:
            return DeviceStatistics(
                limit=self.limit,
                reserved=int(self._pool.total_bytes()),
                in_use=int(self._pool.used_bytes()),
                free=int(self._pool.free_bytes()),
                idle_blocks=int(self._pool.n_free_blocks()),
                live=None,
                peak_reserved=self._peak,
                refused=self._refused,
            )

    def close(self) -> DeviceStatistics:
        """Refuse further arrays and keep nothing; arrays that are out stay valid. What is still out."""
        self._closed = True
        self.trim()
        return self.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pinned_source() -> Source:
    """Where a host pool gets page-locked arenas from, which CUDA copies to and from directly and asynchronously.

    ``HostPool(limit, source=pinned_source())``.  Page-locked memory cannot be swapped out: give a limit.

    Raises:
        EdgecError: EDG013 without CuPy.
    """
    cupy = _import()

    def source(size: int) -> Any:
        try:
            return cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(size), 0)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise MemoryError(str(error)) from error

    return source


def _import() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise EdgecError(
            "EDG013", "memory pools on NVIDIA GPUs need CuPy", why=str(error), help="pip install cupy-cuda13x"
        ) from error
    return cupy
