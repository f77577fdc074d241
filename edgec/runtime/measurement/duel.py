"""Which of two is faster: interleaved A B B A blocks, a bootstrap interval, and a floor that a gain has to exceed.

Blocks of A followed by blocks of B report gains that are not there (53 % between a session and itself on a noisy
machine), because the machine changes between them.  A block here is four short slots, incumbent, candidate, candidate,
incumbent (and the other way round in every second block), so that whatever drifts meets both.  A slot's value is the
median of its runs; a block's value is the ratio of the two sides' slots; the estimate is the median over the blocks,
and its interval comes from drawing blocks again.

What is left is where the memory of a process happened to lie, which no number of blocks averages out: that is the
device's own A/A floor (:mod:`edgec.runtime.measurement.floor`).
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.runtime.measurement.statistics import Floats, draws, ends
from edgec.runtime.measurement.subject import Timed

PROTOCOL: Final = "abba-1"
"""Raised with every change that another floor would follow from."""

MAXIMUM_RUNS: Final = 1000
"""Runs in one slot, at most."""


class Status(enum.StrEnum):
    """How far a comparison has come."""

    RUNNING = "running"
    DECIDED = "decided"
    """The interval is as narrow as was asked for."""
    BUDGET = "budget"
    """The time is over; the interval is wider than was asked for, but says something."""
    WIDE = "wide"
    """The time is over and the interval is wide, but the difference is so much larger that who is faster is certain."""
    UNSTABLE = "unstable"
    """The time is over and the interval is too wide to say anything."""


class Verdict(enum.StrEnum):
    """Who is faster."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"
    SAME = "no significant difference"


@dataclass(frozen=True)
class DuelRules:
    """When a comparison ends and what counts as a win.

    Attributes:
        floor: the device's A/A floor, as a part (0.01 is 1 %): smaller differences are nobody's.
        half_width: the comparison is decided once half of the interval is below this, or below the floor.
        share: or once it is below this part of the difference itself: 1.30 need not be known as well as 1.01.
        budget_s: seconds for the blocks; warming up is not counted.
        slot_s: about how long a slot lasts, seconds; it holds at least one run.
        minimum_blocks, minimum_s: no decision before.
        maximum_blocks: the end in any case.
        unstable_above: a half-width beyond which the result is `wide` or `unstable` when the time is over.
        wide_share: it is `wide` only up to this part of the difference, and `unstable` beyond: 0.55 (0.50 to 0.61) is a
            gain, 0.80 (0.72 to 0.89) may be one.
        wide_up_to: and only up to this half-width: beyond, not even the first digit of the gain is known.
        wide_blocks: and only with as many blocks.
        confidence, resamples, seed: of the bootstrap; the same samples give the same interval.
    """

    floor: float = 0.01
    half_width: float = 0.01
    share: float = 0.1
    budget_s: float = 10.0
    slot_s: float = 0.005
    minimum_blocks: int = 16
    minimum_s: float = 0.4
    maximum_blocks: int = 1000
    unstable_above: float = 0.05
    wide_share: float = 0.25
    wide_up_to: float = 0.25
    wide_blocks: int = 16
    confidence: float = 0.95
    resamples: int = 500
    seed: int = 0


DEFAULT_RULES: Final = DuelRules()


