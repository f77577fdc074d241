"""Items through a chain of stages that all work at the same time."""

from __future__ import annotations

import queue as queues
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self

from edgec.errors import UsageError
from edgec.runtime.pipelining.engine import Engine, Item
from edgec.runtime.pipelining.stage import PipelineStatistics, Stage, StageError


class Pipeline:
    """A chain of stages, each with its own threads and a bounded queue before it.

    ::

        with Pipeline([Stage("decode", decode, workers=2), Stage("infer", session), Stage("label", label)]) as pipeline:
            for labels in pipeline.map(paths):
                ...

    Order is kept throughout: items enter every stage in the order in which they were submitted, and their futures are
    done in that order, even after stages with several workers.  No queue grows beyond its limit; whoever submits waits.

    An item that fails ends with :class:`StageError`, which names the stage and carries what was raised there as its
    cause; later stages do not see it.  With ``on_error="stop"`` every item behind the failed one ends with
    :class:`Stopped` and none is taken any more; what came before it is finished.

    All methods are thread-safe.  The pipeline closes no session.  Make pipelines after a fork, not before.

    Args:
        stages: at least one, with different names.
        queue: items that may wait before a stage that has no limit of its own.
        on_error: "continue" with the next item, or "stop".
        devices: device name to how many items may be on it at once, over all stages that name it; a device that is not
            listed has no limit.
        name: of the threads.

    Raises:
        UsageError: EDG733 for arguments that make no pipeline.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        queue: int = 4,
        on_error: Literal["continue", "stop"] = "continue",
        devices: Mapping[str, int] | None = None,
        name: str = "pipeline",
    ):
        stages, devices = tuple(stages), dict(devices or {})
        names = [stage.name for stage in stages]
        if not stages or len(set(names)) != len(names):
            raise UsageError("EDG733", "a pipeline needs stages with different names", why=f"they are {names}")
        if stages[0].inline:
            why = "there is no stage before it whose threads could run it"
            raise UsageError("EDG733", f"the first stage, '{names[0]}', cannot be inline", why=why)
        if queue < 1:
            raise UsageError("EDG733", f"queue of a pipeline must be at least 1, not {queue}")
        if on_error not in ("continue", "stop"):
            raise UsageError("EDG733", f"a pipeline cannot '{on_error}' on an error", help="continue, stop")
        used = {stage.device for stage in stages}
        for device, limit in devices.items():
            if limit < 1 or device not in used:
                why = f"no stage is on '{device}'" if device not in used else f"its limit is {limit}"
                raise UsageError(
                    "EDG733", "devices of a pipeline are devices of its stages, limits at least 1", why=why
                )
        self.stages = stages
        self._window = sum((stage.queue or queue) + stage.workers for stage in stages if not stage.inline) + queue
        self._engine = Engine(stages, queue, on_error, devices, name)
        weakref.finalize(self, self._engine.abandon).atexit = False

    def submit(
        self,
        value: Any,
        *,
        timeout: float | None = None,
        callback: Callable[[Future[Any]], Any] | None = None,
    ) -> Future[Any]:
        """Send one item on its way.

        Args:
            value: what the first stage takes; with a session there, arrays by input name.
            timeout: longest time to wait for room in the first queue, seconds; None waits as long as needed.
            callback: called with the future when it is done, in a thread of the last stage, in the order of the items.

        Returns:
            The future of what the last stage gives. It can be cancelled until the first stage takes the item.

        Raises:
            QueueFull: EDG721 without room in time (in a callback at once, where waiting would never end).
            Closed: EDG722 after :meth:`close`, or in a forked child.
            Stopped: EDG731 after a failure with ``on_error="stop"``.
        """
        item = Item(value)
        if callback is not None:
            item.future.add_done_callback(callback)
        future = item.future
        self._engine.put(item, timeout)
        return future

    def map(self, values: Iterable[Any], *, errors: Literal["raise", "return"] = "raise") -> Iterator[Any]:
        """The results of many items, in their order, as they come.

        ``values`` may be endless: a thread of its own takes from it, never more than the queues hold beyond what was
        taken from the result.  Leaving the loop early cancels what has not begun; the pipeline can be used again.

        Args:
            values: what the first stage takes, one after the other.
            errors: "raise" ends the loop at the first item that fails, "return" gives its :class:`StageError` in its
                place and goes on.

        Raises:
            StageError: EDG730, and whatever ``values`` raises, after the results of the items before it.
        """
        if errors not in ("raise", "return"):
            raise UsageError("EDG733", f"map cannot '{errors}' errors", help="raise, return")
        return self._results(iter(values), errors)

    def _results(self, values: Iterator[Any], errors: str) -> Iterator[Any]:
        pending: queues.SimpleQueue[Future[Any] | BaseException | None] = queues.SimpleQueue()
        slots, left = threading.Semaphore(self._window), threading.Event()
        thread = threading.Thread(target=self._feed, args=(values, pending, slots, left), daemon=True)
        del values
        thread.start()
        try:
            while (entry := pending.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                try:
                    result = entry.result()
                except StageError as error:
                    if errors == "raise":
                        raise
                    result = error
                del entry
                slots.release()
                yield result
        finally:
            left.set()
            slots.release()
            while not pending.empty():
                waiting = pending.get()
                if isinstance(waiting, Future):
                    waiting.cancel()

    def _feed(
        self,
        values: Iterator[Any],
        pending: queues.SimpleQueue[Future[Any] | BaseException | None],
        slots: threading.Semaphore,
        left: threading.Event,
    ) -> None:
        """Submit values as long as somebody takes results; ends with None or with what went wrong."""
        try:
            while True:
                slots.acquire()
                if left.is_set():
                    return
                try:
                    value = next(values)
                except StopIteration:
                    pending.put(None)
                    return
                future = self.submit(value)
                pending.put(future)
                if left.is_set():
                    future.cancel()
                    return
                del value, future
        except BaseException as error:
            pending.put(error)

    def statistics(self) -> PipelineStatistics:
        """Counts, and for every stage how busy it was, what it waited for and how long its queue is."""
        return self._engine.statistics()

    def close(self, *, drain: bool = True, timeout: float | None = None) -> bool:
        """Take no more items and end the threads.

        Args:
            drain: finish what was submitted; otherwise what has not begun is cancelled, and what has ends with EDG722
                at its next stage.
            timeout: longest time to wait, seconds. What has not begun then is cancelled, what has fails with EDG722: no
                future stays undone.

        Returns:
            False when the threads did not end in time, or when it is called from a callback, which cannot wait.
        """
        return self._engine.close(drain=drain, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an error what has not begun is cancelled."""
        self.close(drain=kind is None)
