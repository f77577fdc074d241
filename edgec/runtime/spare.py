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
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Set
from typing import IO, Final, NoReturn

from edgec.runtime import worker

POSSIBLE = sys.platform == "linux"
"""Whether processes are forked: only Linux says how many threads there are, and ends a child with its parent."""

_CRASHED: Final = 70
_HANDLED: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
"""What a program may have handlers for that must not run in the copy."""


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
        return self._collect(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, seconds at most.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if timeout is None:
            status = self._collect(0)
            assert status is not None
            return status
        # os.pidfd_open would do without asking again and again, but kernels before 5.3 and some builds of Python
        # do not have it.
        deadline, pause = time.monotonic() + timeout, 0.0005
        while (status := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("a forked worker", timeout)
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.05)
        return status

    def _collect(self, how: int) -> int | None:
        if self._status is None:
            try:
                ended, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # SIGCHLD is ignored, so the kernel did not keep how it ended
                ended, status = self.pid, 0
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def dismiss(self) -> None:
        """End it; it has nothing to finish."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        self.wait()


_spare: Spare | None = None


def prepare() -> None:
    """Fork a worker, unless there is one; where that cannot be done (safely), workers are started anew later."""
    global _spare
    if not POSSIBLE or _spare is not None:
        return
    for name in worker.PRELOADED:
        importlib.import_module(name)
    if not worker.has_one_thread():
        return
    # No handler may run in the copy, nor here before we know the copy.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        _spare = _fork(held)
    except OSError:  # no descriptor, no room for a temporary file, no process left: whoever needs a worker will say so
        _spare = None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


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


def _fork(held: Set[int]) -> Spare:
    """Fork a worker, which holds back the signals ``held`` only."""
    with contextlib.ExitStack() as opened:
        requests, asking = _pipe(opened)
        replying, replies = _pipe(opened)
        errors = opened.enter_context(tempfile.TemporaryFile())
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            _work(parent, held, {0: requests, 1: replies, 2: errors.fileno()})
        opened.pop_all()
    os.close(requests)
    os.close(replies)
    return Spare(pid, os.fdopen(asking, "wb", 0), os.fdopen(replying, "rb", 0), errors)


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    return ends


def _work(parent: int, held: Set[int], standard: dict[int, int]) -> NoReturn:
    """The copy's life: leave everything of the program behind, wait for settings, and serve."""
    try:
        for known in (*_HANDLED, signal.SIGCHLD):
            signal.signal(known, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
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
