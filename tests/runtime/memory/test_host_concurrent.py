"""The host pool under many threads and under any order of calls."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from edgec.runtime.memory import HostPool, PoolExhausted

LIMIT = 1 << 18


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


class Holding(RuleBasedStateMachine):
    """Arrays that are filled with their own number keep it, whatever else is allocated, viewed or released."""

    arrays = Bundle("arrays")
    views = Bundle("views")

    def __init__(self) -> None:
        super().__init__()
        self.pool = HostPool(limit=LIMIT, initial_chunk=1 << 14)
        self.living: dict[int, tuple[int, int, int]] = {}  # number -> address, size, arrays and views left
        self.number = 0

    @rule(target=arrays, size=st.integers(0, 40_000), exponent=st.integers(0, 13))
    def allocate(self, size: int, exponent: int) -> object:
        try:
            array = self.pool.empty(size, np.uint8, alignment=1 << exponent)
        except PoolExhausted:
            assert size + self.pool.statistics().in_use + 4096 + 8192 > LIMIT / 8
            return multiple()
        self.number = self.number % 250 + 1
        while self.number in self.living:
            self.number = self.number % 250 + 1
        assert address(array) % max(64, 1 << exponent) == 0
        start, end = address(array), address(array) + max(1, size)
        for place, length, _ in self.living.values():
            assert end <= place or place + length <= start, "two living arrays overlap"
        array[:] = self.number
        self.living[self.number] = (start, max(1, size), 1)
        return (self.number, [array])

    def _less(self, number: int) -> None:
        place, size, left = self.living[number]
        if left == 1:
            del self.living[number]
        else:
            self.living[number] = (place, size, left - 1)

    @rule(target=views, entry=arrays, start=st.integers(0, 100))
    def view(self, entry: tuple[int, list[np.ndarray]], start: int) -> object:
        number, box = entry
        place, size, left = self.living[number]
        self.living[number] = (place, size, left + 1)
        return (number, [box[0][start:]])

    @rule(entry=consumes(arrays))
    def drop(self, entry: tuple[int, list[np.ndarray]]) -> None:
        entry[1].clear()
        self._less(entry[0])

    @rule(entry=consumes(arrays))
    def release(self, entry: tuple[int, list[np.ndarray]]) -> None:
        number, box = entry
        array = box.pop()
        assert self.pool.release(array) == (self.living[number][2] == 1)
        assert array.size == 0
        self._less(number)

    @rule(entry=consumes(views))
    def drop_view(self, entry: tuple[int, list[np.ndarray]]) -> None:
        assert (entry[1][0] == entry[0]).all(), "memory was handed out while a view could still reach it"
        entry[1].clear()
        self._less(entry[0])

    @rule()
    def trim(self) -> None:
        self.pool.trim()

    @invariant()
    def statistics_agree(self) -> None:
        found = self.pool.statistics()
        assert found.live == len(self.living)
        assert found.in_use == sum(-(-size // 64) * 64 for _, size, _ in self.living.values())
        assert found.reserved == found.in_use + found.free <= LIMIT


Holding.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHolding = Holding.TestCase


def test_threads_never_share_memory_and_all_of_it_comes_back_as_one_block() -> None:
    """8 threads allocate, check, view, release and hand over to each other for a while."""
    pool = HostPool(limit=1 << 23, initial_chunk=1 << 23)
    errors: list[str] = []
    shelf: list[tuple[int, np.ndarray]] = []
    shelf_lock = threading.Lock()
    stop = time.monotonic() + 2.0

    def work(seed: int) -> None:
        chance = random.Random(seed)
        mine: list[tuple[int, np.ndarray]] = []
        while time.monotonic() < stop and not errors:
            action = chance.random()
            if action < 0.5:
                try:
                    array = pool.empty(chance.randrange(20_000), np.uint8, alignment=1 << chance.randrange(13))
                except PoolExhausted:
                    mine.clear()
                    continue
                tag = chance.randrange(256)
                array[:] = tag
                mine.append((tag, array[:] if action < 0.1 else array))
                del array
            elif mine:
                tag, array = mine.pop(chance.randrange(len(mine)))
                if not (array == tag).all():
                    errors.append(f"thread {seed} lost its bytes")
                if action < 0.6 and array.base is not None and not isinstance(array.base.base, np.ndarray):
                    with shelf_lock:
                        shelf.append((tag, array))
                        if len(shelf) > 50:
                            mine.append(shelf.pop(0))
                del array

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for tag, array in shelf:
        assert (array == tag).all()
        del array
    shelf.clear()
    found = pool.statistics()
    assert found.live == 0 and found.in_use == 0
    assert found.allocations == found.returns > 1000
    assert found.largest_free == found.free == found.reserved, "all free memory coalesces into one block per arena"


def test_concurrent_releases_of_one_array_succeed_once() -> None:
    pool = HostPool()
    for _ in range(200):
        array = pool.empty(64, np.uint8)
        outcomes: list[str] = []
        barrier = threading.Barrier(4)

        def give(array: np.ndarray = array, barrier: threading.Barrier = barrier, found: list[str] = outcomes) -> None:
            barrier.wait()
            try:
                pool.release(array)
                found.append("released")
            except ValueError:
                raise
            except Exception as error:
                found.append(type(error).__name__)

        threads = [threading.Thread(target=give) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["UsageError"] * 3 + ["released"]
        del array, give, threads
    assert pool.statistics().in_use == 0
