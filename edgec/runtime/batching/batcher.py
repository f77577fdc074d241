"""Single samples in, batches through the session, single results out."""

from __future__ import annotations

import concurrent.futures
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from edgec.errors import UsageError
from edgec.ir.types import Array
from edgec.runtime.batching.assembly import Assembler
from edgec.runtime.batching.engine import Engine, Rules
from edgec.runtime.batching.requests import BatchFuture, Layout, Request, Sample
from edgec.runtime.batching.statistics import BatchStatistics
from edgec.runtime.memory import Pool
from edgec.runtime.session import Session


class DynamicBatcher:
    """Gathers samples that arrive one by one into batches for a session.

    A batch runs as soon as it is full, when its oldest sample has waited for ``max_delay_s``, or, with ``eager``, when
    no further sample is to be expected: as many wait as were under way at most during the last batches.  A lone client
    therefore waits for nobody.  While a batch runs the next one gathers.

    Samples of different shapes (a model with dynamic extents) never share a batch; each shape has its own queue, and
    the one with the oldest sample comes first.  Samples are checked when they are submitted.  When a batch fails as a
    whole it is run again in halves, so that only the samples fail that fail alone, with their own error.

    All methods are thread-safe.  At most ``concurrency`` threads use the session at a time, by default one; it stays
    open when the batcher closes.  Do not change a sample's arrays before its future is done.  Make batchers after a
    fork, not before.

    Args:
        session: any :class:`edgec.runtime.session.Session`.
        max_batch: most samples of a batch.
        max_delay_s: how long a sample waits for others at most, seconds. A running batch makes it wait longer: for its
            end, and up to a quarter of its time for those who just got their answers to come again.
        queue_limit: samples that may wait; 4 * max_batch when None.
        when_full: "block" makes :meth:`submit` wait for room, "raise" refuses the sample at once (EDG721).
        sizes: batch sizes that the session shall see; a batch is padded to the next of them with its last sample, and
            the statistics count the padding. A model of fixed batch has that size alone. None for every size.
        eager: run without waiting when nobody else is to be expected, as above.
        shared: inputs that are the same for every sample and are no part of a sample.
        axes: input or output name to its batch dimension, where that is not the first.
        pool: where the batch buffers come from, for example an :class:`edgec.runtime.memory.HostPool`.
        concurrency: batches that run at once; more than 1 for a session whose runs overlap (ONNX Runtime's, on a CPU
            with cores to spare). There is one thread more, which answers a batch while the next one runs.
        name: of the threads.

    Raises:
        UsageError: EDG720 for arguments that do not fit the model or each other.
        UnsupportedError: EDG724 for a model whose inputs or outputs have no batch dimension.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_batch: int,
        max_delay_s: float = 0.002,
        queue_limit: int | None = None,
        when_full: Literal["block", "raise"] = "block",
        sizes: Sequence[int] | None = None,
        eager: bool = True,
        shared: Mapping[str, Array] | None = None,
        axes: Mapping[str, int] | None = None,
        pool: Pool | None = None,
        concurrency: int = 1,
        name: str = "batcher",
    ):
        self._layout = Layout.of(session, shared, axes)
        queue_limit = 4 * max_batch if queue_limit is None else queue_limit
        for label, value in (("max_batch", max_batch), ("queue_limit", queue_limit), ("concurrency", concurrency)):
            if value < 1:
                raise UsageError("EDG720", f"{label} of a batcher must be at least 1", why=f"it is {value}")
        if not max_delay_s >= 0:
            raise UsageError("EDG720", "max_delay_s of a batcher cannot be negative", why=f"it is {max_delay_s}")
        if when_full not in ("block", "raise"):
            raise UsageError("EDG720", f"a batcher cannot '{when_full}' when it is full", help="block, raise")
        self.sizes = _sizes(self._layout.fixed, sizes, max_batch)
        self.max_batch = max_batch
        rules = Rules(max_batch, max_delay_s, queue_limit, when_full, eager, concurrency)
        assemblers = [Assembler(self._layout, self.sizes, max_batch, pool) for _ in range(concurrency + 2)]
        self._engine = Engine(session.run, rules, assemblers, name)
        weakref.finalize(self, self._engine.abandon).atexit = False

    def submit(
        self,
        sample: Sample | Array,
        *,
        timeout: float | None = None,
        callback: Callable[[BatchFuture], Any] | None = None,
    ) -> BatchFuture:
        """Queue one sample.

        Args:
            sample: input name to array without the batch dimension; the array alone where the model has one input.
            timeout: longest time to wait for room, seconds, with ``when_full="block"``; None waits as long as needed.
            callback: called with the future when it is done, in a thread of the batcher; must be quick, because the
                next answers wait for it.

        Returns:
            The future of the outputs by name, without the batch dimension. It can be cancelled until its batch runs.

        Raises:
            UsageError: EDG720 for a sample that does not fit the model.
            QueueFull: EDG721 without room (at once with "raise", and in a callback, where waiting would never end).
            Closed: EDG722 after :meth:`close`, or in a forked child.
        """
        arrays, signature = self._layout.check(sample)
        request = Request(arrays, signature)
        if callback is not None:
            request.future.add_done_callback(callback)  # type: ignore[arg-type]
        self._engine.put(request, timeout)
        return request.future

    def run(self, sample: Sample | Array, *, timeout: float | None = None) -> dict[str, Array]:
        """Submit one sample and wait for its outputs; ``timeout`` holds for both, errors as in :meth:`submit`.

        Without a timeout, and with nobody else there, the sample runs at once in the caller's thread.
        """
        if timeout is None:
            request = Request(*self._layout.check(sample))
            if self._engine.run_alone(request):
                return request.future.result()
        end = None if timeout is None else time.monotonic() + timeout
        future = self.submit(sample, timeout=timeout)
        try:
            return future.result(None if end is None else max(0.0, end - time.monotonic()))
        except BaseException:
            future.cancel()
            raise

    def flush(self, timeout: float | None = None) -> bool:
        """Run everything that waits without further delay, and wait until it is done.

        Returns:
            False when ``timeout`` seconds were not enough; nothing is lost then.
        """
        futures = [request.future for request in self._engine.flush()]
        return not concurrent.futures.wait(futures, timeout).not_done

    def statistics(self) -> BatchStatistics:
        """Counts, sizes of batches and latencies."""
        return self._engine.statistics()

    def close(self, *, drain: bool = True, timeout: float | None = None) -> bool:
        """Take no more samples and end the threads.

        Args:
            drain: run what waits; otherwise it is cancelled.
            timeout: longest time to wait, seconds. What waits after that is cancelled, what runs fails with EDG722: no
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
        """Close; after an error what waits is cancelled."""
        self.close(drain=kind is None)


def _sizes(fixed: int | None, sizes: Sequence[int] | None, max_batch: int) -> tuple[int, ...]:
    if fixed is not None:
        if max_batch > fixed:
            raise UsageError(
                "EDG720",
                f"the model runs batches of {fixed}",
                why=f"max_batch is {max_batch}",
                help=f"convert it again with --batch {max_batch}, or give max_batch={fixed}",
            )
        if sizes is not None and tuple(sizes) != (fixed,):
            raise UsageError("EDG720", f"the model runs batches of {fixed} only", why=f"sizes are {list(sizes)}")
        return (fixed,)
    if sizes is None:
        return ()
    ordered = tuple(sorted(set(sizes)))
    if not ordered or ordered[0] < 1 or ordered[-1] < max_batch:
        why = f"they are {list(sizes)}, max_batch is {max_batch}"
        raise UsageError("EDG720", "the sizes of a batcher are 1 or more, and reach max_batch", why=why)
    return ordered
