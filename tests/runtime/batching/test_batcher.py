"""Samples in, batches through, results out: to the right futures, whatever happens on the way."""

from __future__ import annotations

import gc
import queue
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.runtime.batching import BatchFuture, Closed, DynamicBatcher, QueueFull
from edgec.runtime.memory import HostPool
from edgec.runtime.session import TensorSpec

from .sessions import FLOAT, PlusOne, TwoInputs, sample

LONG = 30.0
"""Longer than any test takes; whoever waits for it waits for nothing."""


def batcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batcher-")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> object:
    yield
    end = time.monotonic() + LONG
    while batcher_threads() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert batcher_threads() == []


def test_every_sample_gets_its_own_result() -> None:
    session = PlusOne()
    with DynamicBatcher(session, max_batch=8) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(100)]
        for value, future in enumerate(futures):
            assert (future.result(LONG)["y"] == value + 1).all()
    assert sum(session.batches) == 100 and max(session.batches) <= 8
    assert session.most_at_once == 1


def test_several_inputs_and_outputs_and_a_shared_one() -> None:
    shared = {"scale": np.array(10, np.float32)}
    with DynamicBatcher(TwoInputs(), max_batch=4, shared=shared) as batcher:
        futures = [
            batcher.submit({"a": np.array([n, 2 * n], np.float32), "b": np.array([n, n], np.int64)}) for n in range(10)
        ]
        for n, future in enumerate(futures):
            found = future.result(LONG)
            assert found["sum"].tolist() == [11 * n, 12 * n] and found["half"].tolist() == [n / 2, n]


def test_a_full_batch_does_not_wait() -> None:
    session = PlusOne()
    with DynamicBatcher(session, max_batch=4, max_delay_s=LONG, eager=False) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(4)]
        assert not wait(futures, 5).not_done
        assert session.batches == [4]


def test_a_batch_goes_when_its_oldest_sample_has_waited_long_enough() -> None:
    session = PlusOne()
    with DynamicBatcher(session, max_batch=100, max_delay_s=0.05, eager=False) as batcher:
        start = time.monotonic()
        futures = [batcher.submit(sample(value)) for value in range(3)]
        assert not wait(futures, 5).not_done
        assert time.monotonic() - start >= 0.05
        assert session.batches == [3]
        assert futures[0].queued_s is not None and futures[0].queued_s >= 0.05
        assert futures[0].batch_size == 3


def test_a_lone_client_waits_for_nobody() -> None:
    with DynamicBatcher(PlusOne(), max_batch=8, max_delay_s=LONG) as batcher:
        for value in range(20):
            assert (batcher.run(sample(value), timeout=LONG)["y"] == value + 1).all()
        assert batcher.statistics().sizes == {1: 20}


def test_clients_that_wait_for_their_answers_share_batches() -> None:
    """8 clients, each with one sample under way: soon the batches have 8 samples, long before the delay is over."""
    session = PlusOne(seconds=0.002)

    def client() -> None:
        for value in range(50):
            batcher.run(sample(value), timeout=LONG)

    with DynamicBatcher(session, max_batch=32, max_delay_s=0.5) as batcher:
        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = batcher.statistics()
    assert found.completed == 400 and found.mean_size > 4


def test_flush_runs_what_waits_without_delay() -> None:
    session = PlusOne()
    with DynamicBatcher(session, max_batch=100, max_delay_s=LONG, eager=False) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(3)]
        assert batcher.flush(5)
        assert all(future.done() for future in futures) and session.batches == [3]
        late = batcher.submit(sample(0))
        assert not wait([late], 0.05).done, "a flush concerns what came before it"


def test_flush_says_when_the_time_was_not_enough() -> None:
    gate = threading.Event()
    with DynamicBatcher(PlusOne(gate=gate), max_batch=2) as batcher:
        future = batcher.submit(sample(1))
        assert not batcher.flush(0.05)
        gate.set()
        assert batcher.flush(5) and future.done()


def test_only_the_bad_samples_of_a_batch_fail() -> None:
    session = PlusOne(bad=(13.0, 14.0, 27.0))
    with DynamicBatcher(session, max_batch=32, max_delay_s=LONG, eager=False) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(32)]
        wait(futures, LONG)
        for value, future in enumerate(futures):
            if value in session.bad:
                assert f"cannot run {float(value)}" in str(future.exception(0))
            else:
                assert (future.result(0)["y"] == value + 1).all()
        found = batcher.statistics()
    assert (found.completed, found.failed) == (29, 3) and found.isolated > 0


