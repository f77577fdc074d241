"""What every kind of device answers: present, absent, or present but unusable because of something."""

from __future__ import annotations

import ctypes
import enum
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.runtime.process import Outcome, run_process

PROBE_SECONDS = 20.0
"""Longest time for a tool or a probe in a process of its own."""


class State(enum.StrEnum):
    """Whether a device can be used."""

    PRESENT = "present"
    ABSENT = "absent"
    UNUSABLE = "unusable"
    """It is there, or a part of what it needs is, but it cannot be used; the reason says why."""


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: what it calls itself.
        address: how edgec's options name it, such as ``cpu``, ``cuda:0`` or ``usb:1``; also the name of its lease.
        capability: what decides which artifacts it runs: instruction sets, a compute capability, a chip.
        memory: bytes, None where it does not tell.
        driver: name and version of what talks to it.
        state, reason: whether this one can be used, and why not.
        facts: what else is known, as JSON.
    """

    name: str
    address: str
    capability: str = ""
    memory: int | None = None
    driver: str = ""
    state: State = State.PRESENT
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The answer of one kind.

    Attributes:
        kind: its short name, such as ``nvidia``.
        title: what it is.
        state: present when a device can be used; unusable when something is there that cannot; else absent.
        reason: why it is not present.
        help: what is missing and how to get it.
    """

    kind: str
    title: str
    state: State
    reason: str = ""
    help: str = ""
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Host:
    """The machine that is looked at; tests bring files, libraries and tools of their own.

    Attributes:
        root: stands for the root of the file system.
        load: loads a shared library or raises OSError.
        environment: the environment variables.
        run: runs a tool by its arguments; None where there is no such tool.
    """

    root: Path = Path("/")
    load: Callable[[str], Any] = ctypes.CDLL
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    run: Callable[[tuple[str, ...]], Outcome | None] = field(default_factory=lambda: run_tool)

    def files(self, pattern: str) -> list[Path]:
        """What matches below the root, sorted."""
        return sorted(self.root.glob(pattern))

    def text(self, path: str) -> str:
        """A file's text without blanks around it, empty where it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def name_of(self, path: Path) -> str:
        """The path as the user knows it."""
        return "/" + path.relative_to(self.root).as_posix()

    def refusal(self, path: Path) -> str:
        """Why this user cannot open a device file for reading and writing; empty when that works."""
        if os.access(path, os.R_OK | os.W_OK):
            return ""
        return f"{self.name_of(path)} may not be opened by this user"


def run_tool(arguments: tuple[str, ...]) -> Outcome | None:
    """Run a tool that is on PATH, for at most 20 seconds; None where it is not there."""
    program = shutil.which(arguments[0])
    if program is None:
        return None
    try:
        return run_process(
            [program, *arguments[1:]], folder=Path("/"), environment=dict(os.environ), timeout_s=PROBE_SECONDS
        )
    except OSError as error:
        return Outcome(126, None, False, f"{program} cannot be started: {error.strerror}", 0.0)


def failure(outcome: Outcome) -> str:
    """Why a tool did not succeed, in a few words; empty when it did."""
    if outcome.timed_out:
        return f"it did not answer within {PROBE_SECONDS:g} s"
    if outcome.signal is not None:
        return f"it crashed ({outcome.signal})"
    if outcome.status != 0:
        return (outcome.last_lines or [f"it ended with status {outcome.status}"])[-1]
    return ""


def summary(kind: str, title: str, devices: tuple[Device, ...], reason: str = "", help: str = "") -> Report:
    """The report that follows from the devices: the reason of the first unusable one where none can be used."""
    if any(device.state is State.PRESENT for device in devices):
        return Report(kind, title, State.PRESENT, "", "", devices)
    if devices:
        return Report(kind, title, State.UNUSABLE, reason or devices[0].reason, help, devices)
    return Report(kind, title, State.ABSENT, reason, help)
