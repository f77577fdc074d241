"""Which processor both sides of a comparison run on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgec.runtime.measurement import open_subject
from edgec.runtime.measurement.processors import one_processor, quietest
from tests.runtime.devices.fakes import write

from .test_subject import FACTORY, QUICK, X

ALLOWED = frozenset({0, 1, 2})


def busy(root: Path, idle: dict[int, int]) -> None:
    """What the kernel tells of processors that were idle for so many ticks."""
    lines = [f"cpu{number} 5 0 5 {ticks} 0 0 0 0 0 0" for number, ticks in idle.items()]
    write(root, {"proc/stat": "cpu  9 9 9 9\n" + "\n".join(lines) + "\nintr 5\n"})


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: ALLOWED, raising=False)


@pytest.mark.parametrize(
    ("later", "chosen"),
    [
        ({0: 110, 1: 105, 2: 100, 3: 110}, 0),
        ({0: 100, 1: 109, 2: 105, 3: 110}, 1),
        ({0: 110, 1: 110, 2: 110, 3: 110}, 2),
    ],
)
def test_the_one_with_the_least_to_do_is_chosen_among_those_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, three: None, later: dict[int, int], chosen: int
) -> None:
    busy(tmp_path, dict.fromkeys(range(4), 100))
    monkeypatch.setattr(time, "sleep", lambda seconds: busy(tmp_path, later))
    assert quietest(root=tmp_path) == chosen
    busy(tmp_path, dict.fromkeys(range(4), 100))
    assert one_processor("cuda:0", root=tmp_path) == chosen


def test_nothing_is_chosen_where_nobody_can_say_or_the_work_is_the_processors(tmp_path: Path, three: None) -> None:
    assert quietest(root=tmp_path, seconds=0) is None
    busy(tmp_path, {1: 100})
    assert quietest(root=tmp_path, seconds=0) is None, "one alone is no choice"
    busy(tmp_path, dict.fromkeys(range(4), 100))
    assert one_processor("cpu", root=tmp_path, seconds=0) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinities")
def test_a_worker_stays_on_its_processor_and_others_where_they_may() -> None:
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    with open_subject(FACTORY, "model", {}, X, warm_up=QUICK, processors=(chosen,)) as subject:
        subject.warm_up()
        threads = [int(name) for name in os.listdir(f"/proc/{subject.process}/task")]
        assert all(os.sched_getaffinity(thread) == {chosen} for thread in threads)
    with open_subject(FACTORY, "model", {}, X, warm_up=QUICK) as subject:
        assert os.sched_getaffinity(subject.process) == allowed
