"""The free list against a brute-force model of the same memory: one flag per granule."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from edgec.runtime.memory.best_fit import BestFit

GRANULE = 64
ARENAS = ((1 << 20, 40), ((1 << 20) + 40 * GRANULE, 24), (1 << 22, 64))
"""Address and granules; the first two touch."""


class FreeList(RuleBasedStateMachine):
    """Takes and gives blocks in any order; the model knows every granule that is taken."""

    blocks = Bundle("blocks")

    def __init__(self) -> None:
        super().__init__()
        self.free_list = BestFit(GRANULE)
        self.arenas: dict[int, int] = {}
        self.taken: dict[int, int] = {}

    def free_runs(self) -> list[tuple[int, int]]:
        """Maximal runs of free granules inside each arena, (address, bytes)."""
        used = {address + step for address, size in self.taken.items() for step in range(0, size, GRANULE)}
        runs = []
        for start, granules in sorted(self.arenas.items()):
            run = 0
            for position in range(granules + 1):
                address = start + position * GRANULE
                if position < granules and address not in used:
                    run += 1
                elif run:
                    runs.append((address - run * GRANULE, run * GRANULE))
                    run = 0
        return runs

    @rule(index=st.integers(0, len(ARENAS) - 1))
    def add(self, index: int) -> None:
        address, granules = ARENAS[index]
        if address not in self.arenas:
            self.free_list.add(address, granules * GRANULE)
            self.arenas[address] = granules

    @rule(target=blocks, granules=st.integers(1, 20), exponent=st.integers(6, 11))
    def take(self, granules: int, exponent: int) -> object:
        size, alignment = granules * GRANULE, 1 << exponent
        fits = [run for start, run in self.free_runs() if -start % alignment + size <= run]
        address = self.free_list.take(size, alignment)
        if address is None:
            assert not fits, "there was room"
            return multiple()
        assert address % alignment == 0
        assert any(start <= address and address + size <= start + run for start, run in self.free_runs())
        used = next(run for start, run in self.free_runs() if start <= address < start + run)
        assert used == min(fits), "best fit takes the smallest block that holds it"
        self.taken[address] = size
        return address

    @rule(address=consumes(blocks))
    def give(self, address: int) -> None:
        self.free_list.give(address, self.taken.pop(address))

    @rule()
    def drop(self) -> None:
        idle = {start for start, run in self.free_runs() if self.arenas.get(start) == run // GRANULE}
        assert set(self.free_list.drop_idle()) == idle
        for start in idle:
            del self.arenas[start]

    @invariant()
    def free_blocks_are_the_maximal_runs(self) -> None:
        assert self.free_list.blocks == self.free_runs()
        assert self.free_list.free == sum(run for _, run in self.free_runs())
        assert self.free_list.largest == max((run for _, run in self.free_runs()), default=0)


FreeList.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFreeList = FreeList.TestCase


def test_arenas_that_touch_are_not_merged() -> None:
    free_list = BestFit(GRANULE)
    free_list.add(0, 1024)
    free_list.add(1024, 1024)
    assert free_list.blocks == [(0, 1024), (1024, 1024)]
    first, second = free_list.take(1024, GRANULE), free_list.take(1024, GRANULE)
    assert free_list.take(64, GRANULE) is None
    assert first is not None and second is not None
    free_list.give(first, 1024)
    free_list.give(second, 1024)
    assert free_list.blocks == [(0, 1024), (1024, 1024)]
    assert sorted(free_list.drop_idle()) == [0, 1024]
    assert free_list.blocks == []
