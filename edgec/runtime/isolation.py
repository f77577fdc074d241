"""Run sessions in a child process, so that a crash, a hang or a memory leak of a runtime is an error, not an accident.

Runtimes are native code: LiteRT aborts the process on some malformed artifacts.  A :class:`Worker` is one child
(:mod:`edgec.runtime.worker`) that may host several sessions one after the other; starting one costs the import of
NumPy and of the runtime that the session needs.  :class:`Workers` give every session a process of its own, and on Linux
these are forked from one that has NumPy, which a command forks before it does anything else
(:mod:`edgec.runtime.spare`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from edgec.errors import VerificationError
from edgec.ir.types import Array
from edgec.runtime.framing import ProtocolError, dtype_of, receive, send
from edgec.runtime.session import Assignment, Session, TensorSpec
from edgec.runtime.spare import Spare, take

DEFAULT_TIMEOUT_S = 300.0
"""Longest time that loading, or one run, may take, seconds."""

FORKING = sys.platform == "linux"
"""Whether :class:`Workers` fork."""

STDERR_LINES = 8
"""How many of the child's last lines an error shows."""


class _Gone(Exception):
    """The child closed its end."""


class _Late(Exception):
    """The child did not answer in time."""


class Worker:
    """One child process that hosts sessions.

    Args:
        timeout_s: longest time for any one request, seconds; the child is killed when it takes longer.
        memory_limit: bytes of address space that the child may use, None for no limit.
        processors: numbers of the processors that it may run on, None for those of this process.
        forking: let it fork for every session, of which there is one at a time; Linux only.
        spare: a process that was forked for this; else a new one is started.
    """

    def __init__(
        self,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        memory_limit: int | None = None,
        processors: Collection[int] | None = None,
        forking: bool = False,
        spare: Spare | None = None,
    ):
        self._timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile() if spare is None else spare.stderr  # noqa: SIM115  (closed by close)
        self._said = 0
        self._count = 0
        self.shared: str | None = None
        """What it has imported for all sessions of one kind: no other kind may be forked from it."""
        self._hosted: set[int] = set()
        settings: dict[str, Any] = {"path": [entry or os.getcwd() for entry in sys.path], "memory_limit": memory_limit}
        settings["parent"] = os.getpid()
        settings["forking"] = forking
        settings["processors"] = sorted(processors) if processors else None
        self._process = _started(settings, self._stderr) if spare is None else spare
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        if spare is not None:
            deadline = time.monotonic() + timeout_s
            with contextlib.suppress(BrokenPipeError):  # it was killed a moment ago: the first request tells how
                send(lambda buffer: self._write(buffer, deadline), settings)

    def open(
        self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None, *, shared: str | None = None
    ) -> IsolatedSession:
        """Load a model in the child.

        Args:
            factory: ``"module:function"``, called as ``function(path, **options)`` in the child.
            options: keyword arguments that JSON can hold.
            shared: ``"module:function"`` that a child that forks calls once, before it forks for the first of these
                sessions, see :class:`edgec.targets.base.SessionSpec`.

        Raises:
            VerificationError: EDG302 when it does not load, with the signal or the last lines of its output.
        """
        self._count += 1
        request = {"call": "open", "session": self._count, "factory": factory, "path": os.fspath(path)}
        request.update(options=dict(options or {}), shared=shared)
        self.shared = shared
        if not self._stderr.closed:
            self._said = self._stderr.seek(0, os.SEEK_END)  # errors do not show what earlier sessions wrote
        reply, _ = self._call(request, {}, "EDG302", f"loading {Path(path).name}")
        session = IsolatedSession(self, self._count, _specs(reply["inputs"]), _specs(reply["outputs"]), Path(path).name)
        session.opening = {**reply["opening"], "forked": reply["forked"]}
        self._hosted.add(self._count)
        return session

    @property
    def idle(self) -> bool:
        """Whether it is there and hosts no session."""
        return not self._hosted and not self._stderr.closed and self._process.poll() is None

    def close(self) -> None:
        """End the child and everything that it started."""
        process = self._process
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # requests

    def _call(
        self, request: Mapping[str, Any], arrays: Mapping[str, Array], code: str, doing: str
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        if self._stderr.closed:
            raise VerificationError(code, f"{doing}: the worker process is closed")
        deadline = time.monotonic() + self._timeout_s
        try:
            send(lambda buffer: self._write(buffer, deadline), request, arrays)
            reply, results = receive(lambda buffer: self._read(buffer, deadline))
        except _Late:
            lines = self._last_lines()
            self.close()
            raise VerificationError(
                code,
                f"{doing} took longer than {self._timeout_s:g} s and was stopped",
                why=lines[-1] if lines else None,
                details={"timeout_s": self._timeout_s, "stderr": lines},
            ) from None
        except (_Gone, BrokenPipeError, ConnectionResetError):
            raise self._death(code, doing) from None
        except ProtocolError as error:
            self.close()
            raise VerificationError(code, f"{doing}: the worker process sent nonsense", why=str(error)) from error
        except BaseException:  # an interrupt: the conversation is out of step
            self.close()
            raise
        problem = reply.get("error")
        if problem is not None:
            lines = self._last_lines()
            raise VerificationError(
                problem.get("code") or code,
                _sentence(doing, problem),
                where=problem.get("where"),
                why=problem.get("why"),
                help=problem.get("help"),
                details={**(problem.get("details") or {}), **({"stderr": lines} if lines else {})},
            )
        return reply, results

    def _death(self, code: str, doing: str) -> VerificationError:
        process = self._process
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        lines = self._last_lines()
        self.close()
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            cause = {
                "SIGKILL": "killed (SIGKILL), usually because memory ran out",
                "SIGABRT": "aborted (SIGABRT)",
                "SIGSEGV": "crashed (SIGSEGV)",
            }.get(name, f"ended by {name}")
        else:
            name, cause = None, f"ended with status {status}"
        return VerificationError(
            code,
            f"{doing}: the runtime {cause}",
            why=" / ".join(lines[-3:]) or None,
            details={"signal": name, "status": status, "stderr": lines},
        )

    def _last_lines(self) -> list[str]:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._stderr.tell() - 8192, self._said))
        text = self._stderr.read().decode("utf-8", "replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-STDERR_LINES:]

    def _write(self, buffer: memoryview, deadline: float) -> None:
        while buffer:
            try:
                buffer = buffer[os.write(self._input, buffer) :]
            except BlockingIOError:
                self._wait(self._input, select.POLLOUT, deadline)

    def _read(self, buffer: memoryview, deadline: float) -> None:
        while buffer:
            try:
                count = os.readv(self._output, [buffer])
            except BlockingIOError:
                self._wait(self._output, select.POLLIN, deadline)
                continue
            if not count:
                raise _Gone
            buffer = buffer[count:]

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise _Late


def _started(settings: Mapping[str, Any], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")  # the child computes nothing with NumPy
    return subprocess.Popen(
        [sys.executable, "-P", "-E", "-s", str(Path(__file__).with_name("worker.py")), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        start_new_session=True,
        bufsize=0,
    )


class IsolatedSession:
    """A session in a worker process; see :class:`edgec.runtime.session.Session`."""

    def __init__(
        self, worker: Worker, number: int, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], name: str
    ):
        self._worker = worker
        self._number = number
        self._name = name
        self._owns = False
        self.opening: dict[str, Any] = {}
        """``load_s``: seconds that loading took, imports not counted; ``base_bytes``: memory held before it;
        ``forked``: whether the worker forked for it."""
        self.inputs = inputs
        self.outputs = outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when the runtime reports an error, crashes or takes too long.
        """
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        request = {"call": "run", "session": self._number}
        _, results = self._worker._call(request, arrays, "EDG303", f"running {self._name}")
        return results

    def measure(
        self, do: str, arrays: Mapping[str, Array] | None = None, **request: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Ask the worker for something that :func:`edgec.runtime.measurement.loop.serve` knows.

        Raises:
            VerificationError: EDG303 as for :meth:`run`.
        """
        message = {"call": "measure", "session": self._number, "do": do, **request}
        return self._worker._call(message, arrays or {}, "EDG303", f"measuring {self._name}")

    def assignment(self) -> Assignment | None:
        """Where the operators run, as the session in the worker tells; None where it does not.

        Raises:
            VerificationError: EDG303 as for :meth:`run`.
        """
        request = {"call": "assignment", "session": self._number}
        reply, _ = self._worker._call(request, {}, "EDG303", f"asking about {self._name}")
        found = reply["assignment"]
        return None if found is None else Assignment(**{**found, "left": tuple(found["left"])})

    @property
    def process(self) -> int:
        """The number of the worker process."""
        return self._worker._process.pid

    def close(self) -> None:
        """Release the model, and end the worker where it was started for this session alone."""
        if self._owns:
            self._worker.close()
        elif self._number in self._worker._hosted and not self._worker._stderr.closed:
            self._worker._hosted.remove(self._number)
            request = {"call": "close", "session": self._number}
            self._worker._call(request, {}, "EDG303", f"closing {self._name}")


def open_isolated(
    factory: str,
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit: int | None = None,
    processors: Collection[int] | None = None,
) -> IsolatedSession:
    """Load a model in a worker process of its own, which ends when the session is closed.

    Raises:
        VerificationError: EDG302, see :meth:`Worker.open`.
    """
    worker = Worker(timeout_s=timeout_s, memory_limit=memory_limit, processors=processors)
    try:
        session = worker.open(factory, path, options)
    except BaseException:
        worker.close()
        raise
    session._owns = True
    return session


class Workers:
    """Opens every session in a process of its own, so that the memory that one runtime took does not add to another's.

    On Linux these are forked from one worker, or from as many as there are sessions at the same time.  A context
    manager; what is still open at its end is closed.
    """

    def __init__(self, *, timeout_s: float = DEFAULT_TIMEOUT_S, memory_limit: int | None = None):
        self._timeout_s = timeout_s
        self._memory_limit = memory_limit
        self._workers: list[Worker] = []

    def open(
        self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None, *, shared: str | None = None
    ) -> Session:
        """Load a model in a process of its own, which ends when the session is closed.

        Raises:
            VerificationError: EDG302, see :meth:`Worker.open`.
        """
        fitting = [item for item in self._workers if item.shared in (None, shared) and item.idle] if FORKING else []
        worker = max(fitting, key=lambda item: item.shared is not None, default=None)
        if worker is None:
            worker = Worker(timeout_s=self._timeout_s, memory_limit=self._memory_limit, forking=FORKING, spare=take())
            self._workers.append(worker)
        session = worker.open(factory, path, options, shared=shared)
        session._owns = not session.opening.get("forked")
        return session

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().close()


def _specs(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(entry["name"], dtype_of(entry["dtype"]), tuple(entry["shape"])) for entry in entries)


def _sentence(doing: str, problem: Mapping[str, Any]) -> str:
    message = str(problem["message"]).strip()
    return message if problem.get("code") else f"{doing} failed: {message}"
