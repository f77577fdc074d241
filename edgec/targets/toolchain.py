"""Driving a vendor's tool: a pure plan, a runner, and a check that does not trust the exit code.

A target makes a :class:`ToolPlan` (arguments, environment, expected files: pure, needs no tool) and hands it to
:func:`run_tool`, which works in a folder of its own, in a process group of its own, with a time and a memory limit,
keeps the transcript, asks the target whether the result is what it should be, and only then moves it into place.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgec.errors import EdgecError
from edgec.runtime.process import Outcome, run_process

SCHEMA: Final = "edgec-plan-1"
WORKING: Final = ".edgec-tool-"


@dataclass(frozen=True)
class Tool:
    """A program of a vendor.

    Attributes:
        name: what it is called on PATH.
        variable: environment variable that names another file.
        install: where it comes from, in one sentence.
    """

    name: str
    variable: str
    install: str

    def find(self, given: str | os.PathLike[str] | None = None) -> Path | None:
        """The program: the one given, the one the variable names, or the one on PATH; None where there is none.

        A program that is named but is no executable file counts as missing; no other is taken in its place.
        """
        named = given or os.environ.get(self.variable)
        found = shutil.which(os.fspath(named) if named else self.name)
        return None if found is None else Path(found).absolute()


@dataclass(frozen=True)
class ToolPlan:
    """One run of a tool, in the folder that holds its inputs.

    Attributes:
        tool: the program's name, for messages and for a plan without the program.
        arguments: everything behind the program; files are named relative to the folder.
        inputs: files that must be there before.
        outputs: files that must be there after.
        extras: files that may be there after and belong to the artifact (logs).
        environment: what the tool gets besides PATH, HOME, TMPDIR and LC_ALL.
        timeout_s: longest time of one attempt, seconds.
        memory_limit: bytes of address space, None for no limit.
        attempts: how often it is run when it fails in a way that may pass.
    """

    tool: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    extras: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    memory_limit: int | None = None
    attempts: int = 1

    @property
    def command(self) -> str:
        """The command line, to be run in the folder that holds the inputs."""
        words = [f"{name}={value}" for name, value in sorted(self.environment.items())]
        return shlex.join([*words, self.tool, *self.arguments])

    def command_in(self, folder: Path) -> str:
        """The command line with the change into a folder."""
        return f"cd {shlex.quote(str(folder))} && {self.command}"

    def to_json(self) -> dict[str, Any]:
        """The plan as ``*.plan.json`` and ``--plan --json`` hold it; no path of this machine is in it."""
        return {
            "tool": self.tool,
            "command": self.command,
            "arguments": list(self.arguments),
            "environment": dict(sorted(self.environment.items())),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "extras": list(self.extras),
            "timeout_s": self.timeout_s,
            "memory_limit": self.memory_limit,
            "attempts": self.attempts,
        }


@dataclass(frozen=True)
class ToolRun:
    """A run that ended well.

    Attributes:
        outputs: the expected files in their final place, in the plan's order.
        extras: those of the plan's extras that were written.
        transcript: everything that the tool printed (the middle left out where it was very long).
        attempts: how many runs it took.
        seconds: how long the last one took.
    """

    outputs: tuple[Path, ...]
    extras: tuple[Path, ...]
    transcript: str
    attempts: int
    seconds: float


Check = Callable[[Path, str], None]
"""Looks at the folder with the results and at the transcript; raises EdgecError (EDG504) unless they are right."""

Explain = Callable[[Outcome], EdgecError | None]
"""Reads a known failure out of a transcript, also of a run that ended with status 0; None for no known failure."""


def missing(tool: Tool, plan: ToolPlan, folder: Path, given: object = None) -> EdgecError:
    """The error EDG510 for a tool that is not here, with the exact command."""
    looked = f"'{given}'" if given else f"${tool.variable} and PATH"
    return EdgecError(
        "EDG510",
        f"{tool.name} is not on this machine",
        why=f"looked at {looked}; {tool.install}",
        help=plan.command_in(folder),
        details={"tool": tool.name, "variable": tool.variable, "plan": plan.to_json()},
    )


def ask_version(tool: Tool, program: Path, folder: Path, environment: Mapping[str, str], timeout_s: float) -> Outcome:
    """What ``PROGRAM --version`` says, whatever its exit status.

    Raises:
        EdgecError: EDG510 it cannot be started, EDG502 it does not end, EDG503 a signal ended it.
    """
    plan = ToolPlan(tool=tool.name, arguments=("--version",), inputs=(), outputs=(), timeout_s=timeout_s)
    try:
        outcome = run_process(
            [str(program), *plan.arguments], folder=folder, environment=dict(environment), timeout_s=timeout_s
        )
    except OSError as error:
        raise EdgecError("EDG510", f"{tool.name} cannot be started", where=str(program), why=str(error)) from error
    ended = _ended(plan, outcome)
    if ended is not None:
        ended.where = f"{program} --version"
        ended.help = f"try that by hand; ${tool.variable} names another program"
        raise ended
    return outcome


def run_tool(
    plan: ToolPlan,
    program: Path,
    *,
    sources: Mapping[str, Path],
    destination: Path,
    check: Check,
    explain: Explain = lambda outcome: None,
    may_pass: Callable[[Outcome], bool] = lambda outcome: False,
) -> ToolRun:
    """Run a tool and move its checked results into a folder.

    Args:
        program: the executable file.
        sources: for each of the plan's inputs the file that it is copied from.
        destination: an existing folder; results appear in it all at once, by renaming.
        check: judges the results before they are moved.
        explain: turns a known failure into its error.
        may_pass: whether a failure is worth another attempt (of ``plan.attempts``).

    Raises:
        EdgecError: EDG501 failed, EDG502 out of time, EDG503 killed or crashed, EDG504 no usable result, EDG510 the
            program cannot be started, or what ``explain`` and ``check`` say; the transcript is in ``details["log"]``.
    """
    for attempt in range(1, plan.attempts + 1):
        with tempfile.TemporaryDirectory(prefix=WORKING, dir=destination) as name:
            folder = Path(name)
            for item in plan.inputs:
                shutil.copyfile(sources[item], folder / item)
            outcome = _run(plan, program, folder)
            problem = _problem(plan, outcome, explain)
            if problem is None:
                problem = _unusable(plan, folder, outcome, check)
            if problem is None:
                moved = [_move(folder / item, destination) for item in plan.outputs]
                extras = [_move(folder / item, destination) for item in plan.extras if (folder / item).is_file()]
                return ToolRun(tuple(moved), tuple(extras), outcome.output, attempt, outcome.seconds)
        if attempt == plan.attempts or not may_pass(outcome):
            problem.details.setdefault("log", outcome.output)
            problem.details.setdefault("command", plan.command)
            problem.details.setdefault("attempts", attempt)
            raise problem
    raise AssertionError("a plan has at least one attempt")


def _run(plan: ToolPlan, program: Path, folder: Path) -> Outcome:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LC_ALL": "C",
        **plan.environment,
    }
    try:
        return run_process(
            [str(program), *plan.arguments],
            folder=folder,
            environment=environment,
            timeout_s=plan.timeout_s,
            memory_limit=plan.memory_limit,
        )
    except OSError as error:
        raise EdgecError(
            "EDG510",
            f"{plan.tool} cannot be started",
            where=str(program),
            why=error.strerror or str(error),
            details={"plan": plan.to_json()},
        ) from error


def _problem(plan: ToolPlan, outcome: Outcome, explain: Explain) -> EdgecError | None:
    """What went wrong as far as the process itself tells."""
    ended = _ended(plan, outcome)
    if ended is not None:
        return ended
    known = explain(outcome)
    if known is not None:
        return known
    if outcome.status != 0:
        return _error("EDG501", plan, outcome, f"ended with status {outcome.status}")
    return None


def _ended(plan: ToolPlan, outcome: Outcome) -> EdgecError | None:
    """What it was, where the tool did not end by itself."""
    if outcome.timed_out:
        return _error("EDG502", plan, outcome, f"took longer than {plan.timeout_s:g} s and was stopped")
    name = outcome.signal or _signal_of_wrapper(outcome.status)
    return None if name is None else _error("EDG503", plan, outcome, f"was ended by {name}")


def _unusable(plan: ToolPlan, folder: Path, outcome: Outcome, check: Check) -> EdgecError | None:
    """What is wrong with the files of a run that claims success."""
    for item in plan.outputs:
        path = folder / item
        if path.is_symlink() or not path.is_file() or not path.stat().st_size:
            state = "is empty" if path.is_file() else "is not there"
            return _error("EDG504", plan, outcome, f"reported success, but '{item}' {state}")
    try:
        check(folder, outcome.output)
    except EdgecError as error:
        return error
    return None


def _error(code: str, plan: ToolPlan, outcome: Outcome, what: str) -> EdgecError:
    return EdgecError(code, f"{plan.tool} {what}", where=plan.command, why=last_lines(outcome.last_lines))


def last_lines(lines: Sequence[str]) -> str | None:
    """The end of a transcript on one line, None where there is none."""
    return " / ".join(lines[-3:]) or None


def _signal_of_wrapper(status: int | None) -> str | None:
    """A shell script around the tool reports a signal as 128 + its number."""
    if status is None or not 128 < status < 128 + 65:
        return None
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return None
    return name if name in ("SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "SIGILL", "SIGFPE", "SIGTERM") else None


def _move(file: Path, destination: Path) -> Path:
    target = destination / file.name
    os.replace(file, target)
    return target
