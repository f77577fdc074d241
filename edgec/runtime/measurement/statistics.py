"""The arithmetic of measuring: bootstrap intervals, and how many samples a percentile needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its length as a part of the value; infinite for a value of zero."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else math.inf


def samples_for_percentile(percentile: float, confidence: float = 0.99) -> int:
    """How many samples carry a percentile (0.9 for p90), by MLPerf's rule: margin (1 - p) / 20, two-sided.

    23,886 for p90 and 262,742 for p99.  Source: MLPerf Inference, LoadGen, "early stopping" and query-count table.
    """
    margin = (1 - percentile) / 20
    deviations = NormalDist().inv_cdf(0.5 + confidence / 2)
    return math.ceil(deviations**2 * percentile * (1 - percentile) / margin**2)


def percentiles(seconds: Floats, wanted: tuple[float, ...] = (0.9, 0.95, 0.99)) -> dict[str, float]:
    """The percentiles that this many samples can carry, by name (``p90``); none where there are too few."""
    return {
        f"p{round(100 * percentile)}": float(np.quantile(seconds, percentile))
        for percentile in wanted
        if len(seconds) >= samples_for_percentile(percentile)
    }


def draws(count: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Which of `count` blocks each bootstrap sample holds, int64 [resamples, count]; the same for the same seed."""
    return np.random.default_rng([seed, count]).integers(0, count, (resamples, count))


def bootstrap(blocks: Floats, quantile: float, *, confidence: float, resamples: int, seed: int) -> Interval:
    """A quantile over all values of all blocks [blocks, values], blocks resampled as wholes."""
    drawn = blocks[draws(len(blocks), resamples, seed)].reshape(resamples, -1)
    low, high = np.quantile(np.quantile(drawn, quantile, axis=1), ends(confidence))
    return Interval(float(np.quantile(blocks, quantile)), float(low), float(high))


def ends(confidence: float) -> tuple[float, float]:
    """The quantiles between which the confidence interval lies."""
    return (1 - confidence) / 2, (1 + confidence) / 2
