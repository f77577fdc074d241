"""A wide interval far from 1 is a result, one near 1 is none; and a host that wavers does not make equals win."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edgec.runtime.measurement import Duel, DuelRules, Estimate, Status, Verdict
from edgec.runtime.measurement.duel import lasts
from edgec.runtime.measurement.floor import floor_of
from tests.runtime.measurement.synthetic import Clock

RULES = DuelRules(floor=0.02, budget_s=0.0)


class Slots:
    """A subject that runs once per slot and takes what it is told."""

    latency_s = 1.0

    def __init__(self, logarithms: Iterable[float], clock: Clock):
        self._logarithms = iter(logarithms)
        self._clock = clock

    def warm_up(self) -> Any:
        return None

    def time(self, count: int) -> Sequence[float]:
        assert count == 1
        seconds = math.exp(next(self._logarithms))
        self._clock.now += seconds
        return [seconds]


def compared(incumbent: Sequence[float], candidate: Sequence[float], rules: DuelRules = RULES) -> Estimate:
    """All blocks that the logarithms of the seconds of both sides give, two per block and side."""
    clock = Clock()
    duel = Duel(Slots(incumbent, clock), Slots(candidate, clock), rules, clock=clock)
    for _ in range(len(incumbent) // 2):
        duel.block()
    return duel.estimate()


def spread(ratio: float, width: float, blocks: int) -> Estimate:
    """A candidate whose blocks are `width` (a standard deviation) around `ratio`, in no order."""
    logarithms = np.random.default_rng(blocks).normal(math.log(ratio), width, blocks)
    return compared([0.0] * 2 * blocks, np.repeat(logarithms, 2).tolist())


def test_a_gain_far_from_1_counts_though_its_interval_is_wide() -> None:
    found = spread(0.55, 0.3, 40)
    assert 0.05 < found.half_width < 0.15, "as in the issue: 0.55 (0.50 to 0.61)"
    assert found.status is Status.WIDE and found.verdict is Verdict.CANDIDATE
    assert found.low <= found.ratio <= found.high < 1
    assert "the difference is" in found.reason and "left half of the interval at" in found.reason


def test_a_loss_far_from_1_counts_likewise() -> None:
    found = spread(1 / 0.55, 0.3, 40)
    assert found.status is Status.WIDE and found.verdict is Verdict.INCUMBENT


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.8])
def test_as_wide_an_interval_nearer_to_1_says_nothing(ratio: float) -> None:
    found = spread(ratio, 0.3, 40)
    assert found.half_width > RULES.unstable_above
    assert found.status is Status.UNSTABLE and found.verdict is Verdict.SAME


def test_a_gain_of_which_not_even_the_first_digit_is_known_is_unstable() -> None:
    """However far from 1 it is."""
    found = spread(0.02, 1.6, 40)
    assert found.high < 0.1 and found.half_width > RULES.wide_up_to
    assert found.half_width < RULES.wide_share * -math.log(found.ratio)
    assert found.status is Status.UNSTABLE and found.verdict is Verdict.SAME


def test_few_blocks_are_no_proof_of_a_wide_gain() -> None:
    blocks = RULES.wide_blocks - 1
    halves = [math.log(0.5) + (0.1 if block % 2 else -0.1) for block in range(blocks) for _ in range(2)]
    assert compared([0.0] * 2 * blocks, halves).status is Status.UNSTABLE
    halves += [math.log(0.5)] * 2
    assert compared([0.0] * (2 * blocks + 2), halves).status is Status.WIDE


def test_a_gain_that_part_of_the_time_does_not_show_is_unstable() -> None:
    """Two thirds of the blocks show more than twice the speed, then the phase ends: an interval knows no time."""
    random = np.random.default_rng(0)
    fast, same = random.normal(math.log(0.4), 0.25, 40), random.normal(0, 0.02, 20)
    mixed = compared([0.0] * 120, np.repeat(random.permutation(np.concatenate([fast, same])), 2).tolist())
    assert mixed.status is Status.WIDE, "in no order the same blocks are a gain"
    phases = compared([0.0] * 120, np.repeat(np.concatenate([fast, same]), 2).tolist())
    assert phases.ratio == pytest.approx(mixed.ratio)
    assert phases.status is Status.UNSTABLE and "a third of the time" in phases.reason


def test_what_lasts() -> None:
    assert lasts(np.array([-0.5, -0.6, -0.4, -0.5, -0.9, -0.3]))
    assert lasts(np.array([0.5, 0.6, 0.4]))
    assert not lasts(np.array([-0.6, -0.6, -0.6, -0.6, -0.1, -0.1])), "less than half of it in the end"
    assert not lasts(np.array([0.6, 0.6, 0.6, 0.6, -0.6, -0.6])), "the other way round in the end"


# equals on hosts that waver


def phases(random: np.random.Generator, slots: int, length: float, slower: float) -> Iterator[float]:
    """A side that is slowed for `length` slots at a time, 40 % of the time, by itself: another core, another phase."""
    while slots > 0:
        lasting = max(1, int(random.exponential(length)))
        yield from [math.log(slower) if random.random() < 0.4 else 0.0] * min(lasting, slots)
        slots -= lasting


def host(kind: str, random: np.random.Generator, blocks: int) -> tuple[list[float], list[float]]:
    """Logarithms of the seconds of two equals."""
    count, sides = 2 * blocks, []
    drift = np.cumsum(random.normal(0, 0.3, count)) / math.sqrt(count)
    for sign in (-0.5, 0.5):
        side = random.normal(0, 0.01, count) + random.normal(0, 0.004)
        if kind.startswith("phases"):
            _, length, slower = kind.split()
            side += np.array(list(phases(random, count, float(length), float(slower))))
        elif kind == "heavy tails":
            side += 0.15 * random.standard_t(2, count)
        elif kind == "very heavy tails":
            side += np.clip(0.1 * random.standard_t(1, count), -20, 20)
        elif kind == "drift":
            side += sign * drift + random.normal(0, 0.2, count)
        sides.append(side.tolist())
    return sides[0], sides[1]


HOSTS = (
    "phases 2 1.3",
    "phases 2 1.8",
    "phases 8 1.3",
    "phases 8 1.8",
    "phases 40 1.3",
    "phases 40 1.8",
    "heavy tails",
)
HOSTS += ("very heavy tails", "drift")


@pytest.mark.parametrize("kind", HOSTS)
def test_equals_on_a_host_that_wavers_do_not_win_by_a_wide_interval(kind: str) -> None:
    """With the floor that this host has, and with one that was measured while it was quiet."""
    repeats, blocks = 60, 30
    random = np.random.default_rng([len(kind), *kind.encode()])
    noisy = floor_of([compared(*host(kind, random, blocks)).ratio for _ in range(8)])
    wins = {"noisy": 0, "quiet": 0}
    wide = unstable = 0
    for _ in range(repeats):
        sides = host(kind, random, blocks)
        for name, floor in (("noisy", noisy), ("quiet", RULES.floor)):
            found = compared(*sides, DuelRules(floor=floor, budget_s=0.0))
            wins[name] += found.verdict is Verdict.CANDIDATE
            wide += found.status is Status.WIDE
            unstable += found.status is Status.UNSTABLE
    assert wins["noisy"] <= 0.05 * repeats
    assert wide <= 0.02 * 2 * repeats, "what the rule for wide intervals adds, wins and losses"
    assert unstable > 0, "the host is one on which intervals are wide"


@pytest.mark.parametrize("kind", ["phases 2 1.3", "heavy tails", "very heavy tails", "drift"])
def test_half_the_time_is_seen_on_a_host_that_wavers(kind: str) -> None:
    random = np.random.default_rng(1)
    found = []
    for _ in range(20):
        incumbent, candidate = host(kind, random, 40)
        found.append(compared(incumbent, [value + math.log(0.5) for value in candidate]))
    assert sum(estimate.verdict is Verdict.CANDIDATE for estimate in found) >= 14
    assert any(estimate.status is Status.WIDE for estimate in found)
