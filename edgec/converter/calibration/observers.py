"""From the distribution of a value to the range that its integers shall cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.converter.calibration.statistics import Statistics
from edgec.ir.quantization import Range
from edgec.ir.types import Array

KEPT: Final = 0.99999
"""Share of the elements that ``percentile`` keeps."""
LEVELS: Final = 255
"""Steps of an 8-bit integer."""
CANDIDATES: Final = 32
"""Ranges that ``mse`` tries on each side."""


def minmax(found: Statistics) -> Range:
    """All that was seen, and zero."""
    return Range(min(found.low, 0.0), max(found.high, 0.0))


def percentile(found: Statistics) -> Range:
    """The smallest range that leaves out at most ``(1 - KEPT) / 2`` of the elements on either side."""
    total = np.cumsum(found.counts)
    if not total[-1]:
        return minmax(found)
    out = (1 - KEPT) / 2 * float(total[-1])
    first = int(np.searchsorted(total, out, side="right"))
    last = int(np.searchsorted(total, total[-1] - out, side="left"))
    low = max((found.first + first) * found.width, found.low)
    high = min((found.first + last + 1) * found.width, found.high)
    return Range(min(low, 0.0), max(high, 0.0))


def mse(found: Statistics) -> Range:
    """The range with the smallest mean squared error of rounding and clipping to 255 steps, over the histogram.

    One end at a time is drawn in, down to a quarter of the extent, while that lowers the error.
    """
    whole = minmax(found)
    used = np.flatnonzero(found.counts)
    centres, counts = found.centres[used], found.counts[used].astype(np.float64)
    shares = np.linspace(1.0, 0.25, CANDIDATES)
    low, high = whole.low, whole.high
    for _ in range(2):
        if high > 0:
            ends = shares * whole.high
            high = _best(ends, np.full_like(ends, low), ends, centres, counts)
        if low < 0:
            ends = shares * whole.low
            low = _best(ends, ends, np.full_like(ends, high), centres, counts)
    return Range(low, high)


def _best(ends: Array, low: Array, high: Array, centres: Array, counts: Array) -> float:
    """The one of ``ends`` whose range, from ``low`` to ``high`` at its place, has the smallest error."""
    scale = np.maximum((high - low) / LEVELS, 1e-30)[:, None]
    clipped = np.clip(centres[None, :], low[:, None], high[:, None])
    # inside, a number is off by a uniform share of a step; outside, by its distance from the end
    errors = ((clipped - centres) ** 2 + scale**2 / 12) @ counts
    return float(ends[int(np.argmin(errors))])


def entropy(found: Statistics) -> Range:
    """The symmetric clipping of the histogram whose 8-bit form has the smallest Kullback-Leibler divergence from it.

    Source: Migacz, 8-bit inference with TensorRT, 2017.
    """
    whole = minmax(found)
    used = np.flatnonzero(found.counts)
    largest = max(-whole.low, whole.high)
    bins = np.abs(found.centres[used]) / (largest or 1.0) * 2048
    counts = np.bincount(np.minimum(bins.astype(np.int64), 2047), weights=found.counts[used], minlength=2048)
    counts[0] = counts[1]  # zeros, half of what a ReLU gives, are exact in any range and must not decide
    levels = 128 if whole.low < 0 else LEVELS + 1
    best, least = 2048, np.inf
    for width in range(levels, 2049, 16):
        divergence = _divergence(counts, width, levels)
        if divergence < least:
            best, least = width, divergence
    limit = largest * best / 2048
    return Range(max(whole.low, -limit), min(whole.high, limit))


def _divergence(counts: Array, width: int, levels: int) -> float:
    """Kullback-Leibler divergence of the first ``width`` bins in ``levels`` steps from them with the rest clipped."""
    inside = counts[:width]
    clipped = inside.copy()
    clipped[-1] += counts[width:].sum()
    step = np.arange(width) * levels // width
    filled = inside > 0
    sums = np.bincount(step, weights=inside, minlength=levels)
    members = np.bincount(step, weights=filled, minlength=levels)
    coarse = np.where(filled, sums[step] / np.maximum(members[step], 1), 0.0)
    if not coarse.sum() or not clipped.sum():
        return float("inf")
    p, q = clipped / clipped.sum(), coarse / coarse.sum()
    both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))))


METHODS: Final[dict[str, Callable[[Statistics], Range]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
"""Name of a method, as ``--method`` takes it, to what it does."""
