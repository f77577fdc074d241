"""Who wins a study whose trials were not told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgec.runtime.measurement.floor import Floor
from edgec.targets.knobs import Knob, Knobs, Part
from edgec.tuner.confirming import confirm, needs_floor
from edgec.tuner.goals import LATENCY, MEMORY, THROUGHPUT, Goals
from edgec.tuner.measuring import LocalMeasurements
from edgec.tuner.replay import Replay
from edgec.tuner.space import key_of, make_space
from edgec.tuner.study import _floor
from edgec.tuner.trials import State, Trial

from .synthetic import opened

SPACE = make_space(Knobs((Knob("threads", Part.SESSION, (1, 2), 1),)), {}, {})

CONFIGURATIONS = [{"batch": 1, "graph": name} for name in ("default", "lucky", "fastest", "slow")]
TRUE_MS = (1.0, 0.8, 0.7, 1.5)


def trial(number: int, measured_ms: float, batch: int = 1, width: float = 0.01) -> Trial:
    values = {LATENCY: measured_ms, THROUGHPUT: batch * 1e3 / measured_ms}
    ends = (measured_ms * (1 - width), measured_ms * (1 + width))
    intervals = {LATENCY: ends, THROUGHPUT: (batch * 1e3 / ends[1], batch * 1e3 / ends[0])}
    return Trial(number, State.COMPLETE, {**CONFIGURATIONS[number], "batch": batch}, values, intervals)


def replay(trials: list[Trial]) -> Replay:
    times = {key_of(trial.configuration): [ms] * 8 for trial, ms in zip(trials, TRUE_MS)}
    found = Replay(times)
    found.pin(trials[0].configuration)
    return found


@pytest.mark.parametrize(("floor", "winner"), [(0.2, 2), (0.01, 1)])
def test_those_within_the_floor_race_against_each_other(floor: float, winner: int) -> None:
    """The default wavered: trial 1 met it in a slow moment.  A wide A/A floor tells that this may be so."""
    trials = [trial(0, 1.0), trial(1, 0.65), trial(2, 0.71), trial(3, 1.4)]
    measurements = replay(trials)
    found = confirm(trials, Goals(("latency",)), measurements, floor)
    assert found.trial is not None and found.trial.number == winner
    assert found.gain is not None and found.gain.significant
    assert found.gain.ratio == pytest.approx(TRUE_MS[winner])
    assert key_of(trials[3].configuration) not in measurements.asked


def test_the_final_counts_samples_where_throughput_is_asked_for() -> None:
    """A run of eight samples that takes 1.5 ms beats a single one of 0.7 ms."""
    trials = [trial(0, 1.0), trial(1, 0.8), trial(2, 0.13), trial(3, 1.1, batch=8)]
    found = confirm(trials, Goals(("throughput",)), replay(trials), 0.2)
    assert found.trial is not None and found.trial.number == 3


def test_a_finalist_that_fails_leaves_the_other_standing() -> None:
    trials = [trial(0, 1.0), trial(1, 0.65), trial(2, 0.66), trial(3, 1.4)]
    measurements = replay(trials)
    broken = Replay(measurements.rows, {key_of(trials[2].configuration): ("crash", "crashed (SIGSEGV)")})
    broken.pin(trials[0].configuration)
    found = confirm(trials, Goals(("latency",)), broken, 0.1)
    assert found.trial is not None and found.trial.number == 1
    assert any("SIGSEGV" in note for note in found.notes)


def test_a_gain_within_the_floor_is_told_with_the_floor() -> None:
    """A user sees why a third less is nothing here: equals differ by more at present."""
    trials = [trial(0, 1.0), trial(1, 0.85), trial(2, 0.71), trial(3, 1.4)]
    found = confirm(trials, Goals(("latency",)), replay(trials), 0.45)
    assert found.trial is not None and found.trial.number == 0
    assert found.gain is not None and not found.gain.significant
    (note,) = [note for note in found.notes if "not significantly better" in note]
    assert "0.700 (0.6" in note and "differs by up to 45.0%" in note


@pytest.mark.parametrize(
    ("measured", "winner", "text"), [(0.02, 2, "30.0% (29.5% to 30.5%) faster"), (0.45, 0, "no significant gain")]
)
def test_a_floor_of_a_restless_moment_that_hides_a_gain_is_measured_again_once(
    measured: float, winner: int, text: str
) -> None:
    trials = [trial(0, 1.0), trial(1, 0.85), trial(2, 0.71), trial(3, 1.4)]
    asked: list[float] = []

    def anew() -> float:
        asked.append(measured)
        return measured

    found = confirm(trials, Goals(("latency",)), replay(trials), 0.45, anew)
    assert asked == [measured]
    assert found.trial is not None and found.trial.number == winner
    assert found.gain is not None and found.gain.floor == measured and found.gain.text == text
    (note,) = [note for note in found.notes if "was measured again" in note]
    assert f"by up to 45.0%: that was measured again, is {measured:.1%} now" in note


def test_the_floor_that_was_measured_last_is_the_study_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter((0.4, 0.02))

    def floor(self: LocalMeasurements, configuration: object, *, anew: bool) -> Floor:
        return Floor(next(values), (1.0,), 0.0, "")

    monkeypatch.setattr(LocalMeasurements, "floor", floor)
    measurements = LocalMeasurements.__new__(LocalMeasurements)
    with opened(tmp_path, SPACE) as journal:
        found = [_floor(measurements, journal, {}, anew=anew) for anew in (False, False, True, False)]
    assert found == [0.4, 0.4, 0.02, 0.02]


@pytest.mark.parametrize(("best_ms", "floor"), [(0.98, 0.45), (0.97, 0.04)])
def test_a_floor_that_hides_nothing_is_not_measured_again(best_ms: float, floor: float) -> None:
    trials = [trial(0, 1.0), trial(1, best_ms), trial(2, 1.1), trial(3, 1.4)]
    rows = {key_of(item.configuration): [ms] * 8 for item, ms in zip(trials, (1.0, best_ms, 1.1, 1.4))}
    measurements = Replay(rows)
    measurements.pin(trials[0].configuration)

    def anew() -> float:
        raise AssertionError("nothing was hidden")

    found = confirm(trials, Goals(("latency",)), measurements, floor, anew)
    assert found.trial is not None and found.trial.number == 0


@pytest.mark.parametrize(
    ("objectives", "best_ms", "needed"),
    [(("latency",), 0.9, True), (("latency",), 1.1, False), (("memory",), 0.9, False)],
)
def test_the_floor_is_needed_where_something_is_ahead_in_time(
    objectives: tuple[str, ...], best_ms: float, needed: bool
) -> None:
    """Eight pairs of processes take half a minute and more."""
    trials = [
        replace(item, values={**item.values, MEMORY: 1e6 * (2 - number)})
        for number, item in enumerate((trial(0, 1.0), trial(1, best_ms)))
    ]
    goals = Goals(objectives)
    assert needs_floor(trials, goals) is needed
    if not needed and objectives == ("latency",):
        ends = [confirm(trials, goals, replay(trials), floor) for floor in (0.0, 0.5)]
        assert ends[0] == ends[1]
