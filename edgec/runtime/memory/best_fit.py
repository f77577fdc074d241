"""Which addresses are free: best fit with immediate coalescing, over arenas that may lie anywhere.

Pure bookkeeping on integers; no memory is touched here, and nothing here is thread-safe.
Source: Knuth, The Art of Computer Programming 1, section 2.5 (best fit; boundary tags, here as two dictionaries).
"""

from __future__ import annotations

from bisect import bisect_left, insort


class BestFit:
    """The free blocks of a set of arenas.

    Addresses and sizes are bytes and multiples of ``granule``.  Blocks are never merged across arenas, even where two
    arenas happen to touch.

    Args:
        granule: power of two; every size given to :meth:`take` is a multiple of it.
    """

    def __init__(self, granule: int):
        self.granule = granule
        self._arenas: dict[int, int] = {}  # address -> bytes
        self._sizes: list[tuple[int, int]] = []  # (bytes, address) of every free block, sorted
        self._starts: dict[int, int] = {}  # address -> bytes of a free block
        self._ends: dict[int, int] = {}  # end of a free block -> its address

    @property
    def free(self) -> int:
        """Free bytes in all arenas."""
        return sum(size for size, _ in self._sizes)

    @property
    def largest(self) -> int:
        """Bytes of the largest free block, 0 when there is none."""
        return self._sizes[-1][0] if self._sizes else 0

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(address, bytes) of every free block, by address."""
        return sorted(self._starts.items())

    def add(self, address: int, size: int) -> None:
        """Take over a new arena, all of it free."""
        self._arenas[address] = size
        self._insert(address, size)

    def drop_idle(self) -> list[int]:
        """Forget every arena that is wholly free; returns their addresses."""
        idle = [address for address, size in self._arenas.items() if self._starts.get(address) == size]
        for address in idle:
            self._remove(address)
            del self._arenas[address]
        return idle

    def take(self, size: int, alignment: int) -> int | None:
        """The address of ``size`` bytes at a multiple of ``alignment``, from the smallest block that holds them.

        Returns:
            None when no free block does.
        """
        found = bisect_left(self._sizes, (size, 0))
        while found < len(self._sizes):
            length, start = self._sizes[found]
            padding = -start % alignment
            if length >= size + padding:
                self._remove(start)
                if padding:
                    self._insert(start, padding)
                rest = length - padding - size
                if rest:
                    self._insert(start + padding + size, rest)
                return start + padding
            found += 1  # only an alignment above the granule comes here
        return None

    def give(self, address: int, size: int) -> None:
        """Return a block that :meth:`take` gave; it joins the free blocks on either side."""
        if address not in self._arenas and (left := self._ends.get(address)) is not None:
            size += self._remove(left)
            address = left
        end = address + size
        if end not in self._arenas and end in self._starts:
            size += self._remove(end)
        self._insert(address, size)

    def _insert(self, address: int, size: int) -> None:
        insort(self._sizes, (size, address))
        self._starts[address] = size
        self._ends[address + size] = address

    def _remove(self, address: int) -> int:
        size = self._starts.pop(address)
        del self._ends[address + size]
        del self._sizes[bisect_left(self._sizes, (size, address))]
        return size
