"""Run a tool in a process of its own: time and memory limited, its output kept but bounded, nothing left over.

The tool starts in its own session (and process group), so that whatever it starts ends with it.  Its standard input is
empty; standard output and standard error arrive together.  Of a tool that prints without end the beginning and the end
are kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOG_HEAD = 1 << 16
"""Bytes kept of the beginning of the output."""
LOG_TAIL = 1 << 18
"""Bytes kept of the end of the output."""
SHOWN_LINES = 8
"""Lines of the output that an error shows."""


@dataclass(frozen=True)
class Outcome:
    """How a tool ended.

    Attributes:
        status: its exit status; None if a signal ended it.
        signal: the name of that signal, such as ``SIGKILL``; None if it ended by itself.
        timed_out: whether edgec stopped it because its time was up.
        output: what it printed, the middle left out where it was too long.
        seconds: how long it ran.
    """

    status: int | None
    signal: str | None
    timed_out: bool
    output: str
    seconds: float

    @property
    def last_lines(self) -> list[str]:
        """The last lines of the output that are not blank."""
        return [line.rstrip()[:500] for line in self.output.splitlines() if line.strip()][-SHOWN_LINES:]


@dataclass
class _Log:
    """Beginning and end of a stream of any length."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, chunk: bytes) -> None:
        room = LOG_HEAD - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[room:] if room > 0 else chunk
        if len(self.tail) > 2 * LOG_TAIL:
            self._trim()

    def _trim(self) -> None:
        excess = len(self.tail) - LOG_TAIL
        if excess > 0:
            del self.tail[:excess]
            self.dropped += excess

    def text(self) -> str:
        self._trim()
        middle = f"\n... {self.dropped} bytes left out ...\n".encode() if self.dropped else b""
        return bytes(self.head + middle + self.tail).decode("utf-8", "replace")


def run_process(
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    memory_limit: int | None = None,
) -> Outcome:
    """Run a tool to its end.

    Args:
        arguments: the program and its arguments; no shell is involved.
        folder: where it works.
        environment: all that it gets; nothing is inherited.
        timeout_s: longest time in seconds; it is killed when it takes longer.
        memory_limit: bytes of address space for each process of it, None for no limit (Linux only).

    Raises:
        OSError: the program cannot be started.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(arguments),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )
    log = _Log()
    timed_out = False
    assert process.stdout is not None
    with process.stdout as stream:
        try:
            _limit(process.pid, memory_limit)
            os.set_blocking(stream.fileno(), False)
            timed_out = not _follow(process, stream.fileno(), log, began + timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            _drain(stream.fileno(), log)
    name = _signal_name(-status) if status < 0 else None
    return Outcome(status if status >= 0 else None, name, timed_out, log.text(), time.monotonic() - began)


def _follow(process: subprocess.Popen[bytes], descriptor: int, log: _Log, deadline: float) -> bool:
    """Keep what the tool prints until it ends; False when its time is up."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    is_open = True
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return process.poll() is not None
        if not is_open:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
                return True
            continue
        ready = poll.poll(min(left, 0.1) * 1000)
        if ready:
            chunk = _read(descriptor)
            is_open = chunk != b""
            log.add(chunk or b"")
        elif process.poll() is not None:  # something that it started holds the pipe open
            return True


def _read(descriptor: int) -> bytes | None:
    """What can be read now: None for nothing yet, empty at the end."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None


def _drain(descriptor: int, log: _Log) -> None:
    """What was printed before the end; no more than a pipe holds, so that nothing can keep us here."""
    for _ in range(64):
        chunk = _read(descriptor)
        if not chunk:
            return
        log.add(chunk)


def _limit(pid: int, memory_limit: int | None) -> None:
    if sys.platform != "linux":
        return
    import resource

    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        if memory_limit is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            limit = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, hard))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
