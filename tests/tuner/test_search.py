"""The search on replayed measurements: order, duplicates, limits, failures, resumption."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import EdgecError
from edgec.tuner.confirming import confirm
from edgec.tuner.goals import DEVICE_MEMORY, Goals
from edgec.tuner.measurements import Race, Reference
from edgec.tuner.replay import Replay
from edgec.tuner.samplers import SAMPLERS
from edgec.tuner.search import Budget
from edgec.tuner.space import key_of
from edgec.tuner.trials import State

from .synthetic import milliseconds, opened, replay, searching, space


def run(folder: Path, trials: int | None, **more: object) -> list[dict[str, object]]:
    of = space((1, 2, 4))
    with opened(folder, of) as journal:
        search = searching(journal, of, replay(of), **more)  # type: ignore[arg-type]
        search.run(Budget(trials=trials))
        return [trial.to_json() | {"seconds": 0} for trial in search.trials]


def test_the_default_is_measured_first(tmp_path: Path) -> None:
    found = run(tmp_path, 3)
    assert found[0]["configuration"] == space((1, 2, 4)).default
    assert found[0]["state"] == "complete"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_configuration_is_measured_twice_and_a_small_space_is_measured_completely(
    tmp_path: Path, sampler: str
) -> None:
    of = space((1,))
    measurements = replay(of)
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements, sampler=sampler)
        assert search.run(Budget(trials=1000)) == "exhausted"
    assert len(measurements.asked) == len(set(measurements.asked)) == len(of.points or ())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("stops", [(1,), (5, 6), (3, 9, 17)])
def test_a_study_that_goes_on_has_the_trials_of_one_that_was_not_interrupted(
    tmp_path: Path, sampler: str, stops: tuple[int, ...]
) -> None:
    straight = run(tmp_path / "straight", 24, sampler=sampler, seed=3)
    for stop in stops:
        run(tmp_path / "resumed", stop, sampler=sampler, seed=3)
    resumed = run(tmp_path / "resumed", 24, sampler=sampler, seed=3)
    assert resumed == straight


def test_the_surrogate_finds_the_best_of_a_space_long_before_the_space_is_measured(tmp_path: Path) -> None:
    of = space((1, 2, 4))
    assert of.points is not None
    best = min(of.points, key=lambda point: milliseconds(point) / point["batch"])  # type: ignore[operator]
    found = run(tmp_path, 25, goals=Goals(("throughput",)))
    assert len(of.points) == 144
    assert best in [trial["configuration"] for trial in found]


def test_a_losing_candidate_stops_early_and_says_against_whom(tmp_path: Path) -> None:
    of = space((1,))
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, replay(of, blocks=8))
        search.run(Budget())
    losers = [trial for trial in search.trials if trial.state is State.PRUNED]
    assert len(losers) > len(search.trials) / 2
    assert all(trial.blocks < 8 and "behind trial" in (trial.reason or "") for trial in losers)
    best = min((trial for trial in search.trials), key=lambda trial: trial.values["latency_ms"])
    assert best.state is State.COMPLETE


def test_a_limit_on_the_latency_holds(tmp_path: Path) -> None:
    of = space((1, 2, 4))
    goals = Goals(("throughput",), {"latency": 6.0})
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, replay(of), goals)
        search.run(Budget(trials=40))
    feasible = [trial for trial in search.trials if trial.state is State.COMPLETE and goals.is_feasible(trial.values)]
    assert of.points is not None
    inside = [point for point in of.points if milliseconds(point) <= 6.0]
    wanted = max(point["batch"] / milliseconds(point) * 1e3 for point in inside)  # type: ignore[operator]
    assert max(trial.values["throughput_per_s"] for trial in feasible) > 0.97 * wanted
    assert any("are allowed" in (trial.reason or "") for trial in search.trials)


@pytest.mark.parametrize("batches", [(1,), (1, 2, 4)])
def test_a_drop_beyond_the_limit_is_paid_for_once(tmp_path: Path, batches: tuple[int, ...]) -> None:
    """A precision loses the same in every batch."""
    of = space(batches)
    assert of.points is not None
    drops = {key_of(point): 0.02 if point["precision"] == "int8" else 0.0 for point in of.points}
    measurements = replay(of, drops=drops)
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements, Goals(limits={"drop": 0.005}))
        search.run(Budget())
    lossy = [trial for trial in search.trials if trial.configuration["precision"] == "int8"]
    assert len(lossy) == 1
    assert lossy[0].state is State.PRUNED
    assert lossy[0].reason == "loses 2.00%, 0.50% are allowed"
    assert len(search.trials) == 1 + len(of.points) // 2


def test_a_failed_trial_keeps_its_reason_and_no_values(tmp_path: Path) -> None:
    of = space((1,))
    assert of.points is not None
    bad = {key_of(point): ("crash", "the worker died with SIGSEGV") for point in of.points if point["threads"] == 4}
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, replay(of, failures=bad))
        search.run(Budget())
    failed = [trial for trial in search.trials if trial.state is State.FAILED]
    assert len(failed) == len(bad)
    assert all(trial.reason == "the worker died with SIGSEGV" and not trial.values for trial in failed)


def test_several_objectives_give_a_front(tmp_path: Path) -> None:
    of = space((1, 2, 4))
    assert of.points is not None
    memory = {key_of(point): int(1e6 * (point["batch"] + 3 * point["threads"])) for point in of.points}  # type: ignore[operator]
    goals = Goals(("latency", "memory"))
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, replay(of, memory=memory), goals)
        search.run(Budget(trials=30))
    complete = [trial for trial in search.trials if trial.state is State.COMPLETE]
    assert min(trial.values["memory_bytes"] for trial in complete) == 4e6
    assert min(trial.values["latency_ms"] for trial in complete) < 1.05 * min(map(milliseconds, of.points))


class OnDevice(Replay):
    """What a GPU holds grows with the batch; NVML may be silent."""

    silent = False

    def held(self, configuration: Any) -> dict[str, float]:
        return {} if self.silent else {DEVICE_MEMORY: 1e8 * configuration["batch"]}

    def reference(self, configuration: Any) -> Reference:
        return replace(super().reference(configuration), extra=self.held(configuration))

    @contextlib.contextmanager
    def race(self, configuration: Any, *, against: Any = None, fresh: bool = False) -> Iterator[Race]:
        with super().race(configuration, against=against, fresh=fresh) as race:
            race.extra = self.held(configuration)  # type: ignore[misc]
            yield race


def test_a_limit_on_the_memory_of_the_device_holds(tmp_path: Path) -> None:
    of = space((1, 2, 4))
    goals = Goals(("throughput",), {"device_memory": 2.5e8})
    measurements = OnDevice(replay(of).rows)
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements, goals)
        search.run(Budget(trials=40))
        found = confirm(search.trials, goals, measurements, 0.01)
    assert found.trial is not None and found.trial.configuration["batch"] == 2
    assert found.values[DEVICE_MEMORY] == 2e8
    over = [trial for trial in search.trials if trial.configuration["batch"] == 4]
    assert over and all(trial.state is State.PRUNED and trial.values[DEVICE_MEMORY] == 4e8 for trial in over)
    assert over[0].reason == "takes 400.0 MB on the device, 250.0 MB are allowed"


def test_a_limit_that_nobody_can_check_is_an_error_and_not_an_empty_result(tmp_path: Path) -> None:
    of = space((1,))
    measurements = OnDevice(replay(of).rows)
    measurements.silent = True
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, measurements, Goals(limits={"device_memory": 1e9}))
        with pytest.raises(EdgecError, match="on the GPU") as caught:
            search.run(Budget(trials=2))
    assert caught.value.code == "EDG817" and "device_limit" in (caught.value.help or "")
