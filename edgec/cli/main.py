"""The entry point: finds the command, runs it, and turns whatever happens into an exit code and one clear message."""

from __future__ import annotations

import errno
import gc
import importlib
import keyword
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from edgec._version import VERSION
from edgec.cli.interruption import forget, interrupted
from edgec.errors import EXIT_OK, EXIT_PIPE, EdgecError, UsageError

THRESHOLDS: Final = (50_000, 20, 10)
"""Of the garbage collector while a command runs: what imports and graphs make stays, so looking often finds nothing."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

COMMANDS: Final = {
    "convert": "Convert a model and prove that the artifact computes the same function.",
    "import": "Turn a model of any known format into ONNX.",
    "quantize": "Write a float model as int8 ONNX for anybody's tools.",
    "tune": "Find the fastest way to run a model on this machine.",
    "check": "Say of every node whether a target can hold it.",
    "inspect": "Show what a model or an artifact holds.",
    "verify": "Compare an artifact with the model it was made from.",
    "run": "Run an artifact on a real input.",
    "bench": "Measure an artifact, or two against each other.",
    "bisect": "Find the node of a converted model that first differs from the source.",
    "explain": "Explain an error code or a rule.",
    "devices": "List the devices of this machine: what each can do, and what is missing.",
    "doctor": "Look at this machine: is everything here that the targets need?",
    "targets": "List the targets.",
    "passes": "List the passes and their options.",
    "schema": "Print the JSON schema of a document that edgec writes.",
}


def module_of(command: str) -> str:
    """The module of a command; ``import`` is no name for one."""
    return f"edgec.cli.{command}" + ("_" if keyword.iskeyword(command) else "")


_signals: list[int] = []
"""The signal that interrupted the run, if one did, and the alarms after it."""
PATIENCE: Final = 1000
"""How many times ten milliseconds an interruption waits for imports to end."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    A class of its own: Python ends with the signal itself instead of our exit code when a plain KeyboardInterrupt once
    passed through code that an extension module ran, even if it was caught later.
    """


class Commands(click.Group):
    """A group that imports a command's module only when that command runs, so that ``--help`` stays cheap."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(module_of(cmd_name))
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a pipe that breaks and is not our output, such as one to a worker, is no quiet end."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as raised:
            if _reader_gone():
                raise
            raise RuntimeError(f"a pipe to another process: {raised}") from raised

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(VERSION, prog_name="edgec", message="%(prog)s %(version)s")
def root() -> None:
    """One trained ONNX model in, artifacts for the edge out, each one proven to compute the same function.

    Every command takes --json (one document on standard output, nothing else there) and --debug.

    Exit codes: 0 done and verified, 1 verification failed, 2 usage, 3 invalid model, 4 the target cannot hold the
    model, 5 tool missing, 6 tool failed, 7 unstable measurement, 70 internal error, 130 interrupted, 141
    nobody reads the output any more.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run edgec with these arguments (``sys.argv`` by default); returns the exit code."""
    if arguments is None:
        gc.set_threshold(*THRESHOLDS)
        # Before NumPy is imported: its threads would start for nothing, and spin on while something is measured.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Where whoever started us ignores it, the kernel forgets how our children ended, and Python says 0 of each.
        _handle(signal.SIGCHLD, signal.SIG_DFL)
    given = list(sys.argv[1:] if arguments is None else arguments)
    before: list[tuple[int, Any]] = []
    _signals.clear()
    forget()
    _replace_closed()
    streams = sys.stdout, sys.stderr
    try:
        before.extend((number, _handle(number, _interrupt)) for number in (signal.SIGTERM, signal.SIGINT))
        try:
            return _run(given)
        except KeyboardInterrupt as raised:
            # The clean-up is done by now.
            return _report(given, interrupted(str(raised) or None), raised)
    except BrokenPipeError:
        # Whoever read our output has gone; keep Python from complaining when it flushes at exit.
        _forget_output()
        return EXIT_PIPE
    except OSError as raised:
        return _output_lost(raised)
    finally:
        sys.stdout, sys.stderr = streams  # click wraps them where a pipe has broken
        if "edgec.runtime.spare" in sys.modules:
            sys.modules["edgec.runtime.spare"].dismiss()
        if _signals:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for known, handler in before:
            if handler is not None:
                signal.signal(known, handler)
        if arguments is None:
            gc.freeze()  # the process ends: its last collections need not look through all modules


