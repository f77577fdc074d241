"""One run at a time per device: a lease that every edgec process of this user asks for before it measures.

The lease is a ``flock`` on a file; the kernel gives it back with the process, however that ends.  The file holds who
has it, so that whoever waits can say for whom.  A process that holds a lease may take it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import UsageError

VARIABLE: Final = "EDGEC_LEASES"
"""Another folder for the lease files, such as one that several users share."""
POLL_S: Final = 0.05
REPEAT_S: Final = 30.0
"""How often a wait is told again, seconds."""

_held: dict[Path, int] = {}
"""How often this process holds each lease."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease: process number, command line, and since when (seconds since the epoch)."""

    pid: int
    command: str
    since: float

    def __str__(self) -> str:
        minutes, seconds = divmod(max(int(time.time() - self.since), 0), 60)
        return f"process {self.pid} ({self.command}), for {minutes}:{seconds:02d} min"


@dataclass(frozen=True)
class Lease:
    """A lease that is held: the device, and how many seconds it was waited for."""

    device: str
    waited_s: float


def to_standard_error(message: str) -> None:
    """A line on standard error."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def lease(
    device: str,
    *,
    wait: bool = True,
    tell: Callable[[str], object] = to_standard_error,
    folder: Path | None = None,
) -> Iterator[Lease]:
    """Hold the lease of a device, such as ``cpu`` or ``cuda:0``, while the context lasts.

    Args:
        wait: wait for whoever has it; without it that is an error.
        tell: gets a line when a wait begins, now and then while it lasts, and when it is over.

    Raises:
        UsageError: EDG701 when another process has it and `wait` is off; EDG010 when the folder cannot be written.
    """
    path = lease_file(device, folder)
    if path in _held:
        _held[path] += 1
        try:
            yield Lease(device, 0.0)
        finally:
            _held[path] -= 1
        return
    descriptor = _open(path)
    try:
        waited = _acquire(descriptor, path, device, wait, tell)
        _held[path] = 1
        try:
            _write(descriptor, Holder(os.getpid(), command_line(), time.time()))
            yield Lease(device, waited)
        finally:
            del _held[path]
            _write(descriptor, None)
    finally:
        os.close(descriptor)


def device_of(options: Mapping[str, Any]) -> str:
    """The name of the device that sessions with these options run on: ``cpu``, ``cuda:0``, ``gpu``, ..."""
    provider = str(options.get("provider") or "cpu").lower().removesuffix("executionprovider")
    if provider in ("cuda", "tensorrt"):
        return f"cuda:{(options.get('provider_options') or {}).get('device_id', 0)}"
    accelerator = str(options.get("accelerator") or "cpu").lower()
    return provider if provider != "cpu" else accelerator


def holder(device: str, folder: Path | None = None) -> Holder | None:
    """Who has the lease of a device now, this process included; None where nobody has it."""
    path = lease_file(device, folder)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if path not in _held and _try(descriptor):
            return None  # given back with the descriptor
    finally:
        os.close(descriptor)
    return _read(path)


def lease_file(device: str, folder: Path | None = None) -> Path:
    """The file of a device's lease on this machine; the folder may be shared with other machines."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{platform.node()}-{device}")
    return (folder or default_folder()) / f"{name}.lease"


def default_folder(environment: Mapping[str, str] | None = None) -> Path:
    """``$EDGEC_LEASES``, else ``edgec/leases`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``).

    Not the runtime folder: a job without a login has none, and would not see the lease of a shell.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(VARIABLE)
    if given:
        return Path(given)
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgec" / "leases"


def command_line() -> str:
    """The command of this process, shortened; passwords in URLs are left out, as other processes are told of it."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    program = "edgec" if program == "__main__.py" else program
    return " ".join([program, *map(without_password, sys.argv[1:])])[:200]


def without_password(argument: str) -> str:
    """An argument of a command; where it is a URL, without its password and its options."""
    scheme, separator, rest = argument.partition("://")
    if not separator:
        return argument
    rest, question, _ = rest.partition("?")
    account, at, place = rest.rpartition("@")
    name, colon, _ = account.partition(":")
    return f"{scheme}://{name}{':***' if colon else ''}{at}{place}{'?***' if question else ''}"


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(
            "EDG010",
            "the lease of the device cannot be kept",
            where=str(path),
            why=error.strerror,
            help=f"name a folder that can be written in ${VARIABLE}",
        ) from error


def _acquire(descriptor: int, path: Path, device: str, wait: bool, tell: Callable[[str], object]) -> float:
    """Seconds until the lock was had."""
    if _try(descriptor):
        return 0.0
    began = time.monotonic()
    if not wait:
        owner = _read(path)
        if owner is None:  # somebody asks who has it, or is just taking it
            time.sleep(2 * POLL_S)
            if _try(descriptor):
                return 0.0
            owner = _read(path)
        raise UsageError(
            "EDG701",
            f"the device '{device}' is in use",
            why=f"held by {owner}" if owner else "held by another process",
            help="leave out --no-wait to wait for it",
            details={"device": device, "holder": asdict(owner) if owner else None},
        )
    told = -REPEAT_S
    while not _try(descriptor):
        waited = time.monotonic() - began
        if waited - told >= REPEAT_S:
            told = waited
            owner = _read(path)
            tell(f"waiting for the device '{device}', held by {owner or 'another process'}; the wait is not measured")
        time.sleep(POLL_S)
    waited = time.monotonic() - began
    tell(f"the device '{device}' is free after {waited:.1f} s")
    return waited


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _read(path: Path) -> Holder | None:
    """Who wrote the file; None while it is being written or where it holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(found["pid"]), str(found["command"]), float(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(descriptor: int, owner: Holder | None) -> None:
    os.ftruncate(descriptor, 0)
    if owner is not None:
        os.pwrite(descriptor, json.dumps(asdict(owner)).encode(), 0)
