"""What batchers and pipelines share: their errors, and that whoever forgets to close them loses nothing."""

from __future__ import annotations

import atexit
import os
import queue
import weakref
from typing import Protocol

from edgec.errors import EdgecError

EXIT_SECONDS = 30.0
"""How long the end of the program waits for each batcher or pipeline that nobody closed."""


class QueueFull(EdgecError, queue.Full):
    """EDG721: no room in the queue, at once or within the time given."""


class Closed(EdgecError):
    """EDG722: the batcher or pipeline is closed, or belongs to the process that this one was forked from."""


class Engine(Protocol):
    """The threads behind a batcher or a pipeline."""

    process: int

    def close(self, *, drain: bool, timeout: float | None) -> bool:
        """Take nothing more, finish what was taken, end the threads."""
        ...


def check_process(process: int) -> None:
    """Refuse to go on in a forked child.

    Raises:
        Closed: EDG722.
    """
    if os.getpid() != process:
        raise Closed(
            "EDG722",
            "the batcher or pipeline belongs to another process",
            why="this process was forked from it, and threads do not come along",
            help="make it, and its sessions, after the fork",
        )


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def close_at_exit(engine: Engine) -> None:
    """At the end of the program, what was submitted to this engine is still answered."""
    _engines.add(engine)


def _close_all() -> None:
    for engine in list(_engines):
        if engine.process == os.getpid():
            engine.close(drain=True, timeout=EXIT_SECONDS)


atexit.register(_close_all)
