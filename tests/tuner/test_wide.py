"""A trial or a confirmation with a wide interval: what is certain counts and is called wide, the rest is `unstable`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgec.runtime.measurement import DuelRules
from edgec.targets.knobs import Knob, Knobs, Part
from edgec.tuner.confirming import confirm
from edgec.tuner.goals import LATENCY, THROUGHPUT, Goals
from edgec.tuner.measurements import Race, Reference, Standing
from edgec.tuner.measuring import _Running
from edgec.tuner.replay import Replay
from edgec.tuner.search import Budget, Search
from edgec.tuner.space import make_space
from edgec.tuner.trials import State, Trial

from ..runtime.measurement.synthetic import Machine
from .synthetic import opened

SPACE = make_space(Knobs((Knob("threads", Part.SESSION, (1, 2), 1),)), {}, {})


class Fixed(Replay):
    """Every race ends with the same standing; the default takes 10 ms, give or take 8 %."""

    def __init__(self, standing: Standing):
        super().__init__({})
        self.standing = standing

    def reference(self, configuration: Any) -> Reference:
        return Reference(10.0, 9.2, 10.8)

    def pin(self, configuration: Any) -> None:
        """Nothing is open."""

    @contextlib.contextmanager
    def race(self, configuration: Any, *, against: Any = None, fresh: bool = False) -> Iterator[Race]:
        yield Settled(self.standing)


class Settled:
    """A race that is over at once."""

    memory_bytes = None
    extra: Mapping[str, float] = {}

    def __init__(self, standing: Standing):
        self.standing = standing
        self.samples_ms: list[float] = []

    def step(self) -> Standing:
        return self.standing


def tried(standing: Standing, folder: Path) -> Trial:
    """The trial of two threads."""
    with opened(folder, SPACE) as journal:
        search = Search(SPACE, Goals(), Fixed(standing), journal)
        search.run(Budget(trials=2))
        assert len(search.trials) == 2
        return search.trials[1]


def test_a_trial_far_ahead_is_complete_and_says_that_it_is_wide(tmp_path: Path) -> None:
    trial = tried(Standing(0.55, 0.50, 0.61, 20, True, wide="half of the interval at 10 %"), tmp_path)
    assert trial.state is State.COMPLETE
    assert trial.values[LATENCY] == pytest.approx(5.5) and trial.intervals[LATENCY] == pytest.approx((5.0, 6.1))
    assert trial.reason == "wide interval: half of the interval at 10 %"
    assert Trial.from_json(trial.to_json()) == trial


def test_a_trial_that_is_certain_to_be_behind_is_pruned_though_its_interval_is_wide(tmp_path: Path) -> None:
    """The default's own interval reaches to 10.8 ms: the ratio was measured beside it, and holds without that."""
    trial = tried(Standing(1.25, 1.08, 1.42, 20, True, unstable="half of the interval at 13.6 %"), tmp_path)
    assert trial.state is State.PRUNED and trial.failure is None
    assert trial.reason is not None and trial.reason.startswith("behind trial 0")
    assert trial.values[LATENCY] == pytest.approx(12.5)


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.3), (1.02, 1.2)])
def test_a_trial_that_may_be_either_stays_unstable(tmp_path: Path, low: float, high: float) -> None:
    trial = tried(Standing(1.1, low, high, 20, True, unstable="half of the interval at 9 %"), tmp_path)
    assert trial.state is State.FAILED and trial.failure == ("unstable", {})


def confirmed(standing: Standing, batch: int = 1) -> Any:
    def trial(number: int, milliseconds: float, size: int) -> Trial:
        values = {LATENCY: milliseconds, THROUGHPUT: size * 1e3 / milliseconds}
        return Trial(number, State.COMPLETE, {"batch": size, "threads": number + 1}, values)

    goals = Goals(("throughput",)) if batch > 1 else Goals(("latency",))
    return confirm([trial(0, 10.0, 1), trial(1, 5.0 * batch, batch)], goals, Fixed(standing), 0.02)


def test_a_wide_confirmation_far_from_1_is_a_gain_that_is_called_wide() -> None:
    found = confirmed(Standing(0.55, 0.50, 0.61, 60, True, wide="half of the interval at 10 %"))
    assert found.trial.number == 1 and found.gain.significant
    assert found.gain.text == "45.0% (39.0% to 50.0%) faster, a wide interval"
    assert found.gain.to_json()["wide"] is True and found.gain.to_json()["interval"] == [0.50, 0.61]
    assert "the confirmation's interval is wide: half of the interval at 10 %" in found.notes


def test_a_throughput_with_a_wide_interval_is_called_so_too() -> None:
    found = confirmed(Standing(4.4, 4.0, 4.88, 60, True, wide="wide"), batch=8)
    assert found.gain.significant and found.gain.text == "1.82 times the throughput (1.64 to 2.00), a wide interval"


def test_an_unstable_confirmation_is_no_gain() -> None:
    found = confirmed(Standing(0.8, 0.7, 0.9, 60, True, unstable="half of the interval at 12 %"))
    assert found.trial.number == 0 and not found.gain.significant and not found.gain.wide
    assert "the confirmation was unstable: half of the interval at 12 %" in found.notes


def test_a_gain_has_to_exceed_the_floor_and_half_of_the_interval_together() -> None:
    sure = Standing(0.97, 0.955, 0.985, 60, True)
    assert confirmed(sure).gain.significant
    assert not confirmed(replace(sure, low=0.945, high=0.995)).gain.significant, "above the floor of 2 %, and below 1"


def test_a_confirmation_of_throughput_is_sure_of_the_time_of_a_sample() -> None:
    """A run of 8 samples takes 7 times as long as one of a single sample, which is far from 1; 7 / 8 is not."""
    blocks = {}
    for scale in (1.0, 1 / 8):
        machine: Any = Machine(3)
        owner: Any = SimpleNamespace(waits_for_a_device=False)
        single, eight = machine.subject(1e-3, jitter=0.3), machine.subject(7e-3, jitter=0.3)
        rules = DuelRules(floor=0.001, half_width=0.001, budget_s=60.0)
        race = _Running(owner, {"batch": 8}, single, eight, rules, scale)
        standing = race.step()
        while not standing.settled:
            standing = race.step()
        assert standing.ratio == pytest.approx(7, rel=0.05), "the time of a run is told all the same"
        assert standing.low < standing.ratio < standing.high
        blocks[scale] = standing.blocks
    assert blocks[1 / 8] > 1.5 * blocks[1.0]
