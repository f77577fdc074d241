"""Latency of two runners against each other: interleaved A B B A, with a bootstrap interval of the ratio.

Blocks of A then blocks of B report speed-ups that are not there (53 % between a model and itself on a noisy machine);
interleaving single runs brings that below 2 % for the ratio of medians. What remains is where the memory of one session
happened to lie: so both sessions are opened anew for every round, in alternating order, and the bootstrap draws rounds
first, blocks within them second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_RUNS, WARM_SECONDS = 5, 0.1
ROUNDS = 10
RESAMPLES = 1000
MINIMUM_BLOCKS = 3

Runner = Callable[[], object]
Opener = Callable[[], Runner]


@dataclass(frozen=True)
class Comparison:
    """Times in milliseconds; `ratio` is first / second, with the ends of its 95 % interval."""

    first_milliseconds: float
    second_milliseconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    blocks: int

    def document(self) -> dict[str, object]:
        """The rounded numbers for a JSON document."""
        return {
            "first_milliseconds": round(self.first_milliseconds, 4),
            "second_milliseconds": round(self.second_milliseconds, 4),
            "ratio": round(self.ratio, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
            "rounds": self.rounds,
            "blocks": self.blocks,
        }


def compare(first: Opener, second: Opener, *, seconds: float, rounds: int = ROUNDS) -> Comparison:
    """Open both in each of `rounds` rounds and run them in A B B A blocks, `seconds` in all (warming not counted)."""
    samples = [_round(first, second, seconds / rounds, swapped=bool(index % 2)) for index in range(rounds)]
    # Within a round: the ratio of medians. Over the rounds: the median of these ratios, as rounds differ in placement.
    random = np.random.default_rng(0)
    ratios = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = []
        for chosen in random.integers(0, rounds, rounds):
            ours, theirs = samples[chosen]
            blocks = random.integers(0, len(ours), len(ours))
            drawn.append(np.median(ours[blocks]) / np.median(theirs[blocks]))
        ratios[index] = np.median(drawn)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Comparison(
        first_milliseconds=float(np.median([np.median(ours) for ours, _ in samples])) * 1e3,
        second_milliseconds=float(np.median([np.median(theirs) for _, theirs in samples])) * 1e3,
        ratio=float(np.median([np.median(ours) / np.median(theirs) for ours, theirs in samples])),
        low=float(low),
        high=float(high),
        rounds=rounds,
        blocks=sum(len(ours) for ours, _ in samples),
    )


def _round(
    first: Opener, second: Opener, seconds: float, *, swapped: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times of one pair of fresh sessions, [blocks, 2] each; `swapped` opens and starts with the second."""
    order = (1, 0) if swapped else (0, 1)
    runners: dict[int, Runner] = {which: (second if which else first)() for which in order}
    for which in order:
        start, runs = time.perf_counter(), 0
        while runs < WARM_RUNS or time.perf_counter() - start < WARM_SECONDS:
            runners[which]()
            runs += 1
    times: tuple[list[list[float]], list[list[float]]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < MINIMUM_BLOCKS or time.perf_counter() < end:
        block: tuple[list[float], list[float]] = ([], [])
        for which in (order[0], order[1], order[1], order[0]):
            start = time.perf_counter()
            runners[which]()
            block[which].append(time.perf_counter() - start)
        times[0].append(block[0])
        times[1].append(block[1])
    return np.asarray(times[0]), np.asarray(times[1])
