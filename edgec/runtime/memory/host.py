"""A pool of host memory that backs NumPy arrays."""

from __future__ import annotations

import contextlib
import math
import mmap
import operator
import os
import sys
import threading
import time
import warnings
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from edgec.errors import UsageError
from edgec.ir.types import Array
from edgec.runtime.memory.best_fit import BestFit
from edgec.runtime.memory.blocks import Arena, Core, Hold, Record, drop_from
from edgec.runtime.memory.report import Allocation, PoolExhausted, Statistics, readable

Extend = Literal["power-of-two", "same-as-requested"]

Source = Callable[[int], Any]
"""Takes bytes, returns a writable object with the buffer protocol that keeps its memory for as long as it lives."""


def private_pages(size: int) -> mmap.mmap:
    """Anonymous pages of this process alone: a child made by fork gets copies. The system commits them when touched."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class HostPool:
    """Aligned arrays out of a few large pieces of memory; best fit, coalescing at once, thread-safe.

    An array costs about five microseconds whatever its size.  That is far less than fresh pages cost at their first
    touch, and more than ``numpy.empty`` where malloc keeps what it was given back (docs/serving.md has figures).

    An array's memory comes back when the array and everything that looks into it (views, memoryviews, tensors of other
    libraries made without a copy) is gone, or on :meth:`release`.  It is never handed out again while something can
    still reach it.  What keeps no reference, such as the address given to a runtime's binding, must keep the array.

    Arrays outlive the pool: their memory stays valid when the pool is closed or collected first.

    Args:
        limit: most bytes to take from the system, arrays rounded up to the alignment included; None for no limit.
        alignment: power of two, bytes; arrays lie at its multiples and take up multiples of it.
        initial_chunk: bytes of the first arena, unless the first array needs more.
        extend: size of further arenas: "power-of-two" doubles what the pool has, "same-as-requested" adds what the
            array needs; the words are those of ONNX Runtime's arenas. Neither goes beyond the limit.
        keep: keep arenas that hold no array for the next one; False gives them back to the system at once.
        frames: callers to remember for every array (:meth:`leaks` shows them); 0 for none.
        source: where arenas come from; pinned memory, for example.

    Raises:
        UsageError: EDG712 for an argument out of range.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        alignment: int = 64,
        initial_chunk: int = 1 << 20,
        extend: Extend = "power-of-two",
        keep: bool = True,
        frames: int = 1,
        source: Source = private_pages,
    ):
        _check_power_of_two("alignment", alignment)
        for name, value in (("limit", limit), ("initial_chunk", initial_chunk), ("frames", frames)):
            if value is not None and value < 0:
                raise UsageError("EDG712", f"{name} of a memory pool cannot be negative", why=f"it is {value}")
        if extend not in ("power-of-two", "same-as-requested"):
            raise UsageError("EDG712", f"'{extend}' is no way to extend a pool", help="power-of-two, same-as-requested")
        self.limit = limit
        self.alignment = alignment
        self._initial_chunk, self._extend, self._frames, self._source = initial_chunk, extend, frames, source
        self._keep = keep
        self._lock = threading.RLock()
        self._inside = False  # under the lock: a finalizer or signal handler finds its own thread at work here
        self._blocks = BestFit(alignment)
        self._arenas: dict[int, Arena] = {}  # by the first usable address
        self._arena_starts: list[int] = []  # sorted
        self._records: dict[int, Record] = {}  # by the address of the block
        self._by_identity: dict[int, Record] = {}  # by id() of the array that the caller has
        self._dead: deque[Core] = deque()  # filled by weak references in any thread, even inside our own lock
        self._held: dict[int, Hold] = {}
        self._postponed: deque[Array] = deque()  # released from within another call of the same thread
        self._closed = False
        self._in_use = self._requested = self._reserved = self._peak_in_use = self._peak_reserved = 0
        self._allocations = self._returns = self._grown = self._refused = 0
        with _fork_lock:
            _pools.add(self)

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike, alignment: int | None = None) -> Array:
        """An uninitialised, C-contiguous, writable array in the pool.

        Args:
            shape: extents; an array without elements takes up one unit of the alignment.
            dtype: any dtype without Python objects.
            alignment: power of two, bytes, where the pool's own is not enough.

        Raises:
            PoolExhausted: EDG710 (a MemoryError too) where the limit does not leave enough, or the system has no more.
            UsageError: EDG711 when the pool is closed, or at work in this thread already (in a finalizer or signal
                handler); EDG712 for a shape that no array can have, an alignment that is no power of two, or a dtype
                that holds objects.
        """
        extents = _extents(shape)
        element = np.dtype(dtype)
        if element.hasobject:
            raise UsageError("EDG712", f"arrays of {element} cannot lie in a pool", why="they hold Python objects")
        if alignment is None:
            alignment = self.alignment
        else:
            _check_power_of_two("alignment", alignment)
        requested = math.prod(extents) * element.itemsize
        size = max(1, -(-requested // self.alignment)) * self.alignment
        where = _callers(self._frames)
        with self._lock:
            if self._inside:
                raise _at_work()
            self._inside = True
            try:
                self._collect()
                if self._closed:
                    raise UsageError("EDG711", "the memory pool is closed", help="allocate before close()")
                address = self._take(size, max(alignment, self.alignment))
                try:
                    arena = self._arenas[self._arena_starts[bisect_right(self._arena_starts, address) - 1]]
                    core = np.ndarray(extents, element, arena.memory, address - arena.address)
                    # Views of `array` get `core` as their base: whoever lives longest keeps `core`, and so the block.
                    array = core.view()
                    record = Record(address, size, requested, extents, element, where, array)
                except BaseException as error:
                    self._blocks.give(address, size)
                    if isinstance(error, ValueError):
                        raise _impossible(extents, str(error)) from error
                    raise
                record.core = Core(core, self._dead.append)
                record.core.record = record
                self._records[address] = record
                self._by_identity[record.identity] = record
                self._in_use += size
                self._requested += requested
                self._allocations += 1
                self._peak_in_use = max(self._peak_in_use, self._in_use)
            finally:
                self._inside = False
        return array

    def release(self, array: Array) -> bool:
        """Give an array back by name.  The array itself becomes empty, shape (0,), so that it cannot be used after.

        Returns:
            True when the memory is free again. False when something else refers to the array or looks into its memory:
            that stays valid, and the memory returns with the last of it; :attr:`Statistics.waiting` counts it. False
            also in a finalizer or signal handler that came in the middle of another call: the next call does it.

        Raises:
            UsageError: EDG711 for an array of another pool, a view, or an array that was released before.
        """
        with self._lock:
            if self._inside:  # a finalizer or signal handler, in the middle of another call of this thread
                self._record_of(array)
                self._postponed.append(array)
                return False
            self._inside = True
            try:
                self._collect()
                record = self._record_of(array)
                self._give_up(array, record, _ONE_OWNER)
                self._collect()
                return record.address not in self._records or self._records[record.address] is not record
            finally:
                self._inside = False

    def trim(self) -> int:
        """Return arenas that hold no array to the system; how many bytes that were."""
        with self._alone():
            self._collect()
            return self._trim()

    def statistics(self) -> Statistics:
        """Sizes and counts of this moment."""
        with self._alone():
            self._collect()
            free, largest = self._blocks.free, self._blocks.largest
            return Statistics(
                limit=self.limit,
                reserved=self._reserved,
                in_use=self._in_use,
                requested=self._requested,
                waiting=sum(record.size for record in self._records.values() if record.released),
                free=free,
                largest_free=largest,
                fragmentation=1 - largest / free if free else 0.0,
                peak_in_use=self._peak_in_use,
                peak_reserved=self._peak_reserved,
                arenas=len(self._arenas),
                live=len(self._records),
                allocations=self._allocations,
                returns=self._returns,
                grown=self._grown,
                refused=self._refused,
            )

    def reset_peak(self) -> None:
        """Let the peaks start from what is in use now."""
        with self._alone():
            self._collect()
            self._peak_in_use, self._peak_reserved = self._in_use, self._reserved

    def leaks(self) -> list[Allocation]:
        """Every array whose memory has not come back, the oldest first."""
        now = time.monotonic()
        with self._alone():
            self._collect()
            records = list(self._records.values())
        return [record.describe(now) for record in sorted(records, key=lambda record: record.since)]

    def owns(self, array: Array) -> bool:
        """Whether all bytes of the array lie in the pool's arenas."""
        low = high = int(array.__array_interface__["data"][0])
        if array.size:
            reaches = [stride * (extent - 1) for extent, stride in zip(array.shape, array.strides)]
            low, high = low + sum(min(0, reach) for reach in reaches), high + sum(max(0, reach) for reach in reaches)
            high += array.itemsize
        with self._alone():
            position = bisect_right(self._arena_starts, low) - 1
            if position < 0:
                return False
            start = self._arena_starts[position]
            return bool(high <= start + self._arenas[start].size)

    def close(self) -> list[Allocation]:
        """Refuse further allocations and return idle arenas; arrays that are out stay valid.

        Returns:
            What :meth:`leaks` says.
        """
        with self._alone():
            self._closed, self._keep = True, False
            self._collect()
            self._trim()
        return self.leaks()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; arrays still out are a ResourceWarning, except after an error, whose traceback may hold them."""
        leaked = self.close()
        if leaked and kind is None:
            lines = "\n".join(f"  {allocation}" for allocation in leaked)
            warnings.warn(f"{len(leaked)} arrays are still out:\n{lines}", ResourceWarning, stacklevel=2)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self._inside:
                raise _at_work()
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def _record_of(self, array: Array) -> Record:
        record = self._by_identity.get(id(array))
        if record is None or record.array() is not array:
            why = "it is a view" if isinstance(array.base, np.ndarray) else "it is none of its arrays"
            raise UsageError(
                "EDG711", "the memory pool cannot take this array back", why=f"{why}, or was released before"
            )
        return record

    def _give_up(self, array: Array, record: Record, owners: int) -> None:
        """Empty an array, and keep its block for as long as anything else may look into it; under the lock.

        Args:
            owners: references to the array, as counted here, that surely look into nothing; with 0 the block is kept as
                long as the array.
        """
        del self._by_identity[record.identity]
        record.released = True
        core = array.base
        array.__setstate__((1, (0,), array.dtype, False, b""))  # type: ignore[arg-type,unused-ignore]
        if sys.getrefcount(array) > owners:
            # Some of them may be buffers that were exported before.
            hold = Hold(array, drop_from(self._held))
            hold.core = core
            self._held[id(hold)] = hold

    def _collect(self) -> None:
        """Free the blocks whose arrays died or were released since; under the lock."""
        while self._postponed:
            array = self._postponed.popleft()
            record = self._by_identity.get(id(array))
            if record is not None and record.array() is array:  # else released twice
                self._give_up(array, record, owners=0)
            del array
        returned = False
        while self._dead:
            record = self._dead.popleft().record
            del record.core  # ends the cycle of the two
            del self._records[record.address]
            if self._by_identity.get(record.identity) is record:
                del self._by_identity[record.identity]
            self._blocks.give(record.address, record.size)
            self._in_use -= record.size
            self._requested -= record.requested
            self._returns += 1
            returned = True
        if returned and not self._keep:
            self._trim()

    def _take(self, size: int, alignment: int) -> int:
        """The address of a block, from a new arena where none has room; under the lock."""
        address = self._blocks.take(size, alignment)
        if address is not None:
            return address
        self._grow(size, alignment)
        address = self._blocks.take(size, alignment)
        assert address is not None, "an arena made for a block holds it"
        return address

    def _grow(self, size: int, alignment: int) -> None:
        page = mmap.PAGESIZE if self._source is private_pages else 1
        needed = size + (alignment if alignment > page else 0)
        if not self._room(needed):
            self._trim()
            if not self._room(needed):
                self._refused += 1
                raise self._exhausted(size)
        wanted = needed
        if not self._arenas:
            wanted = max(needed, self._initial_chunk)
        elif self._extend == "power-of-two":
            wanted = max(needed, self._reserved)
        wanted = -(-wanted // mmap.PAGESIZE) * mmap.PAGESIZE
        if self.limit is not None:
            wanted = min(wanted, self.limit - self._reserved)
        arena = self._arena(wanted, -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._arenas[arena.start] = arena
        insort(self._arena_starts, arena.start)
        self._blocks.add(arena.start, arena.size)
        self._reserved += arena.reserved
        self._peak_reserved = max(self._peak_reserved, self._reserved)
        self._grown += 1

    def _arena(self, wanted: int, least: int) -> Arena:
        """A new arena; the smallest that will do, where the system does not have the one that was wanted."""
        try:
            return Arena(self._source(wanted), wanted, self.alignment)
        except (MemoryError, OSError, OverflowError) as error:
            self._trim()
            if least < wanted:
                return self._arena(least, least)
            self._refused += 1
            why = f"{readable(wanted)} more are not to be had: {error}"
            raise PoolExhausted("EDG710", "the memory pool cannot grow", why=why) from error

    def _room(self, needed: int) -> bool:
        return self.limit is None or self._reserved + needed <= self.limit

    def _trim(self) -> int:
        returned = 0
        for start in self._blocks.drop_idle():
            returned += self._arenas.pop(start).reserved
            self._arena_starts.remove(start)
        self._reserved -= returned
        return returned

    def _exhausted(self, size: int) -> PoolExhausted:
        assert self.limit is not None
        free, largest = self._blocks.free, self._blocks.largest
        used = f"{len(self._records)} arrays have {readable(self._in_use)}"
        pieces = f", {readable(free)} are free in pieces of up to {readable(largest)}" if free else ""
        return PoolExhausted(
            "EDG710",
            f"the memory pool has no room for {readable(size)}",
            why=f"its limit is {readable(self.limit)}, {used}{pieces}",
            help="release arrays, or give the pool a higher limit; leaks() lists who has the memory",
            details={"size": size, "limit": self.limit, "in_use": self._in_use, "largest_free": largest},
        )


class _Counter:
    """Counts as :meth:`HostPool.release` does, for an array that one local name has."""

    def release(self, array: object) -> int:
        return self._give_up(array)

    def _give_up(self, array: object) -> int:
        return sys.getrefcount(array)


def _one_owner() -> int:
    name = object()
    return _Counter().release(name)


_ONE_OWNER = _one_owner()
"""``sys.getrefcount`` below ``release`` of an array with one owner; interpreters count the call itself differently."""


def _at_work() -> UsageError:
    """Finalizers and signal handlers run wherever Python happens to be, here too, and would find things half done."""
    return UsageError(
        "EDG711",
        "the memory pool is at work in this thread",
        why="a finalizer or signal handler called it in the middle of another call",
        help="only release() can be called from there",
    )


def _impossible(extents: tuple[int, ...], why: str) -> UsageError:
    return UsageError("EDG712", f"an array cannot have the shape {extents}", why=why)


def _extents(shape: int | Sequence[int]) -> tuple[int, ...]:
    extents = (shape,) if type(shape) is int else _several(shape)
    if extents and min(extents) < 0:
        raise UsageError("EDG712", f"an array cannot have the shape {extents}", why="an extent is negative")
    return extents


def _several(shape: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(shape, (int, np.integer)):
        return (int(shape),)
    return tuple(map(operator.index, shape))


def _check_power_of_two(name: str, value: int) -> None:
    if value < 1 or value & (value - 1):
        raise UsageError("EDG712", f"{name} must be a power of two", why=f"it is {value}")


def _callers(count: int) -> tuple[tuple[str, int, str], ...]:
    """File, line and function of the callers of the pool's method."""
    if not count:
        return ()
    found: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(found) < count:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(found)


# A child made by fork gets pools in which no other thread was at work.
_pools: weakref.WeakSet[HostPool] = weakref.WeakSet()
_fork_lock = threading.RLock()  # also for new pools: one made while a fork is under way waits for its end
_forking: list[HostPool] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    while True:
        try:
            pools = list(_pools)
            break
        except RuntimeError:  # a finalizer of this thread made one more meanwhile
            continue
    for pool in pools:
        pool._lock.acquire()
        _forking.append(pool)


def _after_fork() -> None:
    while _forking:
        _forking.pop()._lock.release()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