def test_random_bad_samples_never_harm_their_mates() -> None:
    chance = random.Random(0)
    for _ in range(20):
        size = chance.randrange(1, 24)
        bad = tuple(float(value) for value in chance.sample(range(size), chance.randrange(size + 1)))
        with DynamicBatcher(PlusOne(bad=bad), max_batch=size, max_delay_s=LONG, eager=False) as batcher:
            futures = [batcher.submit(sample(value)) for value in range(size)]
            assert not wait(futures, LONG).not_done
        assert [float(value) for value, future in enumerate(futures) if future.exception(0)] == sorted(bad)


@pytest.mark.parametrize(
    "wrong",
    [
        {"z": sample(1)},
        {},
        {"x": sample(1), "z": sample(1)},
        np.zeros(4, np.float64),
        np.zeros(5, np.float32),
        np.zeros((1, 4), np.float32),
        np.zeros((), np.float32),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_before_it_meets_others(wrong: object) -> None:
    with DynamicBatcher(PlusOne(), max_batch=4, max_delay_s=LONG, eager=False) as batcher:
        mate = batcher.submit(sample(1))
        with pytest.raises(UsageError) as caught:
            batcher.submit(wrong)  # type: ignore[arg-type]
        assert caught.value.code == "EDG720"
        assert batcher.flush(5) and (mate.result(0)["y"] == 2).all()


def test_samples_of_different_shapes_never_share_a_batch() -> None:
    session = PlusOne(shape=("batch", "width"))
    with DynamicBatcher(session, max_batch=16, max_delay_s=0.01) as batcher:
        widths = [chance.randrange(1, 5) for chance in [random.Random(1)] for _ in range(200)]
        futures = [batcher.submit(sample(value, width)) for value, width in enumerate(widths)]
        for value, (width, future) in enumerate(zip(widths, futures)):
            assert future.result(LONG)["y"].tolist() == [value + 1] * width


def test_the_oldest_shape_is_not_starved_by_a_busier_one() -> None:
    session = PlusOne(shape=("batch", "width"), seconds=0.001)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            batcher.submit(sample(0, 2))

    with DynamicBatcher(session, max_batch=4, max_delay_s=0.01, queue_limit=64) as batcher:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(10):
                lone = batcher.run(sample(5, 3), timeout=LONG)
                assert (lone["y"] == 6).all()
        finally:
            stop.set()
            thread.join()


def test_a_model_of_fixed_batch_is_padded_and_the_statistics_say_so() -> None:
    session = PlusOne(shape=(8, 4))
    with DynamicBatcher(session, max_batch=8, max_delay_s=LONG, eager=False) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(3)]
        assert batcher.flush(5)
        assert [future.result(0)["y"][0] for future in futures] == [1, 2, 3]
        found = batcher.statistics()
    assert session.batches == [8] and found.padded == 5 and found.sizes == {3: 1}
    with pytest.raises(UsageError) as caught:
        DynamicBatcher(session, max_batch=9)
    assert "--batch 9" in str(caught.value.help)
    with pytest.raises(UsageError):
        DynamicBatcher(session, max_batch=8, sizes=[4, 8])


def test_batches_are_padded_to_the_sizes_given() -> None:
    session = PlusOne()
    with DynamicBatcher(session, max_batch=8, max_delay_s=LONG, eager=False, sizes=[1, 4, 8]) as batcher:
        for count in (1, 3, 5, 8):
            futures = [batcher.submit(sample(value)) for value in range(count)]
            assert batcher.flush(5)
            assert [future.result(0)["y"][0] for future in futures] == [value + 1 for value in range(count)]
    assert session.batches == [1, 4, 8, 8]


def test_a_full_queue_blocks_until_there_is_room() -> None:
    gate = threading.Event()
    session = PlusOne(gate=gate)
    with DynamicBatcher(session, max_batch=1, queue_limit=2) as batcher:
        futures = [batcher.submit(sample(0))]
        assert session.entered.wait(LONG)
        futures += [batcher.submit(sample(value)) for value in (1, 2)]
        start = time.monotonic()
        with pytest.raises(QueueFull) as caught:
            batcher.submit(sample(9), timeout=0.05)
        assert time.monotonic() - start >= 0.05
        assert caught.value.code == "EDG721" and isinstance(caught.value, queue.Full)
        threading.Timer(0.05, gate.set).start()
        futures.append(batcher.submit(sample(3), timeout=LONG))
        assert [future.result(LONG)["y"][0] for future in futures] == [1, 2, 3, 4]
        assert batcher.statistics().refused == 1


def test_a_full_queue_refuses_at_once_where_asked_to() -> None:
    gate = threading.Event()
    session = PlusOne(gate=gate)
    with DynamicBatcher(session, max_batch=1, queue_limit=1, when_full="raise") as batcher:
        futures = [batcher.submit(sample(0))]
        assert session.entered.wait(LONG)
        futures.append(batcher.submit(sample(1)))
        with pytest.raises(QueueFull):
            batcher.submit(sample(2))
        gate.set()
        assert not wait(futures, LONG).not_done


def test_a_cancelled_sample_does_not_run_and_leaves_room() -> None:
    gate = threading.Event()
    session = PlusOne(gate=gate)
    with DynamicBatcher(session, max_batch=4, queue_limit=2, max_delay_s=0, when_full="raise") as batcher:
        running = batcher.submit(sample(0))
        assert session.entered.wait(LONG)
        first, second = batcher.submit(sample(1)), batcher.submit(sample(2))
        assert first.cancel() and not running.cancel()
        third = batcher.submit(sample(3))
        gate.set()
        assert [future.result(LONG)["y"][0] for future in (running, second, third)] == [1, 3, 4]
        with pytest.raises(CancelledError):
            first.result(0)
        assert not wait([first], 5).not_done, "whoever waits for it is told"
        found = batcher.statistics()
    assert found.cancelled == 1 and sum(session.batches) == 3


def test_callbacks_get_the_future_and_may_submit_more() -> None:
    done = threading.Event()
    seen: list[float] = []

    def callback(future: BatchFuture) -> None:
        value = float(future.result()["y"][0])
        seen.append(value)
        if value < 5:
            batcher.submit(sample(value), callback=callback)
        else:
            done.set()

    with DynamicBatcher(PlusOne(), max_batch=4) as batcher:
        batcher.submit(sample(0), callback=callback)
        assert done.wait(LONG)
    assert seen == [1, 2, 3, 4, 5]


def test_close_runs_what_waits_without_delay() -> None:
    session = PlusOne(seconds=0.01)
    batcher = DynamicBatcher(session, max_batch=2, max_delay_s=LONG, queue_limit=100, eager=False)
    futures = [batcher.submit(sample(value)) for value in range(11)]
    assert batcher.close()
    assert [future.result(0)["y"][0] for future in futures] == list(range(1, 12))


def test_those_who_wait_for_room_are_told_when_it_closes() -> None:
    gate = threading.Event()
    session = PlusOne(gate=gate)
    batcher = DynamicBatcher(session, max_batch=1, queue_limit=1)
    batcher.submit(sample(0))
    assert session.entered.wait(LONG)
    batcher.submit(sample(1))
    outcome: list[str] = []

    def blocked() -> None:
        try:
            batcher.submit(sample(2))
        except Closed as error:
            outcome.append(error.code)

    thread = threading.Thread(target=blocked)
    thread.start()
    time.sleep(0.05)
    threading.Timer(0.05, gate.set).start()
    batcher.close(drain=False)
    thread.join(LONG)
    assert outcome == ["EDG722"]


def test_an_error_in_the_block_cancels_what_waits() -> None:
    with pytest.raises(KeyError), DynamicBatcher(PlusOne(), max_batch=9, max_delay_s=LONG, eager=False) as batcher:
        future = batcher.submit(sample(0))
        raise KeyError
    assert future.cancelled()


def test_a_forgotten_batcher_answers_and_ends() -> None:
    batcher = DynamicBatcher(PlusOne(), max_batch=9, max_delay_s=LONG, eager=False)
    future = batcher.submit(sample(1))
    gone = weakref.ref(batcher)
    del batcher
    assert gone() is None
    assert (future.result(LONG)["y"] == 2).all()


def test_a_future_keeps_neither_the_sample_nor_the_batch() -> None:
    with DynamicBatcher(PlusOne(), max_batch=4, max_delay_s=LONG, eager=False) as batcher:
        x = sample(1)
        gone = weakref.ref(x)
        futures = [batcher.submit(x), *(batcher.submit(sample(0)) for _ in range(3))]
        wait(futures, 5)
        assert batcher.flush()
        del x
        assert gone() is None
        result = futures[0].result(0)["y"]
        assert result.base is None or result.base.size == 4


def test_batch_buffers_lie_in_the_pool_and_go_back() -> None:
    pool = HostPool()
    seen: list[bool] = []

    class Looking(PlusOne):
        def run(self, feeds):  # type: ignore[no-untyped-def]
            seen.append(pool.owns(feeds["x"]))
            return super().run(feeds)

    with DynamicBatcher(Looking(), max_batch=4, pool=pool) as batcher:
        wait([batcher.submit(sample(value)) for value in range(50)], LONG)
    assert all(seen) and seen
    assert pool.statistics().live == 0


def test_a_pool_without_room_fails_the_samples_not_the_batcher() -> None:
    pool = HostPool(limit=64)
    with DynamicBatcher(PlusOne(), max_batch=32, pool=pool) as batcher:
        with pytest.raises(MemoryError):
            batcher.run(sample(1), timeout=LONG)
        with pytest.raises(MemoryError):
            batcher.run(sample(1), timeout=LONG)
        assert batcher.statistics().failed == 2


def test_a_model_without_a_batch_dimension_is_refused() -> None:
    class Scalar(PlusOne):
        outputs = (TensorSpec("y", FLOAT, ()),)  # type: ignore[assignment]

    for make in (
        lambda: DynamicBatcher(TwoInputs(), max_batch=2),
        lambda: DynamicBatcher(Scalar(), max_batch=2),
        lambda: DynamicBatcher(PlusOne(), max_batch=2, shared={"x": sample(1)}),
    ):
        with pytest.raises(EdgecError) as caught:
            make()
        assert caught.value.code == "EDG724"


def test_an_output_that_cannot_be_split_is_an_error_not_a_wrong_answer() -> None:
    class Summing(PlusOne):
        def run(self, feeds):  # type: ignore[no-untyped-def]
            return {"y": feeds["x"].sum(axis=0, keepdims=True)}

    with DynamicBatcher(Summing(), max_batch=4, max_delay_s=LONG, eager=False) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(4)]
        wait(futures, 5)
        errors = [future.exception(0) for future in futures]
        assert [error.code for error in errors if isinstance(error, EdgecError)] == ["EDG724"] * 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_batch": 0},
        {"max_batch": 2, "queue_limit": 0},
        {"max_batch": 2, "max_delay_s": -1},
        {"max_batch": 2, "max_delay_s": float("nan")},
        {"max_batch": 2, "when_full": "drop"},
        {"max_batch": 2, "sizes": []},
        {"max_batch": 4, "sizes": [2]},
        {"max_batch": 2, "concurrency": 0},
        {"max_batch": 2, "shared": {"z": sample(1)}},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        DynamicBatcher(PlusOne(), **arguments)  # type: ignore[arg-type]
    assert caught.value.code == "EDG720"


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_among_many_threads_that_submit_cancel_and_close(seed: int) -> None:
    """Every future ends: with its own result, its own error, or cancelled; the counts add up."""
    chance = random.Random(seed)
    session = PlusOne(bad=(666.0,))
    batcher = DynamicBatcher(session, max_batch=7, max_delay_s=0.001, queue_limit=20, concurrency=1 + seed)
    kept: list[tuple[float, BatchFuture]] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        for turn in range(300):
            value = 666.0 if chance.random() < 0.02 else float(number * 1000 + turn)
            try:
                future = batcher.submit(sample(value), timeout=0.001 if chance.random() < 0.2 else None)
            except (QueueFull, Closed):
                continue
            if chance.random() < 0.1:
                future.cancel()
            with lock:
                kept.append((value, future))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    if seed == 2:
        time.sleep(0.05)
        batcher.close(drain=False)
    for thread in threads:
        thread.join()
    assert batcher.close(timeout=LONG)
    assert not wait([future for _, future in kept], LONG).not_done
    for value, future in kept:
        assert future.done()
        if future.cancelled():
            continue
        if value == 666.0:
            assert "666" in str(future.exception(0))
        else:
            assert (future.result(0)["y"] == value + 1).all()
    found = batcher.statistics()
    assert found.submitted == len(kept) == found.completed + found.failed + found.cancelled
    assert found.waiting == found.running == 0
    assert found.latency.count == min(10_000, found.completed + found.failed)