def _run(given: list[str]) -> int:
    error: EdgecError
    try:
        code = root.main(args=given, prog_name="edgec", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except EdgecError as raised:
        error, cause = raised, raised
        return _report(given, error, cause)
    except SystemExit as raised:  # click and rich turn a broken pipe into this, with the code 1; we raise none
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from raised
    except click.Abort as raised:  # click turns KeyboardInterrupt into this
        raise KeyboardInterrupt(*(raised.__cause__.args if raised.__cause__ is not None else ())) from raised
    except click.ClickException as raised:
        return _report(given, _usage(raised), raised)
    except OSError as raised:
        if isinstance(raised, BrokenPipeError) or _output_fails():
            raise
        if raised.errno in FULL and raised.filename is None:
            return _report(
                given, _not_written("standard output, or a temporary file, cannot be written", raised), raised
            )
        return _report(given, _internal(raised), raised)
    except Exception as raised:  # the outermost frame: whatever it is, the user gets a code
        return _report(given, _internal(raised), raised)


def _replace_closed() -> None:
    """Let output that was closed before the start (``>&-``) go nowhere, and keep files from taking its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def _reader_gone() -> bool:
    """Whether standard output or standard error is a pipe that nobody reads any more."""
    polled = select.poll()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            polled.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in polled.poll(0))


def _output_fails() -> bool:
    """Whether standard output still holds what it could not write; some of its layers forget it."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _output_lost(raised: OSError) -> int:
    """Say on standard error that standard output took nothing more, such as a file on a full disk."""
    error = _not_written("standard output cannot be written", raised)
    sys.stderr.write(f"{error}\n")
    _forget_output()
    return error.exit_code


def _not_written(what: str, raised: OSError) -> UsageError:
    return UsageError(
        "EDG011" if raised.errno in FULL else "EDG010",
        what,
        why=raised.strerror or str(raised),
        help="what the command wrote into other files is there; send its output elsewhere, or make room",
    )


def _forget_output() -> None:
    """Keep Python from writing the rest at exit, and from complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _usage(raised: click.ClickException) -> UsageError:
    context = getattr(raised, "ctx", None)
    path = context.command_path if context is not None else "edgec"
    return UsageError("EDG001", raised.format_message(), help=f"{path} --help")


def _internal(raised: Exception) -> EdgecError:
    return EdgecError(
        "EDG900",
        "internal error",
        why=f"{type(raised).__name__}: {raised}",
        help="run again with --debug and report what it prints",
        details={"type": type(raised).__name__},
    )


def _report(given: list[str], error: EdgecError, cause: BaseException) -> int:
    """Show an error: on standard error as text and, with ``--json``, on standard output as the one document."""
    if _signals:  # whatever an extension module made of the exception that the signal raised
        error = interrupted()
    if "--debug" in given:
        import traceback

        traceback.print_exception(cause, file=sys.stderr)
    sys.stderr.write(f"{error}\n")
    if "--json" in given:
        import json

        sys.stdout.write(json.dumps(_document(given, error), indent=2, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()
    if "--json" not in given:
        for note in error.details.get("notes", ()):
            sys.stderr.write(f"note: {note}\n")
    verification = error.details.get("verification")
    if verification and "--json" not in given:
        from edgec.cli.tables import show_verification

        show_verification(verification, error=True)
    return error.exit_code


def _document(given: list[str], error: EdgecError) -> dict[str, Any]:
    if given[:1] == ["convert"]:
        from edgec.cli.documents import convert_failure

        return convert_failure(error)
    return {"schema": "edgec-error-1", "status": "error", "error": error.to_json()}


def _handle(number: int, handler: Any) -> Any:
    """Let a signal interrupt the run; None outside the main thread, where no handler can be set."""
    try:
        return signal.signal(number, handler)
    except ValueError:
        return None


def _interrupt(number: int, frame: Any) -> None:
    """Unwind once; a second signal must not cut the clean-up short.

    Not inside an import, but as soon as it is over: extension modules (onnx's own among them) abort the process when an
    exception passes through their initialisation.
    """
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    _signals.append(number)
    if _importing(frame) and len(_signals) < PATIENCE:
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return
    raise Interrupted


def _importing(frame: Any) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
