"""A tool ends in time, within its memory, with its output kept, and takes what it started along."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from edgec.runtime.process import LOG_HEAD, LOG_TAIL, Outcome, run_process
from tests.command import is_running


def run(script: str, folder: Path, timeout_s: float = 60, memory_limit: int | None = None) -> Outcome:
    return run_process(
        [sys.executable, "-c", script],
        folder=folder,
        environment={"PATH": os.environ["PATH"], "GIVEN": "yes"},
        timeout_s=timeout_s,
        memory_limit=memory_limit,
    )


def test_status_and_output_of_both_streams_are_kept(tmp_path: Path) -> None:
    script = "import os, sys; print('out'); print('err', file=sys.stderr); print(os.getcwd()); sys.exit(3)"
    outcome = run(script, tmp_path)
    assert (outcome.status, outcome.signal, outcome.timed_out) == (3, None, False)
    assert {"out", "err", str(tmp_path)} <= set(outcome.output.split())


def test_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    outcome = run("import os, sys; print(sorted(os.environ), sys.stdin.read())", tmp_path)
    assert "GIVEN" in outcome.output
    assert "SECRET" not in outcome.output


def test_a_hanging_tool_is_stopped(tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = run("import time; print('begun', flush=True); time.sleep(600)", tmp_path, timeout_s=4)
    assert outcome.timed_out
    assert outcome.output == "begun\n"
    assert time.monotonic() - began < 20


def test_what_a_tool_started_ends_with_it(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(p.pid, flush=True)"
    )
    began = time.monotonic()
    outcome = run(script, tmp_path)
    assert outcome.status == 0
    assert time.monotonic() - began < 20
    child = int(outcome.output)
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_megabytes_of_output_are_bounded_and_both_ends_are_kept(tmp_path: Path) -> None:
    script = "print('first'); line = 'x' * 99\nfor _ in range(300000): print(line)\nprint('last')"
    outcome = run(script, tmp_path)
    assert outcome.status == 0
    assert len(outcome.output) < LOG_HEAD + 2 * LOG_TAIL
    assert outcome.output.startswith("first")
    assert outcome.last_lines[-1] == "last"
    assert "bytes left out" in outcome.output


def test_a_tool_that_prints_without_end_is_stopped_in_time(tmp_path: Path) -> None:
    outcome = run("while True: print('y' * 1000)", tmp_path, timeout_s=1.5)
    assert outcome.timed_out
    assert outcome.seconds < 20


def test_the_signal_that_ends_a_tool_has_its_name(tmp_path: Path) -> None:
    outcome = run("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert (outcome.status, outcome.signal, outcome.timed_out) == (None, "SIGKILL", False)


def test_output_that_is_no_text_is_kept_as_well(tmp_path: Path) -> None:
    outcome = run("import sys; sys.stdout.buffer.write(bytes(range(256)))", tmp_path)
    assert "abc" in outcome.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process's memory")
def test_memory_is_limited(tmp_path: Path) -> None:
    script = "import time; time.sleep(0.3); x = bytearray(2 << 30)"
    outcome = run(script, tmp_path, memory_limit=1 << 30)
    assert outcome.status == 1
    assert "MemoryError" in outcome.output


def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        run_process([str(tmp_path / "none")], folder=tmp_path, environment={}, timeout_s=5)