@dataclass(frozen=True)
class Estimate:
    """What is known of a comparison.

    Attributes:
        ratio: candidate / incumbent, medians paired by block; below 1 the candidate is faster.
        low, high: the interval of `ratio`.
        quartile_ratio, quartile_low, quartile_high: the same for the lower quartiles of the slots.
        incumbent_s, candidate_s: seconds per run, median over the slots (not paired, for orientation).
        blocks, seconds: how much was measured.
        status, verdict: see there.  A verdict stands for itself only when the status is not `running`.
        floor: the A/A floor that the verdict went by.
        reason: why it ended, or why it is unstable.
    """

    ratio: float
    low: float
    high: float
    quartile_ratio: float
    quartile_low: float
    quartile_high: float
    incumbent_s: float
    candidate_s: float
    blocks: int
    seconds: float
    status: Status
    verdict: Verdict
    floor: float
    reason: str = ""

    @property
    def half_width(self) -> float:
        """Half of the interval's length, as a part of the ratio."""
        return (self.high - self.low) / 2 / self.ratio

    @property
    def gain(self) -> float:
        """What part of the incumbent's time the candidate saves; negative when it is slower."""
        return 1 - self.ratio

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON; ratios without a unit, times in seconds."""
        return {
            "ratio": self.ratio,
            "interval": [self.low, self.high],
            "quartile_ratio": self.quartile_ratio,
            "quartile_interval": [self.quartile_low, self.quartile_high],
            "incumbent_s": self.incumbent_s,
            "candidate_s": self.candidate_s,
            "blocks": self.blocks,
            "seconds": self.seconds,
            "floor": self.floor,
            "status": str(self.status),
            "verdict": str(self.verdict),
            "reason": self.reason,
        }


class Duel:
    """An incumbent against a candidate, block by block.

    Args:
        incumbent, candidate: both open; they are warmed up by the first block.
        scale: what the candidate's seconds are multiplied by before they are compared: 1/8 for a candidate that takes
            8 samples per run against an incumbent that takes one, if seconds per sample are asked for.
        clock: seconds, for the budget.
    """

    def __init__(
        self,
        incumbent: Timed,
        candidate: Timed,
        rules: DuelRules = DEFAULT_RULES,
        *,
        scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.rules = rules
        self._sides = (incumbent, candidate)
        self._scales = (1.0, scale)
        self._counts: tuple[int, int] | None = None
        self._clock = clock
        self._medians: list[list[list[float]]] = []
        self._quartiles: list[list[list[float]]] = []
        self._seconds = 0.0
        self._last: Estimate | None = None

    @property
    def blocks(self) -> int:
        """How many blocks there were."""
        return len(self._medians)

    def block(self) -> None:
        """Run one block.

        Raises:
            VerificationError: EDG303 when one of the two crashes, hangs or reports an error.
        """
        if self._counts is None:
            for side in self._sides:
                side.warm_up()
            self._counts = (self._runs(self._sides[0]), self._runs(self._sides[1]))
        began = self._clock()
        medians: list[list[float]] = [[], []]
        quartiles: list[list[float]] = [[], []]
        for which in (0, 1, 1, 0) if self.blocks % 2 == 0 else (1, 0, 0, 1):
            seconds = np.asarray(self._sides[which].time(self._counts[which])) * self._scales[which]
            quartile, median = np.quantile(seconds, (0.25, 0.5))
            medians[which].append(float(median))
            quartiles[which].append(float(quartile))
        self._medians.append(medians)
        self._quartiles.append(quartiles)
        self._seconds += self._clock() - began
        self._last = None

    def estimate(self) -> Estimate:
        """What the blocks so far say.

        Raises:
            ValueError: there was no block yet.
        """
        if self._last is None:
            if not self._medians:
                raise ValueError("there was no block yet")
            self._last = self._estimate()
        return self._last

    def run(self, progress: Callable[[Estimate], object] | None = None) -> Estimate:
        """Blocks until the end; `progress` gets an estimate now and then, from the first that could decide on."""
        following = self.rules.minimum_blocks  # no decision before, and each estimate costs milliseconds
        while True:
            self.block()
            over = self._seconds >= self.rules.budget_s or self.blocks >= self.rules.maximum_blocks
            if over or (self.blocks >= following and self._seconds >= self.rules.minimum_s):
                following = self.blocks + max(1, self.blocks // 8)
                estimate = self.estimate()
                if progress is not None:
                    progress(estimate)
                if estimate.status is not Status.RUNNING:
                    return estimate

    def _runs(self, side: Timed) -> int:
        return max(1, min(round(self.rules.slot_s / max(side.latency_s, 1e-9)), MAXIMUM_RUNS))

    def _estimate(self) -> Estimate:
        rules = self.rules
        medians, quartiles = np.asarray(self._medians), np.asarray(self._quartiles)
        ratio, low, high = paired(medians, rules)
        quartile_ratio, quartile_low, quartile_high = paired(quartiles, rules)
        ahead = verdict(ratio, low, high, quartile_ratio, rules.floor)
        status, reason = self._status((high - low) / 2 / ratio, math.log(ratio), ahead, differences(medians))
        return Estimate(
            ratio,
            low,
            high,
            quartile_ratio,
            quartile_low,
            quartile_high,
            float(np.median(medians[:, 0])) / self._scales[0],
            float(np.median(medians[:, 1])) / self._scales[1],
            self.blocks,
            self._seconds,
            status,
            ahead if status is not Status.UNSTABLE else Verdict.SAME,
            rules.floor,
            reason,
        )

    def _status(self, half_width: float, logarithm: float, ahead: Verdict, blocks: Floats) -> tuple[Status, str]:
        rules = self.rules
        difference = abs(logarithm)
        asked = max(rules.half_width, rules.floor, rules.share * difference)
        if self.blocks >= rules.minimum_blocks and self._seconds >= rules.minimum_s and half_width < asked:
            return Status.DECIDED, f"half of the interval is {half_width:.2%}, asked for {asked:.2%}"
        if self._seconds < rules.budget_s and self.blocks < rules.maximum_blocks:
            return Status.RUNNING, ""
        spent = f"{self.blocks} blocks in {self._seconds:.1f} s left half of the interval at {half_width:.2%}"
        if half_width <= rules.unstable_above and self.blocks >= 4:
            return Status.BUDGET, spent
        limit = min(rules.wide_up_to, rules.wide_share * difference)
        if ahead is Verdict.SAME or self.blocks < rules.wide_blocks or half_width > limit:
            return Status.UNSTABLE, spent
        if not lasts(blocks):
            return Status.UNSTABLE, f"{spent}, and a third of the time shows less than half of the difference"
        return Status.WIDE, f"{spent}; the difference is {difference / half_width:.1f} times that, all the time"


def differences(slots: Floats) -> Floats:
    """The logarithm of candidate / incumbent of every block.

    Args:
        slots: seconds, [blocks, 2 (incumbent, candidate), 2 slots].
    """
    logarithms = np.log(np.maximum(slots, 1e-12)).mean(axis=2)
    found: Floats = logarithms[:, 1] - logarithms[:, 0]
    return found


def lasts(blocks: Floats) -> bool:
    """Whether each third of the time shows at least half of the difference that all of it shows.

    Drawing blocks again takes them for independent.  On a host that is slow for seconds at a time they are not, and the
    interval is too narrow; equals that met one phase each show it in one third and not in another.

    Args:
        blocks: logarithm of candidate / incumbent, in the order of time, at least three.
    """
    whole = float(np.median(blocks))
    thirds = (float(np.median(part)) for part in np.array_split(blocks, 3))
    return all(math.copysign(third, third * whole) >= abs(whole) / 2 for third in thirds)


def paired(slots: Floats, rules: DuelRules) -> tuple[float, float, float]:
    """The median over the blocks of candidate / incumbent, and the ends of its interval.

    Args:
        slots: seconds, [blocks, 2 (incumbent, candidate), 2 slots].
    """
    blocks = differences(slots)
    resampled = np.median(blocks[draws(len(blocks), rules.resamples, rules.seed)], axis=1)
    low, high = np.quantile(resampled, ends(rules.confidence))
    return math.exp(float(np.median(blocks))), math.exp(float(low)), math.exp(float(high))


def verdict(ratio: float, low: float, high: float, quartile_ratio: float, floor: float) -> Verdict:
    """A win needs an interval that excludes 1, a gain above the floor, and lower quartiles that agree.

    The floor was measured on comparisons that may have been quieter than this one, so the gain has to exceed the root
    of the sum of the squares of the floor and of this interval's half.
    """
    needed = math.hypot(floor, (high - low) / 2 / ratio)
    if high < 1 and 1 - ratio > needed and quartile_ratio < 1:
        return Verdict.CANDIDATE
    if low > 1 and 1 - 1 / ratio > needed and quartile_ratio > 1:
        return Verdict.INCUMBENT
    return Verdict.SAME