def test_percentiles_need_enough_samples() -> None:
    with DynamicBatcher(PlusOne(), max_batch=8) as batcher:
        for value in range(20):
            batcher.run(sample(value))
        batcher.flush()
        few = batcher.statistics().latency
        assert few.count == 20 and few.median is not None and few.p90 is None and few.p99 is None
        wait([batcher.submit(sample(value)) for value in range(1000)], LONG)
        batcher.flush()
        many = batcher.statistics()
    assert many.latency.p99 is not None and many.latency.median <= many.latency.p90 <= many.latency.p99  # type: ignore[operator]
    document = many.to_json()
    assert document["completed"] == 1020 and all(isinstance(size, str) for size in document["sizes"])


def test_a_batch_may_lie_along_another_axis() -> None:
    class Recurrent:
        """`y` = x + state summed; the state has its batch second, as in PyTorch's LSTMs."""

        inputs = (TensorSpec("x", FLOAT, ("batch", 3)), TensorSpec("state", FLOAT, (2, "batch", 3)))
        outputs = (TensorSpec("y", FLOAT, ("batch", 3)), TensorSpec("next", FLOAT, (2, "batch", 3)))

        def run(self, feeds):  # type: ignore[no-untyped-def]
            assert feeds["state"].flags.c_contiguous
            assert feeds["state"].shape == (2, *feeds["x"].shape)
            return {"y": feeds["x"] + feeds["state"].sum(axis=0), "next": feeds["state"] * 2}

        def close(self) -> None: ...

    axes = {"state": 1, "next": 1}
    for pool in (None, HostPool()):
        with DynamicBatcher(Recurrent(), max_batch=4, axes=axes, pool=pool) as batcher:
            state = np.arange(6, dtype=np.float32).reshape(2, 3)
            futures = [batcher.submit({"x": sample(n, 3), "state": state + n}) for n in range(9)]
            for n, future in enumerate(futures):
                found = future.result(LONG)
                assert found["y"].tolist() == [n + 3 + 2 * n, n + 5 + 2 * n, n + 7 + 2 * n]
                assert found["next"].tolist() == ((state + n) * 2).tolist()
    for wrong in ({"state": 3, "next": 1}, {"sate": 1}):
        with pytest.raises(UsageError):
            DynamicBatcher(Recurrent(), max_batch=4, axes=wrong)


