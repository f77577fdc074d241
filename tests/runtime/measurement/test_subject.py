"""Subjects: real sessions in worker processes, timed there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.runtime.measurement import DuelRules, Subject, WarmUp, open_subject
from edgec.runtime.measurement.duel import Duel
from edgec.runtime.measurement.loop import join, split
from tests.models import real_model

FACTORY = "tests.runtime.factories:open_session"
X = {"x": np.arange(4, dtype=np.float32).reshape(2, 2)}
QUICK = WarmUp(runs=2, seconds=0.01, limit_s=0.5)


def sleeper(milliseconds: float) -> Subject:
    return open_subject("tests.runtime.factories:open_sleeper", str(milliseconds), {}, X, warm_up=QUICK)


def test_a_real_model_is_timed_in_its_worker() -> None:
    feeds = {"Input3": np.zeros((1, 1, 28, 28), np.float32)}
    path = real_model("mnist-conv")
    with open_subject("edgec.runtime.onnxruntime:open_session", path, {}, feeds) as subject:
        assert [spec.name for spec in subject.inputs] == ["Input3"]
        warmth = subject.warm_up()
        assert warmth.runs >= 10 and warmth.seconds >= 0.2
        seconds = subject.time(50)
        assert len(seconds) == 50 and all(0 < value < 1 for value in seconds)
        assert subject.runs == 50 and subject.cpu_s > 0
        memory = subject.peak_memory
        assert 0 < memory.added < memory.total
        assert subject.cold_start >= warmth.first_s > 0
        assert subject.process != os.getpid()


def test_memory_that_the_model_takes_is_seen() -> None:
    with open_subject("tests.runtime.factories:open_hoarder", str(200 << 20), {}, X, warm_up=QUICK) as subject:
        subject.time(1)
        assert 200 << 20 <= subject.peak_memory.added < 260 << 20


def test_samples_survive_the_journey() -> None:
    samples = [{"a/b": np.zeros(2), "": np.ones((1, 0))}, {"a/b": np.ones(2), "": np.ones((1, 0))}]
    back = split(join(samples))
    assert [list(sample) for sample in back] == [["a/b", ""], ["a/b", ""]]
    assert back[1]["a/b"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("behaviour", "code", "word"),
    [("abort", "EDG303", "SIGABRT"), ("segfault", "EDG303", "SIGSEGV"), ("fail", "EDG303", "shapes are wrong")],
)
def test_what_goes_wrong_in_the_worker_is_an_error(behaviour: str, code: str, word: str) -> None:
    with open_subject(FACTORY, behaviour, {}, X) as subject, pytest.raises(EdgecError, match=word) as raised:
        subject.time(1)
    assert raised.value.code == code


def test_what_does_not_load_is_an_error() -> None:
    with pytest.raises(EdgecError) as raised:
        open_subject(FACTORY, "abort-at-load", {}, X)
    assert raised.value.code == "EDG302"


def test_a_hang_is_stopped() -> None:
    began = time.monotonic()
    with open_subject(FACTORY, "hang", {}, X) as subject, pytest.raises(EdgecError, match="longer than"):
        subject._session._worker._timeout_s = 1.0  # starting it may take longer on a busy machine
        subject.warm_up()
    assert time.monotonic() - began < 20


def test_a_worker_that_is_killed_ends_the_duel_with_its_reason() -> None:
    with sleeper(1) as first, sleeper(1) as second:
        duel = Duel(first, second, DuelRules())
        duel.block()
        os.kill(second.process, signal.SIGKILL)
        with pytest.raises(EdgecError, match="SIGKILL"):
            duel.block()


def test_no_worker_outlives_its_subject() -> None:
    with sleeper(1) as subject:
        process = subject.process
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()
