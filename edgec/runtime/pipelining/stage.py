"""One step of a pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from typing import Any

from edgec.errors import EdgecError, UsageError


@dataclass(frozen=True)
class Stage:
    """A function or session that every item goes through.

    Attributes:
        name: unique in the pipeline; errors and statistics carry it.
        work: a function of one item, or a session, whose ``run`` takes and gives arrays by name.
        workers: how many threads run it; more than one only for work that may run several times at once. NumPy, Pillow
            and the runtimes let other threads run meanwhile; pure Python does not.
        device: what it runs on, for the statistics and for the pipeline's ``devices``.
        queue: items that may wait before it; the pipeline's own where None.
        executor: where the work runs instead of the worker's thread, each worker waiting for its result: for example a
            ``ProcessPoolExecutor`` with the start method "spawn", for work in pure Python. It stays open.
        inline: run it in the threads of the stage before it, right behind that one's work, without a queue between. For
            work of microseconds, where a change of threads (some 50 microseconds of CPU) costs more than the work. It
            runs as often at once as that stage has workers, and has no queue, cores or executor of its own.
        cores: numbers of the processor cores that its threads may run on, on Linux; None leaves them to the system. A
            core of its own keeps the system from moving the limiting stage about, and other stages from taking turns
            with it. Threads and processes that the work starts are bound to the same cores.

    Raises:
        UsageError: EDG733 for a count below 1, work that cannot be called, cores that this process does not have, or
            what an inline stage cannot have.
    """

    name: str
    work: Any
    workers: int = 1
    device: str | None = None
    queue: int | None = None
    executor: Executor | None = None
    cores: Collection[int] | None = None
    inline: bool = False

    def __post_init__(self) -> None:
        for label, value in (("workers", self.workers), ("queue", self.queue)):
            if value is not None and value < 1:
                raise UsageError("EDG733", f"{label} of the stage '{self.name}' must be at least 1, not {value}")
        if not callable(self.work) and not callable(getattr(self.work, "run", None)):
            raise UsageError("EDG733", f"the work of the stage '{self.name}' is neither a function nor a session")
        own = {"workers": self.workers != 1, "queue": self.queue, "executor": self.executor, "cores": self.cores}
        refused = [label for label, value in own.items() if value not in (None, False)]
        if self.inline and refused:
            why = "it runs in the threads of the stage before it"
            raise UsageError("EDG733", f"the inline stage '{self.name}' has no {refused[0]} of its own", why=why)
        if self.cores is not None:
            self._check_cores(frozenset(self.cores))

    def _check_cores(self, cores: frozenset[int]) -> None:
        title = f"cores of the stage '{self.name}' cannot be had"
        if self.executor is not None:
            raise UsageError("EDG733", title, why="its work does not run in its own threads but in the executor")
        if sys.platform != "linux":
            raise UsageError("EDG733", title, why="threads are bound to cores on Linux only")
        allowed = os.sched_getaffinity(0)
        if not cores or not cores <= allowed:
            why = f"they are {sorted(cores)}, this process may use {sorted(allowed)}"
            raise UsageError("EDG733", title, why=why)

    def bind(self, thread: int) -> None:
        """Bind a thread, by the system's number of it, to the stage's cores.

        Raises:
            UsageError: EDG733 when the system has taken the cores away since the stage was made.
        """
        if self.cores is None or sys.platform != "linux":
            return
        try:
            os.sched_setaffinity(thread, self.cores)
        except OSError as error:
            raise UsageError("EDG733", f"cores of the stage '{self.name}' cannot be had", why=str(error)) from error

    @property
    def function(self) -> Callable[[Any], Any]:
        """What is called with each item."""
        work = self.work if callable(self.work) else self.work.run
        executor = self.executor
        if executor is None:
            return work  # type: ignore[no-any-return]
        return lambda item: executor.submit(work, item).result()


@dataclass(eq=False)
class StageError(EdgecError):
    """EDG730: an item failed in a stage; ``stage`` is its name, ``__cause__`` what was raised there."""

    stage: str = ""


class Stopped(EdgecError):
    """EDG731: an earlier item failed and the pipeline stops at the first failure."""


@dataclass(frozen=True)
class StageStatistics:
    """One stage since the pipeline was made; seconds are summed over its workers.

    Attributes:
        name, device, workers: as given; an inline stage has the workers of the one before it.
        done, failed: items that the work returned for, and raised for.
        busy_s: running the work.
        starved_s: waiting for an item.
        blocked_s: waiting for room behind the stage, or for the device.
        utilisation: busy_s over the time that the workers had since the first item; the stage nearest to 1 is the one
            that limits the pipeline.
        queue_depth, largest_depth, mean_depth: items that wait before the stage now, at most and on average.
        queue_limit: items that may wait before it; 0 for an inline stage.
    """

    name: str
    device: str | None
    workers: int
    done: int
    failed: int
    busy_s: float
    starved_s: float
    blocked_s: float
    utilisation: float
    queue_depth: int
    largest_depth: int
    mean_depth: float
    queue_limit: int


@dataclass(frozen=True)
class PipelineStatistics:
    """The whole pipeline since it was made.

    Attributes:
        submitted: items that were taken.
        completed, failed, cancelled: what became of them; the rest is under way.
        elapsed_s: seconds from the first item to now, or to the end of the last one when all are done.
        stages: one record per stage, in order.
    """

    submitted: int
    completed: int
    failed: int
    cancelled: int
    elapsed_s: float
    stages: tuple[StageStatistics, ...]

    @property
    def under_way(self) -> int:
        """Items that are neither done nor failed nor cancelled."""
        return self.submitted - self.completed - self.failed - self.cancelled

    @property
    def per_second(self) -> float:
        """Completed items per second; 0 before the first."""
        return self.completed / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage with the highest utilisation."""
        return max(self.stages, key=lambda stage: stage.utilisation).name

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        more = {"under_way": self.under_way, "per_second": self.per_second, "bottleneck": self.bottleneck}
        return {**asdict(self), **more}


@dataclass
class Clock:
    """The running counts of one stage; each worker adds to its own."""

    done: int = 0
    failed: int = 0
    busy_s: float = 0.0
    starved_s: float = 0.0
    blocked_s: float = 0.0
    waiting_since: float | None = field(default=None)
