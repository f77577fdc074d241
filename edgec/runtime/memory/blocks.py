"""What a host pool knows of its arenas and of the arrays that are out."""

from __future__ import annotations

import mmap
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.ir.types import Array
from edgec.runtime.memory.report import Allocation


class Arena:
    """One piece of memory; ``start`` is its first aligned address, ``size`` what lies behind it, in bytes."""

    __slots__ = ("address", "memory", "reserved", "size", "start")

    def __init__(self, memory: Any, reserved: int, alignment: int):
        view = np.frombuffer(memory, np.uint8)
        self.memory = memory
        self.reserved = reserved
        self.address = int(view.__array_interface__["data"][0])
        padding = -self.address % alignment if self.address % mmap.PAGESIZE else 0
        self.start = self.address + padding
        self.size = (min(reserved, view.size) - padding) // alignment * alignment


class Record:
    """What the pool knows of an array that is out; ``array`` refers weakly to it."""

    __slots__ = (
        "address",
        "array",
        "core",
        "dtype",
        "identity",
        "released",
        "requested",
        "shape",
        "since",
        "size",
        "where",
    )
    core: Core

    def __init__(
        self,
        address: int,
        size: int,
        requested: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        where: tuple[tuple[str, int, str], ...],
        array: Array,
    ):
        self.address, self.size, self.requested = address, size, requested
        self.shape, self.dtype, self.where = shape, dtype, where
        self.array = weakref.ref(array)
        self.identity = id(array)
        self.released = False
        self.since = time.monotonic()

    def describe(self, now: float) -> Allocation:
        where = tuple(f"{file}:{line} {function}" for file, line, function in self.where)
        return Allocation(
            self.address, self.size, self.shape, self.dtype, self.released, max(0.0, now - self.since), where
        )


class Core(weakref.ref[Array]):
    """Refers to the hidden array that all views share; when that dies, nothing can reach the block any more."""

    __slots__ = ("record",)
    record: Record


class Hold(weakref.ref[Array]):
    """Keeps a block for as long as a released array has owners besides the caller's name."""

    __slots__ = ("core",)
    core: Any


def drop_from(held: dict[int, Hold]) -> Callable[[Hold], object]:
    return lambda hold: held.pop(id(hold), None)