def test_a_lone_caller_runs_its_sample_itself_and_gives_way_to_others() -> None:
    threads: list[str] = []

    class Noting(PlusOne):
        def run(self, feeds):  # type: ignore[no-untyped-def]
            threads.append(threading.current_thread().name)
            return super().run(feeds)

    session = Noting(bad=(7.0,))
    with DynamicBatcher(session, max_batch=4) as batcher:
        for value in range(5):
            assert (batcher.run(sample(value))["y"] == value + 1).all()
        assert threads == [threading.current_thread().name] * 5
        with pytest.raises(RuntimeError, match="cannot run 7"):
            batcher.run(sample(7))
        session.gate = threading.Event()
        lone = threading.Thread(target=batcher.run, args=(sample(1),))
        session.entered.clear()
        lone.start()
        assert session.entered.wait(LONG)
        futures = [batcher.submit(sample(value)) for value in range(3)]
        assert not wait(futures, 0.05).done, "the session is used by one thread at a time"
        session.gate.set()
        assert not wait(futures, 5).not_done
        lone.join()
        assert session.most_at_once == 1
        found = batcher.statistics()
    assert found.completed == 9 and found.failed == 1 and found.submitted == 10


def test_close_waits_for_a_caller_that_runs_its_sample_itself() -> None:
    session = PlusOne(gate=threading.Event())
    batcher = DynamicBatcher(session, max_batch=4)
    results: list[float] = []
    lone = threading.Thread(target=lambda: results.append(float(batcher.run(sample(1))["y"][0])))
    lone.start()
    assert session.entered.wait(LONG)
    started = time.monotonic()
    assert session.gate is not None
    threading.Timer(0.1, session.gate.set).start()
    assert batcher.close()
    assert time.monotonic() - started >= 0.09
    lone.join(LONG)
    assert results == [2]


def test_several_batches_run_at_once_where_asked_to() -> None:
    session = PlusOne(seconds=0.01)
    with DynamicBatcher(session, max_batch=2, concurrency=3, queue_limit=100) as batcher:
        futures = [batcher.submit(sample(value)) for value in range(60)]
        assert [future.result(LONG)["y"][0] for future in futures] == list(range(1, 61))
    assert session.most_at_once == 3


def test_clients_are_spread_over_concurrent_batches_without_waiting() -> None:
    """4 clients and batches of 2: two batches of 2 at once, though no further sample ever comes while they run."""
    session = PlusOne(seconds=0.002)

    def client() -> None:
        for value in range(30):
            batcher.submit(sample(value)).result(LONG)

    start = time.monotonic()
    with DynamicBatcher(session, max_batch=2, concurrency=2, max_delay_s=1.0) as batcher:
        threads = [threading.Thread(target=client) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert batcher.statistics().completed == 90
    assert time.monotonic() - start < 25, "an odd client must not wait for the delay each time"
