"""The ordered queue between stages against a plain list."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.runtime.pipelining.channel import Channel

LONG = 30.0


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), capacity=st.integers(1, 12), producers=st.integers(1, 14), seed=st.integers(0, 99))
def test_whatever_the_order_of_entry_items_leave_in_the_order_of_their_numbers(
    count: int, capacity: int, producers: int, seed: int
) -> None:
    channel: Channel[int] = Channel(capacity)
    chance = random.Random(seed)
    pauses = [chance.random() * 0.001 for _ in range(count)]
    numbers = iter(range(count))
    lock = threading.Lock()

    def produce() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(pauses[number])
            channel.put(number, number * 10)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    channel.end_at(count)
    found = []
    while (entry := channel.get()) is not None:
        found.append(entry)
    for thread in threads:
        thread.join()
    assert found == [(number, number * 10) for number in range(count)]
    assert channel.depth().largest <= capacity


def test_room_is_waited_for_and_the_end_is_told_to_everyone() -> None:
    channel: Channel[str] = Channel(2)
    numbers: list[int] = []
    assert channel.append("a", None, numbers.append) and channel.append("b", 0, numbers.append)
    start = time.monotonic()
    assert not channel.append("c", 0.05, numbers.append)
    assert time.monotonic() - start >= 0.05
    assert channel.get() == (0, "a") and channel.append("c", 0, numbers.append)
    assert numbers == [0, 1, 2]
    assert channel.close() == 3 and channel.close() == 3
    assert not channel.append("d", None, numbers.append)
    ends: list[object] = []
    threads = [threading.Thread(target=lambda: ends.append(channel.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(ends, key=str) == [(1, "b"), (2, "c"), None, None]
    assert channel.depth().now == 0 and channel.depth().largest == 2


def test_those_who_wait_for_room_are_woken_for_several_items_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.runtime.pipelining.channel.SLOW_S", LONG)
    channel: Channel[int] = Channel(8)
    waits: list[int] = []
    wait = channel._wait_for_room
    monkeypatch.setattr(channel, "_wait_for_room", lambda seconds: (waits.append(1), wait(seconds)))
    count = 200
    producer = threading.Thread(target=lambda: [channel.put(number, number) for number in range(count)])
    producer.start()
    for number in range(count):
        while channel.depth().now < 4 and number < count - 8:  # the consumer is the slower one
            time.sleep(0.0001)
        assert channel.get() == (number, number)
    producer.join(LONG)
    assert len(waits) <= count / 4 + 2


def test_those_who_wait_behind_a_slow_stage_enter_as_soon_as_there_is_room() -> None:
    channel: Channel[int] = Channel(1000)
    for number in range(1000):
        channel.put(number, number)
    late = threading.Thread(target=lambda: channel.put(1000, 1000))
    late.start()
    while not channel._blocked:
        time.sleep(0.001)
    time.sleep(0.02)
    assert channel.get() == (0, 0)
    late.join(LONG)
    assert not late.is_alive()


def test_a_number_that_waits_for_room_enters_when_all_others_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers behind it that were let in meanwhile fill more than half of the queue, and cannot leave before it."""
    monkeypatch.setattr("edgec.runtime.pipelining.channel.SLOW_S", LONG)
    channel: Channel[int] = Channel(8)
    for number in range(8):
        channel.put(number, number)
    late = threading.Thread(target=lambda: channel.put(8, 8))
    late.start()
    while not channel._blocked:
        time.sleep(0.001)
    assert channel.get() == (0, 0)
    for number in range(1, 7):
        assert channel.get() == (number, number)
        channel.put(number + 8, number + 8)  # enters at once, since it never had to wait
    assert channel.get() == (7, 7)
    late.join(LONG)
    assert not late.is_alive()
    assert [channel.get() for _ in range(7)] == [(number, number) for number in range(8, 15)]


def test_the_mean_depth_is_weighted_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    channel: Channel[int] = Channel(4)
    channel.append(1, None, lambda _: None)
    now[0] += 2
    channel.append(2, None, lambda _: None)
    now[0] += 1
    channel.get()
    channel.get()
    now[0] += 5
    assert channel.depth().mean == pytest.approx((2 * 1 + 1 * 2) / 8)
    assert (channel.depth().now, channel.depth().largest) == (0, 2)
