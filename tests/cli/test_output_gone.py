"""Whoever read the output has gone: edgec ends quietly, as other tools do."""

from __future__ import annotations

import os
import subprocess

import pytest

from edgec.cli.main import main
from edgec.errors import EXIT_PIPE
from tests.command import DIGITS, edgec_into

COMMANDS = [("devices",), ("devices", "--json"), ("explain", "--all"), ("--help",), ("schema", "bench")]


def unread() -> int:
    """The end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_output_that_nobody_reads_ends_quietly(arguments: tuple[str, ...]) -> None:
    stdout = unread()
    try:
        done = edgec_into(arguments, stdout)
    finally:
        os.close(stdout)
    assert done.returncode == EXIT_PIPE
    assert done.stderr == ""


def test_an_error_is_still_said_where_only_the_document_is_not_read() -> None:
    stdout = unread()
    try:
        done = edgec_into(("inspect", "none.onnx", "--json"), stdout)
    finally:
        os.close(stdout)
    assert done.returncode == EXIT_PIPE
    assert "none.onnx" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [(("targets",), 0), (("targets", "--json"), 0), (("none",), 2)])
def test_output_that_was_closed_goes_nowhere(arguments: tuple[str, ...], code: int) -> None:
    """As after ``>&-`` in a shell."""
    done = edgec_into(arguments, subprocess.DEVNULL, preexec_fn=lambda: os.close(1))
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "EDG900" not in done.stderr


def test_an_interruption_that_nobody_reads_of_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends both sides of ``edgec tune --json | less``."""

    def interrupt(given: list[str]) -> int:
        raise KeyboardInterrupt

    def broken(*arguments: object) -> int:
        raise BrokenPipeError

    forgotten: list[bool] = []
    monkeypatch.setattr("edgec.cli.main._run", interrupt)
    monkeypatch.setattr("edgec.cli.main._report", broken)
    monkeypatch.setattr("edgec.cli.main._forget_output", lambda: forgotten.append(True))
    assert main(["tune", "--json"]) == EXIT_PIPE
    assert forgotten == [True]


def test_a_broken_pipe_to_another_process_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise BrokenPipeError("to a worker")

    monkeypatch.setattr("edgec.converter.check.check", fail)
    assert main(["check", str(DIGITS), "--target", "onnxruntime"]) == 70
    assert "to a worker" in capsys.readouterr().err
