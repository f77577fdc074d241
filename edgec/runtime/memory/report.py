"""What pools say about themselves: statistics, outstanding allocations, and running out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgec.errors import EdgecError


class PoolExhausted(EdgecError, MemoryError):
    """EDG710: an allocation would exceed the pool's limit, or the system has no memory left."""


@dataclass(frozen=True)
class Allocation:
    """An array that has not come back.

    ``size`` is in bytes, rounded up to the pool's alignment; ``where`` lists ``file:line function``, innermost first.
    """

    address: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    released: bool
    age_s: float
    where: tuple[str, ...]

    def __str__(self) -> str:
        state = "released, but still viewed" if self.released else "in use"
        place = f", allocated at {' < '.join(self.where)}" if self.where else ""
        shape = "x".join(str(extent) for extent in self.shape) or "scalar"
        return f"{self.size} bytes at {self.address:#x} ({shape} {self.dtype}), {state} for {self.age_s:.1f} s{place}"


@dataclass(frozen=True)
class Statistics:
    """One moment of a pool; sizes in bytes.

    Attributes:
        limit: most bytes that the pool may reserve, None for no limit.
        reserved: bytes taken from the system; in_use + free.
        in_use: bytes of arrays that are out, each rounded up to the alignment; includes ``waiting``.
        requested: the same arrays, as asked for.
        waiting: bytes that were released by name and return with the last view of them.
        free: reserved bytes that no array has.
        largest_free: largest free block; the largest array that needs no new arena.
        fragmentation: 1 - largest_free / free: 0 when all free memory is one block.
        peak_in_use, peak_reserved: highest values since the pool was made or :meth:`HostPool.reset_peak`.
        arenas: pieces that the pool took from the system.
        live: arrays that are out.
        allocations, returns: arrays handed out, and arrays whose memory came back, since the pool was made.
        grown: how often an allocation had to take an arena from the system.
        refused: allocations that ended in EDG710.
    """

    limit: int | None
    reserved: int
    in_use: int
    requested: int
    waiting: int
    free: int
    largest_free: int
    fragmentation: float
    peak_in_use: int
    peak_reserved: int
    arenas: int
    live: int
    allocations: int
    returns: int
    grown: int
    refused: int

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class DeviceStatistics:
    """One moment of a pool on a device; sizes in bytes.

    Attributes:
        limit: most bytes that the pool may reserve, None for no limit.
        reserved: bytes taken from the device; in_use + free.
        in_use: bytes of the blocks that are out.
        free: bytes that the pool keeps for the next request.
        idle_blocks: how many blocks that is.
        live: blocks that are out, None where the library does not count them.
        peak_reserved: highest reserved.
        refused: requests that ended in EDG710.
    """

    limit: int | None
    reserved: int
    in_use: int
    free: int
    idle_blocks: int
    live: int | None
    peak_reserved: int
    refused: int

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def readable(size: int) -> str:
    """A size for a person: 1536 -> '1.5 KiB'."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
