"""As much of CuPy as the GPU pool calls, on the host: it tests our logic, not CuPy's and not CUDA.

What a GPU does with the pool is tested by test_cuda.py where there is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

BLOCK = 512


class OutOfMemoryError(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


class CUDARuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


class MemoryPool:
    """Counts bytes in blocks of 512, keeps what comes back, obeys set_limit."""

    def __init__(self) -> None:
        self.used = self.kept = self.limit = 0

    def set_limit(self, size: int = 0) -> None:
        self.limit = size

    def malloc(self, size: int) -> Any:
        rounded = -(-size // BLOCK) * BLOCK
        if self.kept >= rounded:
            self.kept -= rounded
        elif self.limit and self.used + self.kept + rounded > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {rounded} bytes (limit set to: {self.limit} bytes).")
        self.used += rounded
        return _Pointer(self, rounded)

    def used_bytes(self) -> int:
        return self.used

    def free_bytes(self) -> int:
        return self.kept

    def total_bytes(self) -> int:
        return self.used + self.kept

    def n_free_blocks(self) -> int:
        return int(self.kept > 0)

    def free_all_blocks(self) -> None:
        self.kept = 0


class _Pointer:
    def __init__(self, pool: MemoryPool, size: int) -> None:
        self.pool, self.size = pool, size

    def __del__(self) -> None:
        self.pool.used -= self.size
        self.pool.kept += self.size


class Module:
    """The module object."""

    def __init__(self, devices: int = 1) -> None:
        self.allocator: Callable[[int], Any] | None = None
        self.entered: list[int] = []
        self.cuda = SimpleNamespace(
            MemoryPool=MemoryPool,
            Device=self._device,
            using_allocator=self._using,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=SimpleNamespace(getDeviceCount=self._count, CUDARuntimeError=CUDARuntimeError),
            PinnedMemory=bytearray,
            PinnedMemoryPointer=lambda memory, offset: memory,
        )
        self.devices = devices

    def _count(self) -> int:
        if not self.devices:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return self.devices

    def _device(self, number: int) -> Any:
        @contextlib.contextmanager
        def current() -> Iterator[None]:
            self.entered.append(number)
            yield

        class Device:
            def __enter__(self) -> None:
                self.manager = current()
                self.manager.__enter__()

            def __exit__(self, *error: Any) -> None:
                self.manager.__exit__(None, None, None)

        return Device()

    @contextlib.contextmanager
    def _using(self, allocator: Callable[[int], Any]) -> Iterator[None]:
        self.allocator, before = allocator, self.allocator
        try:
            yield
        finally:
            self.allocator = before

    def empty(self, shape: Any, dtype: Any) -> Any:
        assert self.allocator is not None, "an array was made outside the pool"
        array = SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
        array.data = self.allocator(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return array

    def asarray(self, array: Any) -> Any:
        return self.empty(array.shape, array.dtype)
