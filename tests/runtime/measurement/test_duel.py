"""A comparison of equals finds nothing, one of unequals finds the difference, on a machine that is never quiet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.runtime.measurement import Duel, DuelRules, Status, Verdict
from edgec.runtime.measurement.duel import paired, verdict
from tests.runtime.measurement.synthetic import Machine, Synthetic

RULES = DuelRules(floor=0.01, budget_s=3.0)


def duel(machine: Machine, first: float, second: float, rules: DuelRules = RULES) -> Duel:
    return Duel(machine.subject(first), machine.subject(second), rules, clock=machine.clock)


def test_equals_on_a_noisy_machine_rarely_win() -> None:
    verdicts = [duel(Machine(seed), 1e-3, 1e-3).run().verdict for seed in range(100)]
    assert verdicts.count(Verdict.CANDIDATE) <= 5
    assert verdicts.count(Verdict.INCUMBENT) <= 5


def test_the_naive_protocol_is_fooled_by_the_same_machine() -> None:
    """The synthetic machine is as bad as the real one: the test above is no accident."""
    fakes = []
    for seed in range(40):
        machine = Machine(seed)
        first, second = machine.subject(1e-3), machine.subject(1e-3)
        fakes.append(abs(1 - np.mean(second.time(1000)) / np.mean(first.time(1000))))
    assert np.quantile(fakes, 0.95) > 0.1


@pytest.mark.parametrize("gain", [0.03, 0.10])
def test_a_real_gain_is_found_on_a_noisy_machine(gain: float) -> None:
    estimates = [duel(Machine(seed), 1e-3, 1e-3 * (1 - gain)).run() for seed in range(30)]
    assert sum(estimate.verdict is Verdict.CANDIDATE for estimate in estimates) >= 27
    assert np.median([estimate.gain for estimate in estimates]) == pytest.approx(gain, abs=0.004)


def test_a_slower_candidate_leaves_the_incumbent() -> None:
    estimate = duel(Machine(1), 1e-3, 1.2e-3).run()
    assert estimate.verdict is Verdict.INCUMBENT
    assert estimate.gain < 0 and estimate.low > 1


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Without differences of layout, which the interval cannot know."""
    rules = replace(RULES, half_width=0.003, floor=0.0)
    held = 0
    for seed in range(100):
        machine = Machine(seed)
        sides = [machine.subject(seconds, layout=0) for seconds in (1e-3, 0.95e-3)]
        estimate = Duel(*sides, rules, clock=machine.clock).run()
        held += estimate.low <= 0.95 <= estimate.high
    assert held >= 88


def test_the_same_samples_give_the_same_interval() -> None:
    first, second = (duel(Machine(5), 1e-3, 0.97e-3).run() for _ in range(2))
    assert first == second


def test_blocks_are_mirrored_so_that_drift_meets_both_sides() -> None:
    order: list[str] = []

    class Named(Synthetic):
        def __init__(self, name: str, machine: Machine):
            super().__init__(machine, 1e-3, 0.01)
            self.name = name

        def time(self, count: int):  # type: ignore[no-untyped-def]
            order.append(self.name)
            return super().time(count)

    machine = Machine(0)
    comparison = Duel(Named("A", machine), Named("B", machine), RULES, clock=machine.clock)
    comparison.block()
    comparison.block()
    assert "".join(order) == "ABBABAAB"


def test_slots_last_about_as_long_as_they_should() -> None:
    machine = Machine(0)
    slow, fast = machine.subject(0.1), machine.subject(1e-4)
    comparison = Duel(slow, fast, replace(RULES, slot_s=0.01), clock=machine.clock)
    comparison.block()
    assert set(slow.slots) == {1}
    assert set(fast.slots) == {100}


def test_a_batch_can_be_compared_per_sample() -> None:
    machine = Machine(2, busy=1.0)
    estimate = Duel(machine.subject(1e-3), machine.subject(6e-3), RULES, scale=1 / 8, clock=machine.clock).run()
    assert estimate.ratio == pytest.approx(0.75, abs=0.02)
    assert estimate.candidate_s == pytest.approx(6e-3, rel=0.2)


def test_a_budget_that_is_too_short_is_said() -> None:
    rules = replace(RULES, budget_s=0.2, half_width=0.0001, floor=0.0, share=0.0)
    estimate = duel(Machine(3), 1e-3, 1e-3, rules).run()
    assert estimate.status in (Status.BUDGET, Status.UNSTABLE)
    assert "blocks in" in estimate.reason


def test_chaos_is_unstable_and_nobody_wins() -> None:
    machine = Machine(4)
    rules = replace(RULES, budget_s=0.5)
    wild = [machine.subject(seconds, jitter=2.0) for seconds in (0.01, 0.005)]
    estimate = Duel(*wild, rules, clock=machine.clock).run()
    assert estimate.status is Status.UNSTABLE
    assert estimate.verdict is Verdict.SAME


def test_a_large_difference_is_decided_with_a_wide_interval() -> None:
    """Racing: a candidate that takes twice as long needs no second digit."""
    estimate = duel(Machine(6), 1e-3, 2e-3).run()
    assert estimate.status is Status.DECIDED
    assert estimate.blocks < 60


def test_an_estimate_needs_a_block() -> None:
    with pytest.raises(ValueError, match="no block"):
        duel(Machine(0), 1e-3, 1e-3).estimate()


@pytest.mark.parametrize(
    ("ratio", "low", "high", "quartile", "expected"),
    [
        (0.95, 0.94, 0.96, 0.95, Verdict.CANDIDATE),
        (0.95, 0.94, 1.01, 0.95, Verdict.SAME),  # the interval holds 1
        (0.995, 0.993, 0.997, 0.995, Verdict.SAME),  # below the floor
        (0.95, 0.94, 0.96, 1.02, Verdict.SAME),  # the lower quartiles say otherwise
        (0.98, 0.96, 0.995, 0.98, Verdict.SAME),  # above the floor, but not above it and the interval together
        (1.05, 1.04, 1.06, 1.05, Verdict.INCUMBENT),
        (1.005, 1.003, 1.007, 1.005, Verdict.SAME),
    ],
)
def test_what_counts_as_a_win(ratio: float, low: float, high: float, quartile: float, expected: Verdict) -> None:
    assert verdict(ratio, low, high, quartile, floor=0.01) is expected


def test_pairing_removes_what_both_sides_share() -> None:
    shared = np.random.default_rng(0).lognormal(0, 1, (40, 1, 1))
    slots = shared * np.array([[[2.0], [1.0]]]) * np.ones((40, 2, 2))
    assert paired(slots, RULES) == pytest.approx((0.5, 0.5, 0.5))
