"""The choice of a batch size, on times that the test makes up and on a real session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.ir.types import Array
from edgec.runtime.batching import adaptive_batch_size
from edgec.runtime.measurement import DuelRules, loop
from edgec.runtime.measurement.latency import LatencyRules

from ..measurement.test_loop import Clock
from .sessions import PlusOne, TwoInputs, sample

QUICK = {
    "latency_rules": LatencyRules(budget_s=0.0, minimum_s=0.0, minimum_slots=1),
    "duel_rules": DuelRules(budget_s=0.02, minimum_s=0.0, maximum_blocks=40),
}


class MadeUp:
    """A run of n samples takes `seconds(n)`, give or take `noise`."""

    def __init__(self, seconds: Callable[[int], float], feeds: dict[str, Array], noise: float):
        self.size = len(next(iter(feeds.values())))
        self.latency_s = seconds(self.size)
        self._noise = noise
        self._random = np.random.default_rng(self.size)

    def warm_up(self) -> None: ...

    def time(self, count: int) -> Sequence[float]:
        return list(self.latency_s * (1 + self._noise * self._random.standard_normal(max(count, 9))))


def choose(seconds: Callable[[int], float], limit_s: float, noise: float = 0.001):  # type: ignore[no-untyped-def]
    return adaptive_batch_size(
        PlusOne(), sample(1), limit_s, subject=lambda _, feeds: MadeUp(seconds, feeds, noise), **QUICK
    )


def test_the_largest_batch_within_the_limit_wins_where_batches_pay() -> None:
    choice = choose(lambda size: 0.004 + 0.0001 * size, 0.0062)
    assert choice.size == 16
    assert [candidate.size for candidate in choice.candidates] == [1, 2, 4, 8, 16, 32]
    assert choice.candidates[-1].reason == "it takes too long"
    assert choice.candidates[4].per_second == pytest.approx(16 / 0.0056, rel=0.01)


def test_a_batch_that_gains_nothing_is_not_paid_for_with_latency() -> None:
    choice = choose(lambda size: 0.001 * size, 1.0)
    assert choice.size == 1
    assert all("no significant gain" in candidate.reason for candidate in choice.candidates[1:])
    saturating = choose(lambda size: 0.001 * max(4, size), 1.0)
    assert saturating.size == 4


def test_a_larger_batch_is_compared_with_the_best_not_with_its_neighbour() -> None:
    times = {1: 1.0, 2: 1.9, 4: 4.2, 8: 7.0, 16: 18.0, 32: 40.0, 64: 90.0}
    assert choose(lambda size: times[size] * 1e-3, 1.0).size == 8


def test_a_limit_below_every_batch_is_an_error_with_the_numbers() -> None:
    with pytest.raises(EdgecError) as caught:
        choose(lambda size: 0.004 * size, 0.003)
    assert caught.value.code == "EDG725" and "4 ms" in str(caught.value)
    assert caught.value.details["candidates"][0]["size"] == 1


def test_noise_that_hides_the_answer_is_said() -> None:
    with pytest.raises(EdgecError) as caught:
        adaptive_batch_size(
            PlusOne(),
            sample(1),
            0.004,
            latency_rules=LatencyRules(budget_s=0.05),
            subject=lambda _, feeds: MadeUp(lambda size: 0.004 * size, feeds, 0.3),
        )
    assert caught.value.code == "EDG702" and caught.value.exit_code == 7


class Lasting(PlusOne):
    """Its runs last 2 ms of a clock that nothing else moves, whatever else the machine does."""

    clock: Clock

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.clock.nanoseconds += 2_000_000
        return super().run(feeds)


def test_a_session_is_measured_by_the_timing_loop_and_the_result_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Lasting()
    session.clock = Clock()
    monkeypatch.setattr(loop, "time", session.clock)
    rules = {
        "latency_rules": LatencyRules(budget_s=0.3, minimum_s=0.0),
        "duel_rules": DuelRules(budget_s=0.3, minimum_s=0.0),
    }
    choice = adaptive_batch_size(session, sample(1), 1.0, sizes=[1, 8], **rules)  # type: ignore[arg-type]
    assert choice.size == 8, "a run takes the same time for 8 as for 1"
    assert set(session.batches) == {1, 8}
    assert choice.candidates[1].latency.median.value == pytest.approx(0.002)
    document = json.loads(json.dumps(choice.to_json()))
    assert document["size"] == 8 and document["candidates"][1]["duel"]["verdict"] == "candidate"


@pytest.mark.parametrize("change", [{"sizes": []}, {"sizes": [0, 1]}, {"max_latency_s": 0.0}, {"sample": sample(1, 5)}])
def test_arguments_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    arguments: dict[str, object] = {"session": PlusOne(), "sample": sample(1), "max_latency_s": 1.0, **change}
    with pytest.raises(UsageError):
        adaptive_batch_size(**arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        adaptive_batch_size(PlusOne(shape=(4, 4)), sample(1), 1.0, sizes=[1, 4])


def test_shared_inputs_are_passed_on() -> None:
    seen: list[tuple[int, ...]] = []

    def look(_: object, feeds: dict[str, Array]) -> MadeUp:
        seen.append(feeds["scale"].shape)
        return MadeUp(lambda size: 0.001, feeds, 0.001)

    row = {"a": np.ones(2, np.float32), "b": np.ones(2, np.int64)}
    shared = {"scale": np.array(1, np.float32)}
    adaptive_batch_size(TwoInputs(), row, 1.0, sizes=[1, 2], shared=shared, subject=look, **QUICK)  # type: ignore[arg-type]
    assert seen == [(), ()]
