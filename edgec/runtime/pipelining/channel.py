"""A bounded queue between two stages that hands items on in the order of their numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

HEARTBEAT_S = 2.0
"""A worker without work looks this often whether its pipeline was forgotten, should it have missed the call."""


TOGETHER = 4
"""Places that are filled in one go at most."""

SLOW_S = 0.005
"""Where items leave in longer intervals, those who wait for room do not wait for more of it."""


@dataclass(frozen=True)
class Depth:
    """Items in a channel: now, at most, and on average since the first one came."""

    now: int
    largest: int
    mean: float


class Channel(Generic[T]):
    """Items enter in any order and leave in the order of their numbers, none of which is left out.

    An item may enter only when fewer than ``capacity`` numbers lie between it and the next one to leave.  The next one
    can therefore always enter, so producers that wait for room never wait for each other.

    Those who wait for room are woken when some of it is free, or when nothing can leave before one of them enters: so a
    full queue costs a change of threads for every few items and not for each.  Where items leave so slowly that this
    is nothing, they are woken for each.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._low = capacity - max(1, min(capacity // 2, TOGETHER))
        self._taken = 0.0  # when the last item left
        self._blocked = self._starved = 0  # how many wait for room, and for an item
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._ready = threading.Condition(self._lock)
        self._items: dict[int, T] = {}
        self._next_in = self._next_out = 0
        self._end: int | None = None
        self._abandoned = False
        self._largest = 0
        self._area = 0.0
        self._since = self._first = 0.0

    def append(self, item: T, timeout: float | None, entering: Callable[[int], None]) -> bool:
        """Enter an item behind all others; ``entering`` is told its number before anybody can take it.

        Returns:
            False when there was no room in time or the end was set.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while self._end is None and self._next_in >= self._next_out + self.capacity:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._wait_for_room(left)
            if self._end is not None:
                return False
            entering(self._next_in)
            self._enter(self._next_in, item)
            self._next_in += 1
            return True

    def put(self, number: int, item: T) -> None:
        """Enter an item with a number, as soon as there is room."""
        with self._lock:
            while number >= self._next_out + self.capacity:
                self._wait_for_room(None)
            self._enter(number, item)

    def get(self) -> tuple[int, T] | None:
        """Take the next item; None behind the end."""
        with self._lock:
            while self._next_out not in self._items:
                if self._abandoned and self._end is None:
                    self._end = self._next_in
                if self._end is not None and self._next_out >= self._end:
                    self._wake()
                    return None
                self._starved += 1
                try:
                    self._ready.wait(HEARTBEAT_S)
                finally:
                    self._starved -= 1
            self._measure()
            number = self._next_out
            item = self._items.pop(number)
            self._next_out += 1
            follows = self._next_out in self._items
            slow, self._taken = self._since - self._taken > SLOW_S, self._since
            if self._blocked and (slow or len(self._items) <= self._low or not follows):
                self._room.notify_all()
            if self._starved and (follows or self._next_out == self._end):
                self._ready.notify_all()
            return number, item

    @property
    def ended(self) -> bool:
        """Whether nothing more can be appended."""
        return self._end is not None

    def close(self) -> int:
        """Let nothing more be appended; how many items were. Called again, it changes nothing."""
        with self._lock:
            if self._end is None:
                self._end = self._next_in
            self._wake()
            return self._end

    def end_at(self, number: int) -> None:
        """Say that this number will not come, nor any behind it."""
        with self._lock:
            self._end = number
            self._wake()

    def abandon(self) -> None:
        """Close without waiting for the lock: the garbage collector may call this in a thread that has it."""
        self._abandoned = True
        if self._lock.acquire(blocking=False):
            self._ready.notify_all()
            self._lock.release()

    def depth(self) -> Depth:
        """How many items wait."""
        with self._lock:
            self._measure()
            elapsed = self._since - self._first
            return Depth(len(self._items), self._largest, self._area / elapsed if elapsed else 0.0)

    def _wait_for_room(self, seconds: float | None) -> None:
        self._blocked += 1
        try:
            self._room.wait(seconds)
        finally:
            self._blocked -= 1

    def _enter(self, number: int, item: T) -> None:
        self._measure()
        self._items[number] = item
        if len(self._items) > self._largest:
            self._largest = len(self._items)
        if self._starved and number == self._next_out:
            self._ready.notify()

    def _wake(self) -> None:
        self._room.notify_all()
        self._ready.notify_all()

    def _measure(self) -> None:
        now = time.monotonic()
        if self._first == 0.0:
            self._first = self._since = now
        self._area += len(self._items) * (now - self._since)
        self._since = now
