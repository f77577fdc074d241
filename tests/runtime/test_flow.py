"""What batchers and pipelines promise alike: how they close, and what becomes of callbacks, forks and forgetting."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import pytest

from edgec.runtime.batching import DynamicBatcher
from edgec.runtime.flow import Closed
from edgec.runtime.pipelining import Pipeline, Stage
from edgec.runtime.session import TensorSpec

LONG = 30.0
"""Longer than any test takes; whoever waits for it waits for nothing."""

Work = Callable[[float], float]


class Working:
    """A session that does the work for each row."""

    inputs = (TensorSpec("x", np.dtype(np.float32), ("batch",)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), ("batch",)),)

    def __init__(self, work: Work):
        self.work = work

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": np.array([self.work(float(value)) for value in feeds["x"]], np.float32)}

    def close(self) -> None: ...


class Flow:
    """A batcher or a pipeline of one stage, for numbers."""

    def __init__(self, kind: str, work: Work):
        self.target: Any
        if kind == "batcher":
            self.target = DynamicBatcher(Working(work), max_batch=1, queue_limit=100, name="flow")
        else:
            self.target = Pipeline([Stage("work", work)], queue=100, name="flow")

    def submit(self, value: float, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        item = np.array(value, np.float32) if isinstance(self.target, DynamicBatcher) else value
        future: Future[Any] = self.target.submit(item, callback=callback)
        return future


def answer(future: Future[Any], timeout: float = LONG) -> float:
    found = future.result(timeout)
    return float(found["y"]) if isinstance(found, dict) else found


def double(value: float) -> float:
    return 2 * value


class Gated:
    """Work that waits for the gate."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, value: float) -> float:
        self.entered.set()
        assert self.gate.wait(LONG)
        return 2 * value


@pytest.fixture(params=["batcher", "pipeline"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[Work], Flow]]:
    yield lambda work: Flow(request.param, work)
    end = time.monotonic() + LONG
    while (left := [t for t in threading.enumerate() if t.name.startswith("flow-")]) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert left == []


Make = Callable[[Work], Flow]


def test_close_answers_what_was_submitted_and_refuses_more(make: Make) -> None:
    flow = make(lambda value: (time.sleep(0.005), 2 * value)[1])
    futures = [flow.submit(value) for value in range(11)]
    assert flow.target.close()
    assert [answer(future, 0) for future in futures] == [2 * value for value in range(11)]
    with pytest.raises(Closed) as caught:
        flow.submit(0)
    assert caught.value.code == "EDG722"
    assert flow.target.close(), "closing twice is allowed"


def test_close_without_draining_cancels_what_waits_and_ends_what_runs(make: Make) -> None:
    work = Gated()
    flow = make(work)
    futures = [flow.submit(value) for value in range(5)]
    assert work.entered.wait(LONG)
    threading.Timer(0.05, work.gate.set).start()
    assert flow.target.close(drain=False)
    assert not wait(futures, 5).not_done
    assert answer(futures[0], 0) == 0 and all(future.cancelled() for future in futures[1:])


def test_work_that_hangs_leaves_no_future_undone(make: Make) -> None:
    work = Gated()
    flow = make(work)
    futures = [flow.submit(value) for value in range(4)]
    assert work.entered.wait(LONG) and futures[3].cancel()
    assert not flow.target.close(timeout=0.05)
    assert not wait(futures, 5).not_done
    assert isinstance(futures[0].exception(0), Closed)
    work.gate.set()


def test_close_from_a_callback_does_not_wait_for_itself(make: Make) -> None:
    closed: list[bool] = []
    flow = make(double)
    future = flow.submit(3, callback=lambda _: closed.append(flow.target.close()))
    assert answer(future) == 6
    assert flow.target.close(timeout=LONG) and closed == [False]


def test_an_error_in_the_block_cancels_what_has_not_begun(make: Make) -> None:
    work = Gated()
    flow = make(work)
    with pytest.raises(KeyError), flow.target:
        futures = [flow.submit(value) for value in range(5)]
        assert work.entered.wait(LONG)
        threading.Timer(0.05, work.gate.set).start()
        raise KeyError
    assert all(future.done() for future in futures) and futures[-1].cancelled()


@pytest.mark.parametrize("problem", [ValueError("callback"), SystemExit("callback")])
def test_a_callback_that_raises_harms_nobody(
    make: Make, problem: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def callback(_: object) -> None:
        raise problem

    flow = make(double)
    with flow.target:
        futures = [flow.submit(value, callback=callback) for value in range(8)]
        assert [answer(future) for future in futures] == [2 * value for value in range(8)]
    assert "callback" in caplog.text


def test_a_callback_may_submit_more(make: Make) -> None:
    done, seen = threading.Event(), []
    flow = make(double)

    def callback(future: Future[Any]) -> None:
        seen.append(answer(future, 0))
        if len(seen) < 5:
            flow.submit(seen[-1], callback=callback)
        else:
            done.set()

    with flow.target:
        flow.submit(1, callback=callback)
        assert done.wait(LONG)
    assert seen == [2, 4, 8, 16, 32]


def test_what_is_forgotten_answers_and_ends(make: Make) -> None:
    flow = make(double)
    future = flow.submit(1)
    gone = weakref.ref(flow.target)
    del flow
    assert gone() is None
    assert answer(future) == 2


def test_a_forked_child_is_told_instead_of_waiting_for_ever(make: Make) -> None:
    flow = make(double)
    with flow.target:
        child = os.fork()
        if child == 0:  # pragma: no cover
            code = 1
            try:
                flow.submit(0)
            except Closed as error:
                code = 42 if error.code == "EDG722" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert answer(flow.submit(1)) == 2


@pytest.mark.parametrize("kind", ["batcher", "pipeline"])
def test_a_program_that_ends_without_closing_still_gets_its_answers(kind: str) -> None:
    program = (
        "import time\n"
        "from tests.runtime.test_flow import Flow, answer\n"
        f"flow = Flow({kind!r}, lambda value: (time.sleep(0.05), 2 * value)[1])\n"
        "for value in range(4):\n"
        "    flow.submit(value, callback=lambda future: print(int(answer(future)), flush=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "2", "4", "6"]
