"""The arrays of a binding: taken from a pool, given back together."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edgec.errors import UsageError
from edgec.ir.types import Array
from edgec.runtime.session import Pool

ALIGNMENT: Final = 64
"""Bytes: a cache line, and what LiteRT asks of host memory."""


class Buffers:
    """Arrays of one pool; without a pool, NumPy makes them."""

    def __init__(self, pool: Pool | None):
        self._pool = pool
        self._arrays: list[Array] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], spare: int = 0) -> Array:
        """An uninitialised array, with at least ``spare`` bytes behind it.

        Raises:
            UsageError: EDG040 for strings.
            PoolExhausted: EDG710 where the pool says so.
        """
        if dtype == np.dtype(object):
            raise UsageError("EDG040", "strings have no fixed size and cannot be bound", help="call run(feeds)")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self._pool is not None and not spare:
            array = self._pool.empty(shape, dtype, ALIGNMENT)
            self._arrays.append(array)
            return array
        if self._pool is not None:
            whole = self._pool.empty(size + spare, np.uint8, ALIGNMENT)
            self._arrays.append(whole)
        else:
            whole = np.empty(size + spare + ALIGNMENT, np.uint8)
            whole = whole[-whole.ctypes.data % ALIGNMENT :]
        return whole[:size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Give all arrays back."""
        while self._arrays:
            array = self._arrays.pop()
            if self._pool is not None:
                self._pool.release(array)
