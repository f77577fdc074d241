"""Items through stages: in order, bounded, with the stage's name on every error, and nothing lost."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait

import numpy as np
import pytest

from edgec.errors import UsageError
from edgec.runtime.batching import DynamicBatcher
from edgec.runtime.pipelining import Closed, Pipeline, QueueFull, Stage, StageError, Stopped

from ..batching.sessions import PlusOne, sample

LONG = 30.0


def pipeline_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pipeline-")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    end = time.monotonic() + LONG
    while pipeline_threads() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert pipeline_threads() == []


def jitter(value: int) -> int:
    """The value, after a time that changes the order among several workers."""
    time.sleep(random.random() * 0.002)
    return value


def double(value: int) -> int:
    return 2 * value


def reciprocal(value: int) -> float:
    return 1 / value


def test_results_come_in_order_through_stages_of_several_workers() -> None:
    seen: list[int] = []

    def note(value: int) -> int:
        seen.append(value)
        return value

    stages = [Stage("a", jitter, workers=4), Stage("note", note), Stage("b", jitter, workers=3), Stage("c", double)]
    with Pipeline(stages) as pipeline:
        assert list(pipeline.map(range(300))) == [2 * value for value in range(300)]
        assert seen == list(range(300)), "a stage of one worker sees the items in their order"
        assert list(pipeline.map([])) == []


def test_futures_and_callbacks_are_done_in_order() -> None:
    done: list[int] = []
    with Pipeline([Stage("a", jitter, workers=5)]) as pipeline:
        futures = [pipeline.submit(value, callback=lambda future: done.append(future.result())) for value in range(100)]
        assert [future.result(LONG) for future in futures] == list(range(100))
    assert done == list(range(100))


def test_an_endless_input_is_taken_only_as_far_as_results_are() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for value in itertools.count():
            taken.append(value)
            yield value

    with Pipeline([Stage("a", double, workers=2, queue=3), Stage("b", double, queue=2)], queue=4) as pipeline:
        results = pipeline.map(endless())
        assert list(itertools.islice(results, 50)) == [4 * value for value in range(50)]
        time.sleep(0.1)
        assert len(taken) <= 50 + 3 + 2 + 2 + 1 + 4 + 1
        results.close()  # type: ignore[attr-defined]
        assert list(pipeline.map([1, 2])) == [4, 8], "the pipeline can be used again"


def test_results_come_while_the_input_waits() -> None:
    gate = threading.Event()

    def live() -> Iterator[int]:
        yield 1
        assert gate.wait(LONG)
        yield 2

    with Pipeline([Stage("a", double)]) as pipeline:
        results = pipeline.map(live())
        assert next(results) == 2
        gate.set()
        assert list(results) == [4]


def test_an_error_names_its_stage_and_the_others_go_on() -> None:
    with Pipeline([Stage("a", jitter, workers=3), Stage("invert", reciprocal), Stage("c", double)]) as pipeline:
        futures = [pipeline.submit(value) for value in (4, 2, 0, 1)]
        wait(futures, LONG)
        error = futures[2].exception(0)
        assert isinstance(error, StageError) and error.stage == "invert" and error.code == "EDG730"
        assert isinstance(error.__cause__, ZeroDivisionError) and "ZeroDivisionError" in str(error)
        assert [futures[position].result(0) for position in (0, 1, 3)] == [0.5, 1, 2]
        found = pipeline.statistics()
        assert (found.submitted, found.completed, found.failed) == (4, 3, 1)
        assert [stage.failed for stage in found.stages] == [0, 1, 0]
        assert [stage.done for stage in found.stages] == [4, 3, 3], "later stages do not see what failed"


def test_map_raises_in_its_place_or_returns_the_error() -> None:
    with Pipeline([Stage("invert", reciprocal)]) as pipeline:
        results = pipeline.map([1, 2, 0, 4])
        assert next(results) == 1 and next(results) == 0.5
        with pytest.raises(StageError):
            next(results)
        assert list(results) == []
        found = list(pipeline.map([1, 0, 4], errors="return"))
        assert found[0] == 1 and isinstance(found[1], StageError) and found[2] == 0.25


def test_an_error_of_the_input_comes_after_the_results_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("camera unplugged")

    with Pipeline([Stage("a", jitter)]) as pipeline:
        results = pipeline.map(broken())
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(OSError, match="unplugged"):
            next(results)


@pytest.mark.parametrize("seed", range(5))
def test_stopping_finishes_what_was_before_and_refuses_what_comes_after(seed: int) -> None:
    bad = set(random.Random(seed).sample(range(20, 60), 3))

    def picky(value: int) -> int:
        if jitter(value) in bad:
            raise ValueError(value)
        return value

    pipeline = Pipeline([Stage("a", jitter, workers=3), Stage("picky", picky, workers=4)], on_error="stop")
    futures: list[Future[int]] = []
    with pytest.raises(Stopped) as caught:
        for value in itertools.count():
            futures.append(pipeline.submit(value))
    assert caught.value.code == "EDG731" and "picky" in str(caught.value)
    assert pipeline.close(timeout=LONG)
    failed = min(value for value, future in enumerate(futures) if future.exception(0))
    assert failed in bad, "what was before the first failure is finished"
    assert isinstance(futures[failed].exception(0), StageError)
    assert [future.result(0) for future in futures[:failed]] == list(range(failed))
    behind = [future.exception(0) for future in futures[failed + 1 :]]
    assert behind and all(isinstance(error, (Stopped, StageError)) for error in behind)


def test_map_of_a_pipeline_that_stops_raises_the_failure_itself() -> None:
    with Pipeline([Stage("invert", reciprocal)], on_error="stop") as pipeline:
        results = pipeline.map([1, 2, 0, 4, 5])
        assert [next(results), next(results)] == [1, 0.5]
        with pytest.raises(StageError):
            next(results)


def test_whoever_submits_waits_for_room() -> None:
    gate = threading.Event()

    def held(value: int) -> int:
        assert gate.wait(LONG)
        return value

    with Pipeline([Stage("a", double, queue=1), Stage("held", held, queue=2)]) as pipeline:
        futures = [pipeline.submit(value) for value in range(5)]  # 1 runs, 2 wait, 1 is held back, 1 waits
        start = time.monotonic()
        with pytest.raises(QueueFull) as caught:
            for value in range(5, 8):
                futures.append(pipeline.submit(value, timeout=0.05))
        assert time.monotonic() - start >= 0.05 and caught.value.code == "EDG721"
        gate.set()
        assert [future.result(LONG) for future in futures] == [2 * value for value in range(len(futures))]
    assert max(stage.largest_depth - stage.queue_limit for stage in pipeline.statistics().stages) <= 0


def test_stages_work_at_the_same_time() -> None:
    """Each of three stages lets go of its item only when the two others have one as well."""
    barrier = threading.Barrier(3)

    def meet(step: int) -> int:
        if step == 2:  # item 2 in the first stage, 1 in the second and 0 in the third
            barrier.wait(LONG)
        return step + 1

    with Pipeline([Stage(name, meet) for name in "abc"]) as pipeline:
        assert list(pipeline.map([0, 1, 2])) == [3, 4, 5]


def test_a_session_is_a_stage() -> None:
    with Pipeline(
        [
            Stage("preprocess", lambda value: {"x": sample(value)[None]}, workers=2),
            Stage("infer", PlusOne(), device="cpu"),
            Stage("postprocess", lambda outputs: float(outputs["y"][0, 0])),
        ]
    ) as pipeline:
        assert list(pipeline.map(range(50))) == [value + 1 for value in range(50)]
        stages = pipeline.statistics().stages
    assert [stage.device for stage in stages] == [None, "cpu", None]


def test_workers_of_one_stage_share_batches_through_a_batcher() -> None:
    session = PlusOne(seconds=0.002)
    with (
        DynamicBatcher(session, max_batch=8, max_delay_s=0.05) as batcher,
        Pipeline([Stage("prepare", sample), Stage("infer", batcher.run, workers=8)]) as pipeline,
    ):
        assert [result["y"][0] for result in pipeline.map(range(200))] == [value + 1 for value in range(200)]
        assert batcher.statistics().mean_size > 2


def test_a_device_with_a_limit_is_shared() -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def on_device(value: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.001)
        with lock:
            at_once -= 1
        return value

    stages = [Stage("a", on_device, workers=3, device="npu"), Stage("b", on_device, workers=3, device="npu")]
    with Pipeline(stages, devices={"npu": 2}) as pipeline:
        assert list(pipeline.map(range(60))) == list(range(60))
    assert most == 2


def test_work_may_run_in_processes() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as processes:
        stages = [Stage("root", abs, workers=2, executor=processes), Stage("where", type)]
        with Pipeline(stages) as pipeline:
            assert list(pipeline.map([-1, 2.5])) == [int, float]
        with Pipeline([Stage("open", open, executor=processes)]) as pipeline:
            error = pipeline.submit("/no/such/file").exception(LONG)
        assert isinstance(error, StageError) and isinstance(error.__cause__, FileNotFoundError)


def test_an_inline_stage_runs_in_the_threads_of_the_one_before_it() -> None:
    def where(seen: list[str]) -> list[str]:
        return [*seen, threading.current_thread().name]

    stages = [Stage("a", where, workers=2), Stage("b", where, inline=True), Stage("c", where)]
    with Pipeline([*stages, Stage("d", where, inline=True), Stage("e", where, inline=True)], queue=3) as pipeline:
        for names in pipeline.map([[] for _ in range(50)]):
            assert [name.removeprefix("pipeline-") for name in names] == ["a", "a", "c", "c", "c"]
        found = {stage.name: stage for stage in pipeline.statistics().stages}
    assert {name: stage.done for name, stage in found.items()} == dict.fromkeys("abcde", 50)
    assert (found["b"].workers, found["b"].queue_limit, found["d"].workers) == (2, 0, 1)
    assert found["b"].starved_s == 0 and found["b"].busy_s > 0
    assert len(pipeline._engine._threads) == 3


def test_an_inline_stage_that_fails_is_named_and_the_next_ones_do_not_see_the_item() -> None:
    seen: list[float] = []
    stages = [Stage("a", double), Stage("invert", reciprocal, inline=True), Stage("keep", seen.append, inline=True)]
    with Pipeline([*stages, Stage("last", lambda _: "done")]) as pipeline:
        found = list(pipeline.map([1, 0, 2], errors="return"))
        told = {stage.name: (stage.done, stage.failed) for stage in pipeline.statistics().stages}
    assert found[0] == found[2] == "done" and seen == [0.5, 0.25]
    assert isinstance(found[1], StageError) and found[1].stage == "invert"
    assert told == {"a": (3, 0), "invert": (2, 1), "keep": (2, 0), "last": (2, 0)}


def test_an_inline_stage_takes_its_device_only_for_itself() -> None:
    held = {"npu": 0}

    def use(value: int) -> int:
        held["npu"] += 1
        assert held["npu"] == 1
        time.sleep(0.001)
        held["npu"] -= 1
        return value

    stages = [Stage("a", jitter, workers=3), Stage("b", use, inline=True, device="npu"), Stage("c", use, device="npu")]
    with Pipeline(stages, devices={"npu": 1}) as pipeline:
        assert list(pipeline.map(range(40))) == list(range(40))


@pytest.mark.skipif(sys.platform != "linux", reason="threads are bound to cores on Linux only")
def test_a_stage_runs_on_its_own_cores_and_leaves_the_caller_alone() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)

    def where(item: list[set[int]]) -> list[set[int]]:
        return [*item, os.sched_getaffinity(0)]

    with Pipeline([Stage("bound", where, workers=2, cores={core}), Stage("free", where)]) as pipeline:
        assert list(pipeline.map([[], [], []])) == [[{core}, before]] * 3
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="threads are bound to cores on Linux only")
def test_cores_that_were_taken_away_meanwhile_are_an_error_and_no_thread_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = [Stage("first", double), Stage("gone", double, cores={min(os.sched_getaffinity(0))})]

    def refuse(thread: int, cores: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(UsageError, match="'gone'") as caught:
        Pipeline(stages, name="refused")
    assert caught.value.code == "EDG733"
    deadline = time.monotonic() + LONG
    while any(thread.name.startswith("refused") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_statistics_name_the_slowest_stage() -> None:
    def slow(value: int) -> int:
        time.sleep(0.01)
        return value

    with Pipeline([Stage("quick", double), Stage("slow", slow), Stage("last", double)], queue=3) as pipeline:
        list(pipeline.map(range(30)))
        found = pipeline.statistics()
    assert found.bottleneck == "slow"
    quick, middle, last = found.stages
    assert middle.utilisation > 0.5 > last.utilisation
    assert quick.blocked_s > last.blocked_s and last.starved_s > middle.starved_s
    assert middle.largest_depth <= middle.queue_limit == 3 and middle.mean_depth > 1
    assert 0 < found.per_second < 101 and found.under_way == 0
    document = found.to_json()
    assert document["bottleneck"] == "slow" and len(document["stages"]) == 3


def test_a_cancelled_item_is_not_run_and_order_is_kept() -> None:
    gate = threading.Event()
    ran: list[int] = []

    def held(value: int) -> int:
        assert gate.wait(LONG)
        ran.append(value)
        return value

    with Pipeline([Stage("held", held)]) as pipeline:
        futures = [pipeline.submit(value) for value in range(4)]
        while pipeline.statistics().stages[0].queue_depth != 3:
            time.sleep(0.001)
        assert futures[2].cancel() and not futures[0].cancel()
        gate.set()
        assert [futures[value].result(LONG) for value in (0, 1, 3)] == [0, 1, 3]
        with pytest.raises(CancelledError):
            futures[2].result(0)
    assert ran == [0, 1, 3]
    assert pipeline.statistics().cancelled == 1


def test_close_finishes_what_was_submitted_in_order_through_several_workers() -> None:
    pipeline = Pipeline([Stage("a", jitter, workers=2), Stage("b", jitter)], queue=50)
    futures = [pipeline.submit(value) for value in range(40)]
    assert pipeline.close()
    assert [future.result(0) for future in futures] == list(range(40))


def test_close_without_draining_ends_every_future() -> None:
    gate, entered = threading.Event(), threading.Event()

    def held(value: int) -> int:
        entered.set()
        assert gate.wait(LONG)
        return value

    pipeline = Pipeline([Stage("a", held), Stage("b", double)], queue=10)
    futures = [pipeline.submit(value) for value in range(8)]
    assert entered.wait(LONG)
    threading.Timer(0.05, gate.set).start()
    assert pipeline.close(drain=False)
    assert not wait(futures, 5).not_done
    assert isinstance(futures[0].exception(0), Closed), "it had begun, and ended at the next stage"
    assert all(future.cancelled() for future in futures[1:])


def test_a_stage_that_hangs_leaves_no_future_undone() -> None:
    gate = threading.Event()

    def held(value: int) -> int:
        assert gate.wait(LONG)
        return value

    pipeline = Pipeline([Stage("a", double), Stage("held", held)], queue=2)
    futures = [pipeline.submit(value) for value in range(5)]
    assert futures[4].cancel()
    assert not pipeline.close(timeout=0.1)
    assert not wait(futures, 5).not_done
    assert {type(future.exception(0)) for future in futures if not future.cancelled()} == {Closed}
    gate.set()


def test_work_that_raises_system_exit_fails_its_item_only() -> None:
    def leave(value: int) -> int:
        if value == 1:
            sys.exit(3)
        return value

    with Pipeline([Stage("leave", leave)]) as pipeline:
        found = list(pipeline.map([0, 1, 2], errors="return"))
    assert found[0] == 0 and found[2] == 2 and isinstance(found[1].__cause__, SystemExit)


def test_a_forgotten_pipeline_answers_and_ends() -> None:
    pipeline = Pipeline([Stage("a", jitter), Stage("b", double)])
    future = pipeline.submit(1)
    gone = weakref.ref(pipeline)
    del pipeline
    assert gone() is None
    assert future.result(LONG) == 2


def test_items_are_not_kept() -> None:
    with Pipeline([Stage("sum", np.sum), Stage("b", double)]) as pipeline:
        array = np.ones(10)
        gone = weakref.ref(array)
        future = pipeline.submit(array)
        del array
        assert future.result(LONG) == 20
        pipeline.submit(np.ones(1)).result(LONG)
        assert gone() is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pipeline([]),
        lambda: Pipeline([Stage("a", double), Stage("a", double)]),
        lambda: Pipeline([Stage("a", double)], queue=0),
        lambda: Pipeline([Stage("a", double)], on_error="ignore"),  # type: ignore[arg-type]
        lambda: Pipeline([Stage("a", double)], devices={"npu": 1}),
        lambda: Pipeline([Stage("a", double, device="npu")], devices={"npu": 0}),
        lambda: Stage("a", double, workers=0),
        lambda: Stage("a", double, queue=0),
        lambda: Stage("a", 3),
        lambda: Stage("a", double, cores=[]),
        lambda: Stage("a", double, inline=True, workers=2),
        lambda: Stage("a", double, inline=True, queue=3),
        lambda: Stage("a", double, inline=True, cores=[0]),
        lambda: Stage("a", double, inline=True, executor=ThreadPoolExecutor(1)),
        lambda: Pipeline([Stage("a", double, inline=True)]),
        lambda: Stage("a", double, cores=[10_000]),
        lambda: Stage("a", double, cores=[0], executor=ThreadPoolExecutor(1)),
    ],
)
def test_arguments_that_make_no_pipeline_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == "EDG733"


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_among_many_threads_that_submit_cancel_and_close(seed: int) -> None:
    """Every future ends: with its own result, its own error, or cancelled; the counts add up."""
    chance = random.Random(seed)
    inline, workers = seed >= 4, chance.randrange(1, 4)
    stages = [
        Stage("a", jitter if seed % 2 else double, workers=chance.randrange(1, 4), queue=chance.randrange(1, 4)),
        Stage("invert", lambda value: (value, 1 / (value % 50)), workers=1 if inline else workers, inline=inline),
        Stage("c", lambda pair: pair[0], workers=2, queue=1),
    ]
    pipeline = Pipeline(stages, queue=3)
    kept: list[tuple[int, Future[int]]] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        for turn in range(100):
            value = number * 1000 + turn
            try:
                future = pipeline.submit(value, timeout=0.002 if turn % 5 == 0 else None)
            except (QueueFull, Closed):
                continue
            if turn % 11 == 0:
                future.cancel()
            with lock:
                kept.append((value, future))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    if seed == 3:
        time.sleep(0.05)
        pipeline.close(drain=False)
    for thread in threads:
        thread.join()
    assert pipeline.close(timeout=LONG)
    assert not wait([future for _, future in kept], LONG).not_done
    factor = 1 if seed % 2 else 2
    for value, future in kept:
        assert future.done()
        if future.cancelled():
            continue
        error = future.exception(0)
        if isinstance(error, Closed):
            assert seed == 3
        elif factor * value % 50 == 0:
            assert isinstance(error, StageError) and error.stage == "invert"
        else:
            assert future.result(0) == factor * value
    found = pipeline.statistics()
    assert found.submitted == len(kept) and found.under_way == 0
