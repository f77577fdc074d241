"""The queue and the worker threads behind :class:`edgec.runtime.batching.DynamicBatcher`.

The engine knows nothing of the object that users hold, so that a forgotten batcher is collected and its threads end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass
from typing import Literal

from edgec.errors import UnsupportedError
from edgec.ir.types import Array
from edgec.runtime.batching.assembly import Assembler
from edgec.runtime.batching.requests import Request, Result, Signature
from edgec.runtime.batching.statistics import BatchStatistics, Counts, Latencies
from edgec.runtime.flow import Closed, QueueFull, check_process, close_at_exit

log = logging.getLogger(__name__)

RECENT_BATCHES = 8
"""Over how many batches the number of requests under way is remembered."""

RETURNING = 0.25
"""What part of a run's time the next one waits at least for those who just got their answers and come again.

Samples that came while a batch ran are often due when it ends.  Running them at once would leave out all others who
are about to come, and so make a small batch of it every time.
"""

HEARTBEAT_S = 2.0
"""An idle worker looks this often whether its batcher was forgotten, should it have missed the call."""

Run = Callable[[dict[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Rules:
    """When batches go and what happens when too many samples wait; see :class:`DynamicBatcher`."""

    max_batch: int
    max_delay_s: float
    queue_limit: int
    when_full: Literal["block", "raise"]
    eager: bool
    concurrency: int


class Engine:
    """Requests wait in one queue per signature; worker threads turn them into batches.

    The first of the assemblers is for callers that run a sample themselves, each of the others for a thread.
    """

    def __init__(self, run: Run, rules: Rules, assemblers: Sequence[Assembler], name: str):
        self._run, self._rules = run, rules
        self.process = os.getpid()
        lock = threading.RLock()
        self._lock = lock
        self._work = threading.Condition(lock)
        self._line: deque[threading.Condition] = deque()  # those who wait for room
        self._idle = threading.Condition(lock)
        self._slots = threading.BoundedSemaphore(rules.concurrency)  # whoever has one may run the session
        self._turn = threading.Lock()  # whoever has it gathers the next batch
        self._in_session = 0
        self._buckets: OrderedDict[Signature, deque[Request]] = OrderedDict()
        self._waiting = 0
        self._running: set[Request] = set()
        self._under_way = self._peak = 0
        self._recent: deque[int] = deque(maxlen=RECENT_BATCHES)
        self._expected = 1  # the largest of the recent peaks
        self._sequence = self._flushed = 0
        self._borrowed = False  # a caller runs the session in its own thread
        self._own = assemblers[0]
        self._closing: Literal["", "drain", "cancel"] = ""
        self._abandoned = False
        self._free_since = self._grace_s = 0.0
        self._counts = Counts()
        self._threads = [
            threading.Thread(target=self._serve, args=(assembler,), name=f"{name}-{number}", daemon=True)
            for number, assembler in enumerate(assemblers[1:])
        ]
        for thread in self._threads:
            thread.start()
        close_at_exit(self)

    # What users' threads call

    def put(self, request: Request, timeout: float | None) -> None:
        """Queue a request.

        Raises:
            QueueFull: EDG721 by the rules.
            Closed: EDG722.
        """
        check_process(self.process)
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            full = self._line or self._waiting >= self._rules.queue_limit
            if full and not self._closing and not self._wait_for_room(end):
                self._counts.refused += 1
                raise QueueFull(
                    "EDG721",
                    "the batcher's queue is full",
                    why=f"{self._waiting} samples wait",
                    help="send fewer, wait longer, or give it a larger queue_limit",
                )
            if self._closing:
                raise Closed("EDG722", "the batcher is closed", help="submit before close()")
            self._sequence += 1
            request.sequence = self._sequence
            request.due = request.submitted + self._rules.max_delay_s
            request.future._forget = lambda: self._forget(request)
            self._buckets.setdefault(request.signature, deque()).append(request)
            self._waiting += 1
            self._under_way += 1
            self._counts.submitted += 1
            self._peak = max(self._peak, self._under_way)
            if self._waiting == 1 or self._enough(self._buckets[request.signature]):
                self._work.notify()

    def _wait_for_room(self, end: float | None) -> bool:
        """Wait for room; who came first gets it first. False when the time is over; under the lock.

        Callbacks do not wait, as the worker that runs them is the one who makes room.
        """
        if self._rules.when_full == "raise" or threading.current_thread() in self._threads:
            return self._waiting < self._rules.queue_limit
        place = threading.Condition(self._lock)
        self._line.append(place)
        entering = 0
        try:
            while not self._closing and (self._line[0] is not place or self._waiting >= self._rules.queue_limit):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                place.wait(left)
            entering = 1
            return True
        finally:
            self._line.remove(place)
            self._call_next(entering)

    def _call_next(self, entering: int = 0) -> None:
        """Wake who is first in the line, when there is room besides the places that are about to be taken."""
        if self._line and (self._closing or self._waiting + entering < self._rules.queue_limit):
            self._line[0].notify()

    def run_alone(self, request: Request) -> bool:
        """Run a request in the caller's thread, when nobody else is there: two changes of threads less.

        Returns:
            False when others are under way or were lately, so that there may be something to share.
        """
        check_process(self.process)
        with self._lock:
            idle = not (self._closing or self._waiting or self._running or self._borrowed)
            if not idle or not self._rules.eager or max(self._expected, self._peak) > 1:
                return False
            self._borrowed = True
            self._counts.submitted += 1
            self._under_way += 1
            self._running.add(request)
            request.started = time.monotonic()
            request.future.set_running_or_notify_cancel()
        answer: Result | BaseException = Closed("EDG722", "the run was interrupted")
        try:
            answer = self._answers([request], self._own)[0]
        finally:  # Ctrl-C may come at any place
            with self._lock:
                self._borrowed = False
                self._remember()
                self._peak = self._under_way - 1
                if self._waiting:
                    self._work.notify()
                self._idle.notify_all()
            self._conclude([request], [answer])
        return True

    def flush(self) -> list[Request]:
        """Let everything that waits run without further delay; what waits or runs."""
        check_process(self.process)
        with self._lock:
            self._flushed = self._sequence
            self._work.notify_all()
            return [*self._running, *(request for bucket in self._buckets.values() for request in bucket)]

    def statistics(self) -> BatchStatistics:
        """Counts of this moment."""
        check_process(self.process)
        with self._lock:
            found = self._counts.snapshot(waiting=self._waiting, running=len(self._running))
        found["latency"], found["queued"] = Latencies.of(found["latency"]), Latencies.of(found["queued"])
        return BatchStatistics(**found)

    def close(self, *, drain: bool, timeout: float | None) -> bool:
        """Take nothing more; run or cancel what waits; wait for the threads. False when they did not end in time."""
        check_process(self.process)
        self.stop(drain=drain)
        if self._in_worker():
            return False
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        with self._lock:
            while self._borrowed and (end is None or time.monotonic() < end):
                self._idle.wait(None if end is None else end - time.monotonic())
            borrowed = self._borrowed
        if not borrowed and not any(thread.is_alive() for thread in self._threads):
            self._own.close()
            return True
        self.stop(drain=False)
        with self._lock:
            stuck = list(self._running)
            self._running.clear()
        late = Closed("EDG722", "the batcher was closed while the sample ran", why=f"it took longer than {timeout} s")
        given_up = sum(self._answer(request, late) for request in stuck)
        with self._lock:
            self._counts.failed += given_up
        return False

    def stop(self, *, drain: bool) -> None:
        """Close without waiting for the threads; what is not run is cancelled."""
        with self._lock:
            if not self._closing or not drain:
                self._closing = "drain" if drain else "cancel"
            abandoned: list[Request] = []
            if self._closing == "cancel":
                abandoned = [request for bucket in self._buckets.values() for request in bucket]
            self._work.notify_all()
            self._call_next()
        for request in abandoned:
            request.future.cancel()

    def abandon(self) -> None:
        """Drain and end, because nobody has the batcher any more.

        The garbage collector calls this in any thread, which may hold any lock: so it waits for none.
        """
        self._abandoned = True
        if self._lock.acquire(blocking=False):
            self._work.notify_all()
            self._lock.release()

    def _forget(self, request: Request) -> None:
        """Take a cancelled request out of the queue."""
        with self._lock:
            bucket = self._buckets.get(request.signature)
            if bucket is None or request not in bucket:
                return
            bucket.remove(request)
            if not bucket:
                del self._buckets[request.signature]
            self._waiting -= 1
            self._under_way -= 1
            self._counts.cancelled += 1
            self._call_next()
            self._work.notify_all()
        request.future.set_running_or_notify_cancel()  # concurrent.futures.wait() waits for that

    def _in_worker(self) -> bool:
        return threading.current_thread() in self._threads

    # What the workers do

    def _serve(self, assembler: Assembler) -> None:
        try:
            while True:
                with self._slots:
                    with self._turn:
                        batch = self._gather()
                    if batch is None:
                        return
                    answers = self._answers(batch, assembler)
                    with self._lock:  # before the next one gathers: these may come again
                        self._in_session -= len(batch)
                self._conclude(batch, answers)
        finally:
            assembler.close()

    def _gather(self) -> list[Request] | None:
        """Wait for a batch; None when the batcher is closed and nothing waits."""
        with self._lock:
            self._free_since = time.monotonic()
            while True:
                now = time.monotonic()
                bucket, pause = self._due(now)
                if bucket is not None:
                    batch = self._take(bucket, now)
                    if batch:
                        return batch
                    continue
                if self._abandoned and not self._closing:
                    self._closing = "drain"
                    continue
                if self._closing and not self._waiting:
                    return None
                self._work.wait(pause)

    def _due(self, now: float) -> tuple[deque[Request] | None, float]:
        """The queue whose turn it is, or None and how many seconds to wait for one."""
        if not self._waiting or self._borrowed:
            return None, HEARTBEAT_S
        oldest = min(self._buckets.values(), key=lambda bucket: bucket[0].sequence)
        head = oldest[0]
        if self._closing or head.sequence <= self._flushed:
            return oldest, 0.0
        full = [bucket for bucket in self._buckets.values() if len(bucket) >= self._rules.max_batch]
        due = max(head.due, self._free_since + self._grace_s)
        if due <= now or (full and head.due <= now):  # nobody waits for company while others run
            return oldest, 0.0
        if full:
            return min(full, key=lambda bucket: bucket[0].sequence), 0.0
        if self._enough(oldest):
            return oldest, 0.0
        return None, due - now

    def _enough(self, bucket: deque[Request]) -> bool:
        """Whether waiting longer is not worth it: the batch is full, or everyone who sends has sent.

        Those who wait for answers send nothing more, so as many as were under way lately are all that will come.
        """
        if len(bucket) >= self._rules.max_batch:
            return True
        return self._rules.eager and self._waiting >= max(self._expected, self._peak) - self._in_session

    def _remember(self) -> None:
        self._recent.append(self._peak)
        self._expected = max(1, *self._recent)

    def _take(self, bucket: deque[Request], now: float) -> list[Request]:
        self._remember()
        batch: list[Request] = []
        signature = bucket[0].signature
        while bucket and len(batch) < self._rules.max_batch:
            request = bucket.popleft()
            self._waiting -= 1
            if request.future.set_running_or_notify_cancel():
                request.started = now
                request.future._forget = None
                batch.append(request)
            else:
                self._under_way -= 1
                self._counts.cancelled += 1
        if not bucket:
            del self._buckets[signature]
        self._call_next()
        self._running.update(batch)
        self._in_session += len(batch)
        self._peak = self._under_way
        return batch

    def _answers(self, batch: list[Request], assembler: Assembler) -> list[Result | BaseException]:
        """One result or error for each request; a batch that fails is halved until only the bad ones fail."""
        count = len(batch)
        try:
            feeds = assembler.stack(batch)
            start = time.monotonic()
            outputs = self._run(feeds)
            busy = time.monotonic() - start
        except BaseException as error:  # whatever a runtime raises belongs to the samples of this batch
            if count == 1:
                return [error]
            with self._lock:
                self._counts.isolated += 1
            half = count // 2
            return self._answers(batch[:half], assembler) + self._answers(batch[half:], assembler)
        try:
            results = assembler.split(outputs, count)
        except UnsupportedError as error:  # the model's fault, not a sample's: halves would only hide it
            return [error] * count
        with self._lock:
            self._counts.batches += 1
            self._counts.busy_s += busy
            self._grace_s = min(self._rules.max_delay_s, busy * RETURNING)
            self._counts.sizes[count] += 1
            self._counts.padded += assembler.size(count) - count
        for request in batch:
            request.future.batch_size = count
        return list(results)

    def _conclude(self, batch: list[Request], answers: list[Result | BaseException]) -> None:
        """Count a batch and answer its requests; two turns of the lock however many they are."""
        now = time.monotonic()
        with self._lock:
            mine = [(request, answer) for request, answer in zip(batch, answers) if request in self._running]
            for request, answer in mine:  # close() gave up on the others
                latency, queued = now - request.submitted, request.started - request.submitted
                request.future.latency_s, request.future.queued_s = latency, queued
                self._counts.latency.append(latency)
                self._counts.queued.append(queued)
                if isinstance(answer, BaseException):
                    self._counts.failed += 1
                else:
                    self._counts.completed += 1
            self._under_way -= len(batch)
        for request, answer in mine:
            self._answer(request, answer)
        with self._lock:
            self._running.difference_update(batch)

    def _answer(self, request: Request, answer: Result | BaseException) -> bool:
        """Set the future; False where somebody else did before."""
        request.arrays = ()  # who keeps the future does not keep the sample
        try:
            if isinstance(answer, BaseException):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)
        except InvalidStateError:
            return False
        except BaseException:  # a callback raised SystemExit or the like: the others still want their answers
            log.exception("a callback of a batched request failed")
            with self._lock:
                self._counts.callback_errors += 1
        return True
