"""What is remembered of the numbers that a value took: their extent, and a histogram of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgec.ir.types import Array

BINS: Final = 2048
"""Bins of a histogram."""
DRAWN: Final = 16384
"""Elements of one array that are counted in the histogram; the extent takes all of them into account."""


@dataclass
class Statistics:
    """The extent and the distribution of one value over any number of arrays.

    The bins lie on a grid through zero: bin ``i`` counts numbers in ``[(first + i) width, (first + i + 1) width)``.
    The width is a power of two times the first extent and doubles, merging neighbours, when a number falls outside; so
    no array has to be kept, and neither the number of samples nor their order matters to the memory used.

    Attributes:
        low, high: smallest and largest number of all.
        sums: of the means along axis 1 (channels), one per array; empty where ranks or extents differ.
        lows, highs: smallest and largest number of every channel, float64; empty where ``sums`` is.
        arrays: how many arrays were taken into account.
        counted: whether there is a histogram; without, ``counts`` stay zero.
    """

    low: float = np.inf
    high: float = -np.inf
    width: float = 0.0
    first: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    sums: Array = field(default_factory=lambda: np.zeros(0))
    lows: Array = field(default_factory=lambda: np.zeros(0))
    highs: Array = field(default_factory=lambda: np.zeros(0))
    arrays: int = 0
    counted: bool = True

    @property
    def constant(self) -> bool:
        """Whether no two elements differed."""
        return self.low == self.high

    def add(self, array: Array) -> bool:
        """Take an array of floats into account.

        Returns:
            Whether all of it was finite; otherwise nothing was counted.
        """
        if not array.size:
            return True
        low, high = self._extents(array)
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not self.counted:
            return True
        flat = array.reshape(-1)
        step = -(-flat.size // DRAWN)
        self._count(flat[:: step | 1] if step > 1 else flat)  # an odd stride does not walk along a column of an image
        return True

    def _extents(self, array: Array) -> tuple[float, float]:
        """Smallest and largest number of an array; where both are finite, its channels are remembered."""
        if array.ndim < 2:
            low, high = float(array.min()), float(array.max())
            self.arrays += bool(np.isfinite(low) and np.isfinite(high))
            return low, high
        others = tuple(axis for axis in range(array.ndim) if axis != 1)
        lows, highs = array.min(axis=others).astype(np.float64), array.max(axis=others).astype(np.float64)
        low, high = float(lows.min()), float(highs.max())
        if np.isfinite(low) and np.isfinite(high):
            self._add_channels(lows, highs, array.mean(axis=others, dtype=np.float64))
        return low, high

    def _add_channels(self, lows: Array, highs: Array, means: Array) -> None:
        self.arrays += 1
        if self.arrays == 1:
            self.sums, self.lows, self.highs = means, lows, highs
        elif self.sums.shape == means.shape:
            self.sums = np.add(self.sums, means)
            self.lows, self.highs = np.minimum(self.lows, lows), np.maximum(self.highs, highs)
        else:
            self.sums, self.lows, self.highs = np.zeros(0), np.zeros(0), np.zeros(0)

    @property
    def means(self) -> Array | None:
        """The mean of every channel (axis 1), where there are channels."""
        return self.sums / self.arrays if self.sums.size else None

    def multiplied(self, numbers: Array) -> Statistics | None:
        """The extents and means of the same arrays with every channel multiplied, without a histogram of them.

        Args:
            numbers: positive, float64 ``[channels]``.

        Returns:
            None where this does not have these channels.
        """
        if self.lows.shape != numbers.shape:
            return None
        lows, highs = self.lows * numbers, self.highs * numbers
        low, high = float(lows.min()), float(highs.max())
        return Statistics(
            low, high, sums=self.sums * numbers, lows=lows, highs=highs, arrays=self.arrays, counted=False
        )

    def _count(self, numbers: Array) -> None:
        extent = max(self.high - self.low, abs(self.high), abs(self.low))
        if not extent:
            extent = 1.0
        if not self.width:
            self.width = float(2.0 ** np.ceil(np.log2(extent * 1.25 / (BINS - 2))))
            self.first = int(np.floor(self.low / self.width))
        self._make_room()
        places = np.divide(numbers, self.width, dtype=np.float64)  # a width is a power of two, so this is exact
        places = np.floor(places, out=places).astype(np.int64) - self.first
        self.counts += np.bincount(places, minlength=BINS)

    def _make_room(self) -> None:
        """Double the width until low and high fall into the bins, moving the first bin where that is enough."""
        while True:
            first, last = int(np.floor(self.low / self.width)), int(np.floor(self.high / self.width))
            if last - first < BINS:
                break
            start = self.first // 2
            merged = np.zeros(BINS, np.int64)
            np.add.at(merged, (np.arange(BINS) + self.first) // 2 - start, self.counts)
            self.counts, self.first = merged, start
            self.width *= 2
        if first < self.first or last >= self.first + BINS:
            used = np.flatnonzero(self.counts)
            moved = np.zeros(BINS, np.int64)
            start = min(first, self.first + int(used[0])) if used.size else first
            if used.size:
                moved[used + self.first - start] = self.counts[used]
            self.counts, self.first = moved, start

    @property
    def centres(self) -> Array:
        """The middle of every bin, float64, within the extent."""
        middles = (np.arange(BINS) + self.first + 0.5) * self.width
        inside: Array = np.clip(middles, self.low, self.high)
        return inside


@dataclass
class Calibration:
    """The statistics of the values of a model, by the names of the values.

    Attributes:
        samples: how many samples were run.
        values: name of the value to its statistics.
        origin: what the samples are: file names and hashes for the manifest, or ``random``.
        notes: what the user should know.
    """

    samples: int
    values: dict[str, Statistics]
    origin: Any = None
    notes: list[str] = field(default_factory=list)

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays, from which :meth:`from_arrays` makes the same statistics."""
        items = list(self.values.values())
        return {
            "samples": np.array(self.samples),
            "names": np.array(list(self.values), dtype=np.str_),
            "extents": np.array([[item.low, item.high, item.width] for item in items], np.float64).reshape(-1, 3),
            "firsts": np.array([item.first for item in items], np.int64),
            "counts": np.array([item.counts for item in items], np.int64).reshape(-1, BINS),
            **{
                key: np.concatenate([np.zeros(0), *(getattr(item, key) for item in items)])
                for key in ("sums", "lows", "highs")
            },
            "channels": np.array([[item.sums.size, item.arrays, item.counted] for item in items], np.int64).reshape(
                -1, 3
            ),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Calibration:
        """The statistics that :meth:`to_arrays` wrote.

        Raises:
            KeyError, ValueError: the arrays are not what it writes.
        """
        names, extents = arrays["names"], arrays["extents"]
        firsts, counts = arrays["firsts"], arrays["counts"]
        if counts.shape != (len(names), BINS) or extents.shape != (len(names), 3) or firsts.shape != (len(names),):
            raise ValueError("the arrays do not belong together")
        channels = arrays["channels"]
        ends = np.cumsum(channels[:-1, 0])
        sums, lows, highs = (np.split(arrays[key], ends) if len(names) else [] for key in ("sums", "lows", "highs"))
        values: dict[str, Statistics] = {}
        for index, name in enumerate(names):
            low, high, width = (float(number) for number in extents[index])
            values[str(name)] = Statistics(
                low,
                high,
                width,
                int(firsts[index]),
                counts[index],
                sums=sums[index],
                lows=lows[index],
                highs=highs[index],
                arrays=int(channels[index, 1]),
                counted=bool(channels[index, 2]),
            )
        return cls(int(arrays["samples"]), values)
