"""How long one run takes: a median with its interval, and only what the samples can carry beyond it."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgec.runtime.measurement.duel import MAXIMUM_RUNS
from edgec.runtime.measurement.statistics import Interval, bootstrap, percentiles
from edgec.runtime.measurement.subject import Timed, Warmth

KEPT_RUNS: Final = 1_000_000
"""Single runs that are kept for percentiles, at most."""


class Stability(enum.StrEnum):
    """Whether a number may be quoted."""

    STABLE = "stable"
    UNSTABLE = "unstable"


@dataclass(frozen=True)
class LatencyRules:
    """When a measurement of one session ends and what it may be called.

    Attributes:
        budget_s: seconds, warming up not counted.
        half_width: it ends once half of the median's interval is below this part of it.
        slot_s: about how long a slot lasts, seconds; the bootstrap draws slots.
        minimum_slots, minimum_s: no end before.
        unstable_above: a half-width at the end beyond which the result is `unstable`.
        drift_above: how far the medians of the thirds may lie apart, as a part of the smallest.
        variation_above: how large the coefficient of variation of the slots' medians may be.
        spread_above: how far the median may lie above the lower quartile, as a part: more says that other work, and not
            the session, decided about half of the runs.
        percentiles: go on until p90 can be said, if the budget allows it.
        confidence, resamples, seed: of the bootstrap.
    """

    budget_s: float = 10.0
    half_width: float = 0.01
    slot_s: float = 0.01
    minimum_slots: int = 30
    minimum_s: float = 1.0
    unstable_above: float = 0.05
    drift_above: float = 0.15
    variation_above: float = 0.5
    spread_above: float = 0.2
    percentiles: bool = False
    confidence: float = 0.95
    resamples: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Latency:
    """What was measured of one session; times in seconds per run.

    Attributes:
        median: with its interval.
        quartile: the lower quartile, which other work on the machine moves least.
        minimum: the fastest run.
        percentiles: ``p90``, ``p95``, ``p99``, those that the number of runs carries (MLPerf's rule).
        variation: coefficient of variation of the slots' medians.
        runs, slots, seconds: how much was measured.
        status, reasons: whether the number may be quoted, and why not.
    """

    median: Interval
    quartile: float
    minimum: float
    percentiles: dict[str, float]
    variation: float
    runs: int
    slots: int
    seconds: float
    status: Stability
    reasons: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The measurement as JSON, seconds."""
        return {
            "median_s": self.median.value,
            "interval_s": [self.median.low, self.median.high],
            "quartile_s": self.quartile,
            "minimum_s": self.minimum,
            "percentiles_s": self.percentiles,
            "variation": self.variation,
            "runs": self.runs,
            "slots": self.slots,
            "seconds": self.seconds,
            "status": str(self.status),
            "reasons": list(self.reasons),
        }


def measure_latency(
    subject: Timed,
    rules: LatencyRules = LatencyRules(),
    *,
    reasons: Callable[[], list[str]] = list,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[int, float], object] | None = None,
) -> Latency:
    """Time one session until its median is known well enough, or the budget is over.

    Args:
        reasons: asked at the end: what happened to the machine meanwhile that forbids quoting the number.
        progress: called with the number of slots and the seconds so far.

    Raises:
        VerificationError: EDG303 when it crashes, hangs or reports an error.
    """
    warmth = subject.warm_up()
    count = max(1, min(round(rules.slot_s / max(subject.latency_s, 1e-9)), MAXIMUM_RUNS))
    slots: list[list[float]] = []
    began = clock()
    following = rules.minimum_slots
    while True:
        slots.append(list(subject.time(count)))
        spent = clock() - began
        if progress is not None:
            progress(len(slots), spent)
        over = spent >= rules.budget_s
        if over or (len(slots) >= following and spent >= rules.minimum_s):
            following = len(slots) + max(1, len(slots) // 8)
            values = np.asarray(slots)
            median = _median(values, rules)
            enough = median.half_width < rules.half_width and (not rules.percentiles or percentiles(values.ravel()))
            if over or enough:
                break
    return _judge(values, median, spent, warmth, reasons(), rules)


def _median(values: np.ndarray[Any, np.dtype[np.float64]], rules: LatencyRules) -> Interval:
    """The median over the slots' medians."""
    medians = np.median(values, axis=1, keepdims=True)
    return bootstrap(medians, 0.5, confidence=rules.confidence, resamples=rules.resamples, seed=rules.seed)


def _judge(
    values: np.ndarray[Any, np.dtype[np.float64]],
    median: Interval,
    spent: float,
    warmth: Any,
    conditions: list[str],
    rules: LatencyRules,
) -> Latency:
    medians = np.median(values, axis=1)
    runs = values.ravel()
    variation = float(np.std(medians) / np.mean(medians))
    found = list(conditions)
    if isinstance(warmth, Warmth) and not warmth.settled:
        found.append(f"it was not warm after {warmth.runs} runs and {warmth.seconds:.1f} s")
    if median.half_width > rules.unstable_above:
        found.append(f"half of the median's interval is {median.half_width:.1%}")
    if variation > rules.variation_above:
        found.append(f"the coefficient of variation is {variation:.0%}")
    spread = float(np.median(runs) / np.quantile(runs, 0.25)) - 1
    if spread > rules.spread_above:
        found.append(f"half of the runs took at least {spread:.0%} longer than the fastest quarter")
    if len(medians) >= 9:
        thirds = [float(np.median(part)) for part in np.array_split(medians, 3)]
        drift = max(thirds) / min(thirds) - 1
        if drift > rules.drift_above:
            found.append(f"the medians of its thirds lie {drift:.0%} apart")
    return Latency(
        median,
        float(np.quantile(runs, 0.25)),
        float(runs.min()),
        percentiles(runs[:KEPT_RUNS]),
        variation,
        len(runs),
        len(values),
        spent,
        Stability.UNSTABLE if found else Stability.STABLE,
        tuple(found),
    )
