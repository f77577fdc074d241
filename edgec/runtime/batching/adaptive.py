"""Which batch size gives the most samples per second within a latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.errors import EdgecError, UsageError
from edgec.ir.types import Array
from edgec.runtime.batching.requests import Layout, Sample
from edgec.runtime.measurement import (
    Duel,
    DuelRules,
    Estimate,
    Latency,
    Status,
    Timed,
    Verdict,
    WarmUp,
    measure_latency,
)
from edgec.runtime.measurement.latency import LatencyRules, Stability
from edgec.runtime.measurement.loop import Timing
from edgec.runtime.session import Session

SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes that are tried where nobody says otherwise."""

WARM_UP: Final = WarmUp()
LATENCY_RULES: Final = LatencyRules(budget_s=3.0)
DUEL_RULES: Final = DuelRules(budget_s=5.0)
"""How long each size, and each comparison of two, is measured where nobody says otherwise."""


@dataclass(frozen=True)
class Candidate:
    """One batch size.

    Attributes:
        size: samples in a run.
        latency: seconds of a run.
        duel: its seconds per sample against the best smaller size; None for the first, and where none was needed.
        chosen: whether it was the best so far.
        reason: why it was chosen or not.
    """

    size: int
    latency: Latency
    duel: Estimate | None
    chosen: bool
    reason: str

    @property
    def per_second(self) -> float:
        """Samples per second, from the median."""
        return self.size / self.latency.median.value

    def to_json(self) -> dict[str, Any]:
        """The candidate as a JSON object."""
        return {
            "size": self.size,
            "per_second": self.per_second,
            "latency": self.latency.to_json(),
            "duel": None if self.duel is None else self.duel.to_json(),
            "chosen": self.chosen,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class SizeChoice:
    """The result: ``size`` runs the most samples per second within ``max_latency_s``."""

    size: int
    max_latency_s: float
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """The choice as a JSON object."""
        candidates = [candidate.to_json() for candidate in self.candidates]
        return {"size": self.size, "max_latency_s": self.max_latency_s, "candidates": candidates}


class InProcess:
    """A session of this process with one batch, as something that can be timed."""

    def __init__(self, session: Session, feeds: dict[str, Array], warm_up: WarmUp = WARM_UP):
        self._timing = Timing(session, [feeds])
        self._rules = warm_up
        self.latency_s = 0.0

    def warm_up(self) -> None:
        """Run until further runs would not be faster; a second call does nothing."""
        if not self.latency_s:
            rules = self._rules
            found = self._timing.warm_up(runs=rules.runs, seconds=rules.seconds, limit_s=rules.limit_s)
            self.latency_s = float(found["latency_s"])

    def time(self, count: int) -> Sequence[float]:
        """Seconds of each of ``count`` runs."""
        seconds, _ = self._timing.time(count, 1)
        return [float(value) for value in seconds]


def adaptive_batch_size(
    session: Session,
    sample: Sample | Array,
    max_latency_s: float,
    *,
    sizes: Sequence[int] | None = None,
    shared: Mapping[str, Array] | None = None,
    axes: Mapping[str, int] | None = None,
    latency_rules: LatencyRules = LATENCY_RULES,
    duel_rules: DuelRules = DUEL_RULES,
    subject: Callable[[Session, dict[str, Array]], Timed] = InProcess,
) -> SizeChoice:
    """Measure batch sizes and choose the one with the most samples per second.

    Sizes are tried from the smallest on.  One is within ``max_latency_s`` when the upper end of its median's 95 %
    interval is; the first one whose lower end is beyond ends the search.  A larger size replaces a smaller one only
    when interleaved blocks of both show a gain per sample that is no noise (:mod:`edgec.runtime.measurement.duel`):
    so a size that gains nothing is not paid for with latency.

    Args:
        session: a session that takes these batches; it is run in this process.
        sample: as for :meth:`DynamicBatcher.submit`; every row of a batch is this sample.
        max_latency_s: longest time of one run, seconds. A request may also wait for the batcher's delay and for the run
            before its own.
        sizes: what to try; 1 to 64 by doubling, or the model's fixed batch, when None.
        shared, axes: as for :class:`DynamicBatcher`.
        latency_rules, duel_rules: how long to measure, and the device's A/A floor (``DuelRules(floor=...)``).
        subject: makes something that can be timed of a session and its feeds.

    Raises:
        UsageError: EDG720 for a sample, sizes or a latency that make no sense.
        EdgecError: EDG725 when no size is within the latency, EDG702 when none was measured well enough to say so.
    """
    layout = Layout.of(session, shared, axes)
    arrays, _ = layout.check(sample)
    if sizes is None:
        sizes = (layout.fixed,) if layout.fixed is not None else SIZES
    ordered = sorted(set(sizes))
    if not ordered or ordered[0] < 1 or not max_latency_s > 0:
        why = f"sizes are {list(sizes)}, the latency is {max_latency_s}"
        raise UsageError("EDG720", "sizes and latency of a batch have to be positive", why=why)
    if layout.fixed is not None and ordered != [layout.fixed]:
        raise UsageError("EDG720", f"the model runs batches of {layout.fixed} only", why=f"sizes are {ordered}")
    candidates: list[Candidate] = []
    best: tuple[int, Timed] | None = None
    for size in ordered:
        timed = subject(session, _feeds(layout, arrays, size))
        latency = measure_latency(timed, latency_rules)
        candidate = _judge(size, latency, timed, best, max_latency_s, duel_rules)
        candidates.append(candidate)
        if candidate.chosen:
            best = (size, timed)
        if latency.median.low > max_latency_s:
            break
    if best is None:
        unstable = any(candidate.latency.median.low <= max_latency_s for candidate in candidates)
        first = candidates[0].latency.median
        raise EdgecError(
            "EDG702" if unstable else "EDG725",
            f"no batch size is known to run within {max_latency_s * 1e3:g} ms",
            why=f"a batch of {ordered[0]} takes {first.value * 1e3:.3g} ms "
            f"({first.low * 1e3:.3g} to {first.high * 1e3:.3g}): {candidates[0].reason}",
            help="a quieter machine or a larger budget_s" if unstable else "allow more time, or make the model faster",
            details={"candidates": [candidate.to_json() for candidate in candidates]},
        )
    return SizeChoice(best[0], max_latency_s, tuple(candidates))


def _judge(
    size: int,
    latency: Latency,
    timed: Timed,
    best: tuple[int, Timed] | None,
    max_latency_s: float,
    rules: DuelRules,
) -> Candidate:
    median = latency.median
    if median.low > max_latency_s:
        return Candidate(size, latency, None, False, "it takes too long")
    if latency.status is Stability.UNSTABLE:
        return Candidate(size, latency, None, False, f"unstable: {'; '.join(latency.reasons)}")
    if median.high > max_latency_s:
        return Candidate(size, latency, None, False, "the interval of its latency reaches beyond the limit")
    if best is None:
        return Candidate(size, latency, None, True, "the first within the limit")
    smaller, incumbent = best
    estimate = Duel(incumbent, timed, rules, scale=smaller / size).run()
    gain = f"{1 / estimate.ratio:.3f} times the samples per second of {smaller}"
    interval = f"({1 / estimate.high:.3f} to {1 / estimate.low:.3f})"
    won = estimate.verdict is Verdict.CANDIDATE
    said = {Status.WIDE: f", a wide interval: {estimate.reason}", Status.UNSTABLE: f", unstable: {estimate.reason}"}
    remark = said.get(estimate.status, "")
    return Candidate(
        size, latency, estimate, won, f"{gain} {interval}{remark}" + ("" if won else ", no significant gain")
    )


def _feeds(layout: Layout, arrays: Sequence[Array], size: int) -> dict[str, Array]:
    """One batch of ``size`` copies of a sample."""
    feeds = {}
    for spec, array in zip(layout.inputs, arrays):
        axis = layout.axes.get(spec.name, 0)
        feeds[spec.name] = np.ascontiguousarray(np.repeat(np.expand_dims(array, axis), size, axis))
    return feeds | dict(layout.shared)
