"""The timing loop, on a clock that only the session moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgec.ir.types import Array
from edgec.runtime.measurement import loop
from edgec.runtime.measurement.loop import Timing


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.nanoseconds = 0

    def perf_counter_ns(self) -> int:
        return self.nanoseconds

    def perf_counter(self) -> float:
        return self.nanoseconds * 1e-9

    def process_time(self) -> float:
        return self.nanoseconds * 0.5e-9


class Moving:
    """A session whose n-th run lasts as many seconds as the list says, the last of them for ever."""

    inputs = outputs = ()

    def __init__(self, clock: Clock, seconds: list[float]):
        self.clock, self.seconds = clock, seconds
        self.seen: list[float] = []

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        index = min(len(self.seen), len(self.seconds) - 1)
        self.seen.append(float(feeds["x"]))
        self.clock.nanoseconds += round(self.seconds[index] * 1e9)
        return {}

    def close(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loop, "time", made)
    return made


def timing(clock: Clock, seconds: list[float], samples: int = 1) -> tuple[Timing, Moving]:
    session: Any = Moving(clock, seconds)
    return Timing(session, [{"x": np.float32(at)} for at in range(samples)]), session


def test_the_loop_times_every_run_by_itself(clock: Clock) -> None:
    timed, _ = timing(clock, [0.1, 0.2, 0.3, 0.4])
    seconds, spent = timed.time(4, settle=0)
    assert seconds.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert spent["cpu_s"] == pytest.approx(0.5) and spent["preempted"] >= 0


def test_runs_that_settle_are_not_counted(clock: Clock) -> None:
    timed, session = timing(clock, [9.0, 9.0, 0.1])
    seconds, spent = timed.time(3, settle=2)
    assert seconds.tolist() == pytest.approx([0.1] * 3)
    assert spent["cpu_s"] == pytest.approx(0.15) and len(session.seen) == 5


def test_samples_take_turns_from_one_slot_to_the_next(clock: Clock) -> None:
    timed, session = timing(clock, [0.1], samples=3)
    timed.time(2, settle=0)
    timed.time(2, settle=1)
    assert session.seen == [0, 1, 2, 0, 1]


def test_collecting_garbage_is_left_as_it_was(clock: Clock) -> None:
    import gc

    timed, _ = timing(clock, [0.1])
    assert gc.isenabled()
    timed.time(1, settle=0)
    assert gc.isenabled()


def test_warming_ends_when_three_windows_agree(clock: Clock) -> None:
    timed, session = timing(clock, [1.0, 0.5, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01])
    warmth = timed.warm_up(runs=10, seconds=0.2, limit_s=60.0)
    assert warmth["settled"] and warmth["first_s"] == pytest.approx(1.0)
    assert warmth["latency_s"] == pytest.approx(0.01)
    assert len(session.seen) == warmth["runs"] < 40


def test_a_fast_session_is_warmed_for_the_time_asked_for(clock: Clock) -> None:
    timed, _ = timing(clock, [1e-4])
    warmth = timed.warm_up(runs=10, seconds=0.2, limit_s=5.0)
    assert warmth["seconds"] >= 0.2 and warmth["runs"] >= 2000


def test_warming_that_never_settles_ends_with_its_limit(clock: Clock) -> None:
    timed, _ = timing(clock, [0.1 + 0.1 * (at // 4 % 2) for at in range(1000)])
    warmth = timed.warm_up(runs=10, seconds=0.2, limit_s=5.0)
    assert not warmth["settled"] and 5.0 <= warmth["seconds"] < 5.5


def test_a_session_that_is_slower_than_the_limit_runs_once(clock: Clock) -> None:
    timed, session = timing(clock, [7.0])
    warmth = timed.warm_up(runs=10, seconds=0.2, limit_s=5.0)
    assert warmth["runs"] == len(session.seen) == 1 and warmth["latency_s"] == pytest.approx(7.0)


def test_there_has_to_be_something_to_run(clock: Clock) -> None:
    with pytest.raises(ValueError, match="nothing to run"):
        Timing(None, [])  # type: ignore[arg-type]
