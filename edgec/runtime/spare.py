"""A worker process that is forked while the program is young, for the first :class:`~edgec.runtime.isolation.Workers`.

A worker that is started anew costs an interpreter and the import of NumPy, which the program has done by then.  Later
the program may not fork: it has loaded runtimes, whose threads and locks a copy would inherit.  So a command that will
need a worker calls :func:`prepare` once it has NumPy and before it has anything else.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from typing import IO, NoReturn

from edgec.runtime import worker

POSSIBLE = sys.platform == "linux"
"""Whether processes are forked: only Linux says how many threads there are, and ends a child with its parent."""

_CRASHED = 70


class Spare:
    """A process that waits for its settings; what of :class:`subprocess.Popen` a worker needs.

    Attributes:
        stdin, stdout: the pipes to and from it.
        stderr: the file that its standard error goes to.
        owner: the process that forked it.
    """

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]):
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self.owner = os.getpid()
        self._status: int | None = None

    def poll(self) -> int | None:
        """How it ended, as :class:`subprocess.Popen` says it; None while it runs."""
        if self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, seconds at most.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        descriptor = os.pidfd_open(self.pid) if self._status is None else None
        if descriptor is not None:
            with os.fdopen(descriptor, "rb", 0) as watched:
                polled = select.poll()
                polled.register(watched, select.POLLIN)
                polled.poll(None if timeout is None else timeout * 1000)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
        return status

    def dismiss(self) -> None:
        """End it; it has nothing to finish."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self.wait()


_spare: Spare | None = None


def prepare() -> None:
    """Fork a worker, unless there is one; where that cannot be done safely, workers are started anew later."""
    global _spare
    if not POSSIBLE or _spare is not None:
        return
    for name in worker.PRELOADED:
        importlib.import_module(name)
    if worker.has_one_thread():
        _spare = _fork()


def take() -> Spare | None:
    """The worker that was prepared in this process, once."""
    global _spare
    spare, _spare = _spare, None
    return spare if spare is not None and spare.owner == os.getpid() and spare.poll() is None else None


def dismiss() -> None:
    """End the worker that was prepared, if nobody took it."""
    spare = take()
    if spare is not None:
        spare.dismiss()


def _fork() -> Spare:
    requests, asking = os.pipe()
    replying, replies = os.pipe()
    errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _work(parent, {0: requests, 1: replies, 2: errors.fileno()})
    os.close(requests)
    os.close(replies)
    return Spare(pid, os.fdopen(asking, "wb", 0), os.fdopen(replying, "rb", 0), errors)


def _work(parent: int, standard: dict[int, int]) -> NoReturn:
    """The copy's life: leave everything of the program behind, wait for settings, and serve."""
    try:
        for known in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(known, signal.SIG_DFL)
        for number, descriptor in standard.items():
            os.dup2(descriptor, number)
        for descriptor in sorted(int(name) for name in os.listdir("/proc/self/fd")):
            if descriptor > 2:
                with contextlib.suppress(OSError):  # the listing's own is closed by now
                    os.close(descriptor)
        os.setsid()
        worker.die_with(parent)
        gc.freeze()
        worker.serve()
    except BaseException:  # nothing of the program's own handling may run in the copy
        with contextlib.suppress(Exception):
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(_CRASHED)
