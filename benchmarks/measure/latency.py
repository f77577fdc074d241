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
MINIMUM_BLOCKS, MAXIMUM_BLOCKS = 3, 500

Runner = Callable[[], object]
Opener = Callable[[], Runner]
Times = NDArray[np.float64]
"""Seconds of one round, [2 (first, second), blocks, 2 runs]."""


@dataclass(frozen=True)
class Ratio:
    """first / second: the median over the rounds, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Times in milliseconds; `wall` compares elapsed time, `processor` the CPU time of all threads.

    On a machine with other work the elapsed time of a long run says how often it was interrupted, CPU time does not.
    """

    first_milliseconds: float
    second_milliseconds: float
    first_processor_milliseconds: float
    second_processor_milliseconds: float
    wall: Ratio
    processor: Ratio
    rounds: int
    blocks: int

    def document(self) -> dict[str, object]:
        """The rounded numbers for a JSON document."""
        return {
            "first_milliseconds": round(self.first_milliseconds, 4),
            "second_milliseconds": round(self.second_milliseconds, 4),
            "ratio": round(self.wall.value, 4),
            "interval": [round(self.wall.low, 4), round(self.wall.high, 4)],
            "first_processor_milliseconds": round(self.first_processor_milliseconds, 4),
            "second_processor_milliseconds": round(self.second_processor_milliseconds, 4),
            "processor_ratio": round(self.processor.value, 4),
            "processor_interval": [round(self.processor.low, 4), round(self.processor.high, 4)],
            "rounds": self.rounds,
            "blocks": self.blocks,
        }


def compare(first: Opener, second: Opener, *, seconds: float, rounds: int = ROUNDS) -> Comparison:
    """Open both in each of `rounds` rounds and run them in A B B A blocks, `seconds` in all (warming not counted)."""
    samples = [_round(first, second, seconds / rounds, swapped=bool(index % 2)) for index in range(rounds)]
    walls, processors = [sample[0] for sample in samples], [sample[1] for sample in samples]
    return Comparison(
        *(_milliseconds(walls, which) for which in (0, 1)),
        *(_milliseconds(processors, which) for which in (0, 1)),
        wall=_ratio(walls),
        processor=_ratio(processors),
        rounds=rounds,
        blocks=sum(sample.shape[1] for sample in walls),
    )


def _milliseconds(samples: list[Times], which: int) -> float:
    return float(np.median([np.median(sample[which]) for sample in samples])) * 1e3


def _ratio(samples: list[Times]) -> Ratio:
    """Within a round the ratio of medians, over the rounds the median of these; rounds, then blocks are resampled."""
    random = np.random.default_rng(0)
    ratios = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = []
        for chosen in random.integers(0, len(samples), len(samples)):
            sample = samples[chosen]
            blocks = random.integers(0, sample.shape[1], sample.shape[1])
            drawn.append(np.median(sample[0][blocks]) / np.median(sample[1][blocks]))
        ratios[index] = np.median(drawn)
    low, high = np.quantile(ratios, [0.025, 0.975])
    value = np.median([np.median(sample[0]) / np.median(sample[1]) for sample in samples])
    return Ratio(float(value), float(low), float(high))


def _round(first: Opener, second: Opener, seconds: float, *, swapped: bool) -> tuple[Times, Times]:
    """Elapsed and CPU times of one pair of fresh sessions; `swapped` opens and starts with the second."""
    order = (1, 0) if swapped else (0, 1)
    runners: dict[int, Runner] = {which: (second if which else first)() for which in order}
    for which in order:
        start, runs = time.perf_counter(), 0
        while runs < WARM_RUNS or time.perf_counter() - start < WARM_SECONDS:
            runners[which]()
            runs += 1
    walls: tuple[list[list[float]], list[list[float]]] = ([], [])
    processors: tuple[list[list[float]], list[list[float]]] = ([], [])
    end = time.perf_counter() + seconds
    while len(walls[0]) < MINIMUM_BLOCKS or (time.perf_counter() < end and len(walls[0]) < MAXIMUM_BLOCKS):
        for which in (0, 1):
            walls[which].append([])
            processors[which].append([])
        for which in (order[0], order[1], order[1], order[0]):
            start, start_processor = time.perf_counter(), time.process_time()
            runners[which]()
            processors[which][-1].append(time.process_time() - start_processor)
            walls[which][-1].append(time.perf_counter() - start)
    return np.asarray(walls), np.asarray(processors)
