"""Something that can be timed: a session in a worker process of its own, with the samples to run it on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from edgec.ir.types import Array
from edgec.runtime.isolation import DEFAULT_TIMEOUT_S, IsolatedSession, open_isolated
from edgec.runtime.measurement.loop import join
from edgec.runtime.session import Assignment, TensorSpec

Feeds = Mapping[str, Array]
"""One sample: an array per input."""


class Timed(Protocol):
    """What a comparison needs; :class:`Subject` is one, a test may bring another."""

    @property
    def latency_s(self) -> float:
        """About how long one run takes, seconds."""
        ...

    def warm_up(self) -> Any:
        """Run until further runs would not be faster; a second call does nothing."""
        ...

    def time(self, count: int) -> Sequence[float]:
        """Seconds of each of `count` runs."""
        ...


@dataclass(frozen=True)
class WarmUp:
    """How long a session is warmed up, and what came of it.

    Until `runs` runs and `seconds` are over and three windows agree within 10 %, at most `limit_s` seconds.
    """

    runs: int = 10
    seconds: float = 0.2
    limit_s: float = 5.0


@dataclass(frozen=True)
class Warmth:
    """How a warm-up went.

    Attributes:
        runs, seconds: how many there were, and how long they took.
        settled: whether the last three windows agreed within 10 %.
        first_s: seconds of the very first run.
        latency_s: the smallest median of the last three windows, seconds.
    """

    runs: int
    seconds: float
    settled: bool
    first_s: float
    latency_s: float


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of the worker process: `total` at its peak, and `added` above what it held before the model was loaded
    (the interpreter and the imported runtime)."""

    total: int
    added: int


SETTLE_BELOW_S = 0.02
"""Sessions faster than this make one run that is not counted before each slot: the first after a wait finds cold
caches and a sleeping thread, and would weigh more than the difference that is looked for."""


class Subject:
    """A session in its own worker process.  Made by :func:`open_subject`; use it as a context manager.

    Attributes:
        inputs, outputs: of the session.
        load_s: seconds that loading took, imports not counted.
        process: the worker's process number.
        shapes: input name to the extents that a run has (of the first sample).
        samples_per_run: the leading extent that all arrays of a run have in common, else 1.
        runs: how many timed runs there were; `cpu_s` the processor seconds that all threads spent in them, `preempted`
            how often the worker was put off its processor meanwhile.
    """

    def __init__(self, session: IsolatedSession, samples: list[Feeds], warm_up: WarmUp):
        self._session = session
        self._rules = warm_up
        self._warmth: Warmth | None = None
        self.inputs: tuple[TensorSpec, ...] = session.inputs
        self.outputs: tuple[TensorSpec, ...] = session.outputs
        self.load_s = float(session.opening["load_s"])
        self.runs, self.cpu_s, self.wall_s, self.preempted = 0, 0.0, 0.0, 0
        self.shapes = {name: np.shape(array) for name, array in (samples[0] if samples else {}).items()}
        leading = {shape[0] if shape else 0 for shape in self.shapes.values()}
        self.samples_per_run = max(leading.pop(), 1) if len(leading) == 1 else 1
        session.measure("feed", join(samples))

    def warm_up(self) -> Warmth:
        """Run until it is warm; once.

        Raises:
            VerificationError: EDG303 when it crashes, hangs or reports an error.
        """
        if self._warmth is None:
            reply, _ = self._session.measure("warm", rules=asdict(self._rules))
            self._warmth = Warmth(**reply)
        return self._warmth

    def assignment(self) -> Assignment | None:
        """What a delegate, accelerator or execution provider took of the artifact; None where all is the CPU's."""
        return self._session.assignment()

    @property
    def latency_s(self) -> float:
        """About how long one run takes, from the warm-up, seconds."""
        return self.warm_up().latency_s

    @property
    def cold_start(self) -> float:
        """Seconds from a runtime that is imported to the first result: loading and the first run."""
        return self.load_s + self.warm_up().first_s

    def time(self, count: int) -> list[float]:
        """Seconds of each of `count` runs; the loop is in the worker and reads every output.

        Raises:
            VerificationError: EDG303 when it crashes, hangs or reports an error.
        """
        settle = 1 if self.latency_s < SETTLE_BELOW_S else 0
        reply, arrays = self._session.measure("time", count=count, settle=settle)
        seconds: list[float] = arrays["seconds"].tolist()
        self.runs += count
        self.wall_s += sum(seconds)
        self.cpu_s += reply["cpu_s"]
        self.preempted += reply["preempted"]
        return seconds

    @property
    def peak_memory(self) -> PeakMemory:
        """The most memory that the worker has held so far; shared pages (the mapped model file) are counted."""
        reply, _ = self._session.measure("memory")
        return PeakMemory(reply["peak"], max(reply["peak"] - int(self._session.opening["base_bytes"]), 0))

    @property
    def process(self) -> int:
        """The worker's process number."""
        return self._session.process

    def close(self) -> None:
        """End the worker."""
        self._session.close()

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_subject(
    factory: str,
    path: str | Path,
    options: Mapping[str, Any] | None,
    feeds: Feeds | Sequence[Feeds] | Callable[[tuple[TensorSpec, ...]], Sequence[Feeds]],
    *,
    memory_limit: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    warm_up: WarmUp = WarmUp(),
    processors: Collection[int] | None = None,
) -> Subject:
    """Load a model in a worker process of its own and hand it what it is to be timed on.

    Args:
        factory, path, options: ``"module:function"``, called as ``function(path, **options)`` in the worker.
        feeds: one sample, or several that take turns, or what makes them of the session's inputs.
        memory_limit: bytes of address space for the worker, None for no limit.
        timeout_s: longest time for any one request, seconds.
        processors: numbers of those that the worker may run on, None for those of this process.

    Raises:
        VerificationError: EDG302 when it does not load; EDG303 when the samples cannot be handed over.
    """
    session = open_isolated(
        factory, path, options, timeout_s=timeout_s, memory_limit=memory_limit, processors=processors
    )
    try:
        made = feeds(session.inputs) if callable(feeds) else feeds
        samples: list[Feeds] = [made] if isinstance(made, Mapping) else list(made)
        return Subject(session, samples, warm_up)
    except BaseException:
        session.close()
        raise
