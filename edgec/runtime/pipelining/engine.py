"""The threads behind :class:`edgec.runtime.pipelining.Pipeline`.

The engine knows nothing of the object that users hold, so that a forgotten pipeline is collected and its threads end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Literal

from edgec.runtime.flow import Closed, QueueFull, check_process, close_at_exit
from edgec.runtime.pipelining.channel import Channel, Depth
from edgec.runtime.pipelining.stage import (
    Clock,
    PipelineStatistics,
    Stage,
    StageError,
    StageStatistics,
    Stopped,
)

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Item:
    """A value on its way; once ``error`` is set or its future is cancelled, the stages only pass it on."""

    value: Any
    future: Future[Any] = field(default_factory=Future)
    error: BaseException | None = None
    dropped: bool = False
    begun: bool = False


def chained(stages: Sequence[Stage]) -> list[list[int]]:
    """The positions of the stages that share threads: one with threads of its own, and the inline ones behind it."""
    found: list[list[int]] = []
    for position, stage in enumerate(stages):
        if stage.inline:
            found[-1].append(position)
        else:
            found.append([position])
    return found


class Engine:
    """One channel before every chain of stages, threads between them, and delivery in order at the end."""

    def __init__(
        self,
        stages: Sequence[Stage],
        queue: int,
        on_error: Literal["continue", "stop"],
        devices: Mapping[str, int],
        name: str,
    ):
        self.process = os.getpid()
        self._stages, self._on_error = stages, on_error
        self._chains = chained(stages)
        self._channels: list[Channel[Item]] = [Channel(stages[chain[0]].queue or queue) for chain in self._chains]
        self._devices = {device: threading.BoundedSemaphore(limit) for device, limit in devices.items()}
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._window = queue
        self._finished: dict[int, Item] = {}  # behind the last stage, ahead of their turn
        self._next = 0
        self._delivering = False
        self._under_way: dict[int, Item] = {}
        self._cancelling = False
        self._failures: dict[int, StageError] = {}  # what stops the pipeline: the item with the lowest number
        self._submitted = self._completed = self._failed = self._cancelled = 0
        self._first = self._last = 0.0
        self._clocks: list[list[Clock]] = [
            [Clock() for _ in range(stages[chain[0]].workers)] for chain in self._chains for _ in chain
        ]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(number, worker), name=f"{name}-{stages[chain[0]].name}", daemon=True
            )
            for number, chain in enumerate(self._chains)
            for worker in range(stages[chain[0]].workers)
        ]
        self._workers = frozenset(self._threads)
        for thread in self._threads:
            thread.start()
        close_at_exit(self)
        try:
            self._bind()
        except BaseException:
            self._end(cancel=True)
            raise

    # What users' threads call

    def put(self, item: Item, timeout: float | None) -> None:
        """Enter an item.

        Raises:
            QueueFull: EDG721 when the first queue had no room in time.
            Closed: EDG722; Stopped: EDG731.
        """
        check_process(self.process)
        if threading.current_thread() in self._workers:
            timeout = 0.0  # a callback that waited for room would keep the stages from making it
        if self._failures:
            with self._lock:
                raise self._stopped()
        if not self._channels[0].append(item, timeout, lambda number: self._enter(number, item)):
            if self._channels[0].ended:
                raise Closed("EDG722", "the pipeline is closed", help="submit before close()")
            raise QueueFull(
                "EDG721",
                "the pipeline's first queue is full",
                why=f"{self._channels[0].capacity} items wait for '{self._stages[0].name}'",
                help="send fewer, wait longer, or make the slowest stage faster; statistics() names it",
            )

    def close(self, *, drain: bool, timeout: float | None) -> bool:
        """Take nothing more; finish or cancel what is under way; end the threads. False when they did not in time."""
        check_process(self.process)
        self._end(cancel=not drain)
        if threading.current_thread() in self._workers:
            return False
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):
            return True
        self._end(cancel=True)
        with self._lock:
            stuck = list(self._under_way.values())
            self._under_way.clear()
        for item in stuck:
            self._begin(item)
            late = Closed("EDG722", "the pipeline was closed while the item ran", why=f"it took over {timeout} s")
            self._resolve(item, late)
        return False

    def abandon(self) -> None:
        """Drain and end, because nobody has the pipeline any more; called by the garbage collector in any thread."""
        self._channels[0].abandon()

    def statistics(self) -> PipelineStatistics:
        """Counts of this moment."""
        check_process(self.process)
        now = time.monotonic()
        with self._lock:
            idle = not self._under_way
            elapsed = (self._last if idle and self._last else now) - self._first if self._first else 0.0
            counts = (self._submitted, self._completed, self._failed, self._cancelled)
        stages = tuple(
            self._stage_statistics(position, channel if position == chain[0] else None, elapsed)
            for chain, channel in zip(self._chains, self._channels)
            for position in chain
        )
        return PipelineStatistics(*counts, elapsed_s=max(0.0, elapsed), stages=stages)

    def _stage_statistics(self, position: int, channel: Channel[Item] | None, elapsed: float) -> StageStatistics:
        stage, clocks = self._stages[position], self._clocks[position]
        depth = Depth(0, 0, 0.0) if channel is None else channel.depth()
        workers = len(clocks)
        busy = sum(clock.busy_s for clock in clocks)
        return StageStatistics(
            name=stage.name,
            device=stage.device,
            workers=workers,
            done=sum(clock.done for clock in clocks),
            failed=sum(clock.failed for clock in clocks),
            busy_s=busy,
            starved_s=sum(clock.starved_s for clock in clocks),
            blocked_s=sum(clock.blocked_s for clock in clocks),
            utilisation=min(1.0, busy / (elapsed * workers)) if elapsed > 0 else 0.0,
            queue_depth=depth.now,
            largest_depth=depth.largest,
            mean_depth=depth.mean,
            queue_limit=0 if channel is None else channel.capacity,
        )

    def _bind(self) -> None:
        threads = iter(self._threads)
        for chain in self._chains:
            stage = self._stages[chain[0]]
            for _ in range(stage.workers):
                thread = next(threads)
                assert thread.native_id is not None, "it was started"
                stage.bind(thread.native_id)

    def _enter(self, number: int, item: Item) -> None:
        with self._lock:
            if self._first == 0.0:
                self._first = time.monotonic()
            self._submitted += 1
            self._under_way[number] = item

    def _behind_failure(self, number: int) -> bool:
        return bool(self._failures) and number > min(self._failures)

    def _stopped(self) -> Stopped:
        failure = self._failures[min(self._failures)]
        return Stopped(
            "EDG731",
            "the pipeline stopped at the first failure",
            why=f"{failure.message}: {failure.why}",
            help='make a new one; Pipeline(..., on_error="continue") goes on after failures',
        )

    def _end(self, *, cancel: bool) -> None:
        with self._lock:
            self._cancelling = self._cancelling or cancel
        count = self._channels[0].close()
        for channel in self._channels[1:]:
            channel.end_at(count)

    # What the workers do

    def _serve(self, chain: int, worker: int) -> None:
        channel, last = self._channels[chain], chain == len(self._chains) - 1
        steps = [
            (
                stage,
                stage.function,
                self._devices.get(stage.device or "", contextlib.nullcontext()),
                self._clocks[position][worker],
            )
            for position in self._chains[chain]
            for stage in [self._stages[position]]
        ]
        head, tail = steps[0][-1], steps[-1][-1]
        while True:
            start = time.monotonic()
            entry = channel.get()
            if entry is None:
                self._end(cancel=False)
                return
            number, item = entry
            done = time.monotonic()
            head.starved_s += done - start
            if chain == 0:
                self._begin(item)
            for stage, function, device, clock in steps:
                if item.dropped:
                    break
                with device:
                    begun = time.monotonic()
                    clock.blocked_s += begun - done
                    self._work(function, stage, number, item, clock)
                    done = time.monotonic()
                    clock.busy_s += done - begun
            if last:
                self._wait_for_turn(number)
            else:
                self._channels[chain + 1].put(number, item)
            tail.blocked_s += time.monotonic() - done
            if last:
                self._deliver(number, item)
            del item, entry

    def _begin(self, item: Item) -> None:
        """Let a future run, or tell those who wait for it that it was cancelled; once, by a worker or by close()."""
        with self._lock:
            first, item.begun = not item.begun, True
        if first and self._cancelling:
            item.future.cancel()
        try:
            runs = first and item.future.set_running_or_notify_cancel()
        except RuntimeError:  # close() gave up on it at this very moment
            runs = False
        if not runs:
            item.dropped, item.value = True, None

    def _work(self, function: Any, stage: Stage, number: int, item: Item, clock: Clock) -> None:
        if self._failures or self._cancelling:
            with self._lock:
                if self._behind_failure(number):
                    item.error = self._stopped()
                elif self._cancelling:
                    item.error = Closed("EDG722", "the pipeline was closed before the item was done")
            if item.error is not None:
                item.dropped, item.value = True, None
                return
        try:
            item.value = function(item.value)
            clock.done += 1
        except BaseException as error:  # whatever user's work raises belongs to the item
            clock.failed += 1
            failure = StageError(
                "EDG730",
                f"the stage '{stage.name}' failed",
                why=f"{type(error).__name__}: {error}".strip(),
                stage=stage.name,
            )
            failure.__cause__ = error
            item.error, item.dropped, item.value = failure, True, None
            if self._on_error == "stop":
                with self._lock:
                    self._failures[number] = failure

    def _wait_for_turn(self, number: int) -> None:
        """Do not run further ahead of the oldest item than the queue is long."""
        with self._lock:
            while number >= self._next + self._window:
                self._turn.wait()

    def _deliver(self, number: int, item: Item) -> None:
        """Answer items in their order; whoever finishes the next one answers all that follow it."""
        with self._lock:
            self._finished[number] = item
            if self._delivering:
                return
            self._delivering = True
        while True:
            with self._lock:
                ready = self._finished.pop(self._next, None)
                if ready is None:
                    self._delivering = False
                    return
                known = self._under_way.pop(self._next, None)
                if self._behind_failure(self._next) and ready.error is None:
                    ready.error = self._stopped()
                self._next += 1
                self._turn.notify_all()
            if known is not None:
                self._resolve(ready, ready.error)

    def _resolve(self, item: Item, error: BaseException | None) -> None:
        future = item.future
        with self._lock:
            self._last = time.monotonic()
            self._cancelled += future.cancelled()
            if not future.cancelled():
                self._failed += error is not None
                self._completed += error is None
        if future.cancelled():
            return
        value, item.value = item.value, None
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        except InvalidStateError:
            return  # somebody set the future by hand
        except BaseException:  # a callback raised SystemExit or the like: the others still want their answers
            log.exception("a callback of a pipeline's item failed")
