"""A worker that was forked early does what a started one does, and leaves nothing of the program in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgec.runtime.spare import POSSIBLE
from tests.command import ROOT, environment

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="workers are forked on Linux only")

BEGIN = """
import json, os, signal, sys, threading, time
import numpy as np
from edgec.errors import EdgecError
from edgec.runtime import spare
from edgec.runtime.isolation import Workers
FACTORY = "tests.runtime.factories:open_session"
X = {"x": np.ones((2, 2), np.float32)}

def say(**found):
    print(json.dumps(found), flush=True)

def identify(workers):
    session = workers.open(FACTORY, "identify")
    found = {name: int(array) for name, array in session.run(X).items()}
    session.close()
    return found
"""


def program(text: str, **variables: str) -> dict[str, Any]:
    """Run a program with one thread; what it says last."""
    result = subprocess.run(
        [sys.executable, "-c", BEGIN + text],
        env=environment(OPENBLAS_NUM_THREADS="1", PYTHONPATH=str(ROOT), **variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def test_the_first_workers_take_it_and_the_next_ones_start_their_own() -> None:
    found = program("""
spare.prepare()
pid = spare._spare.pid
with Workers() as workers:
    first = [identify(workers) for _ in range(2)]
with Workers() as workers:
    say(pid=pid, first=first, second=identify(workers))
""")
    assert {item["parent"] for item in found["first"]} == {found["pid"]}
    assert len({item["pid"] for item in found["first"]}) == 2
    assert found["second"]["parent"] != found["pid"] and gone(found["pid"])


def test_a_program_with_threads_does_not_fork() -> None:
    found = program("""
release = threading.Event()
thread = threading.Thread(target=release.wait)
thread.start()
spare.prepare()
release.set()
with Workers() as workers:
    say(spare=spare._spare is not None, works=bool(identify(workers)))
""")
    assert found == {"spare": False, "works": True}


def test_a_copy_of_the_program_does_not_take_what_is_not_its_own() -> None:
    found = program("""
spare.prepare()
pid = spare._spare.pid
child = os.fork()
if not child:
    os._exit(7 if spare.take() is None else 8)
_, status = os.waitpid(child, 0)
with Workers() as workers:
    say(pid=pid, parent=identify(workers)["parent"], child=os.waitstatus_to_exitcode(status))
""")
    assert found["child"] == 7 and found["parent"] == found["pid"]


def test_what_was_killed_meanwhile_is_not_taken() -> None:
    found = program("""
spare.prepare()
pid = spare._spare.pid
os.kill(pid, signal.SIGKILL)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
with Workers() as workers:
    say(pid=pid, parent=identify(workers)["parent"])
""")
    assert found["parent"] != found["pid"]


def test_dismissed_it_is_gone() -> None:
    found = program(
        "spare.prepare(); pid = spare._spare.pid; spare.dismiss(); say(pid=pid, left=os.path.exists(f'/proc/{pid}'))"
    )
    assert not found["left"]


def test_it_ends_with_the_program() -> None:
    found = program("spare.prepare(); say(pid=spare._spare.pid)")
    _wait_until_gone(found["pid"])


@pytest.mark.parametrize(
    ("behaviour", "message", "code"),
    [
        ("abort", "SIGABRT", "EDG303"),
        ("leave-with-7", "ended with status 7", "EDG303"),
        ("abort-at-load", "SIGABRT", "EDG302"),
        ("hang", "took longer than 1.5 s", "EDG303"),
        ("exhaust", "emory|allocate", "EDG303"),
    ],
)
def test_how_a_session_ended_is_told_and_the_next_one_opens(behaviour: str, message: str, code: str) -> None:
    found = program(
        """
spare.prepare()
pid = spare._spare.pid
with Workers(memory_limit=1 << 33) as workers:
    try:
        session = workers.open(FACTORY, os.environ["BEHAVIOUR"])
        session._worker._timeout_s = 1.5
        session.run(X)
    except EdgecError as error:
        told = error
    say(pid=pid, code=told.code, message=str(told), after=bool(identify(workers)))
""",
        BEHAVIOUR=behaviour,
    )
    assert found["code"] == code and re.search(message, found["message"]) and found["after"]


def test_handlers_descriptors_and_output_of_the_program_stay_behind() -> None:
    """A signal ends it, what it prints is not the program's output, and it holds no file of the program's open."""
    found = program("""
signal.signal(signal.SIGTERM, lambda *rest: print("handled", flush=True))
held = open(__import__("tempfile").mkstemp()[0], "w")
spare.prepare()
pid = spare._spare.pid
workers = Workers()
session = workers.open(FACTORY, "chatter")
session.run(X)
names = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
kept = os.readlink(f"/proc/self/fd/{held.fileno()}") in names
leads = os.getsid(pid) == pid
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
say(kept=kept, leads=leads, signal=-os.waitstatus_to_exitcode(status))
""")
    assert found == {"kept": False, "leads": True, "signal": 15}


def test_a_worker_that_dies_as_it_is_taken_is_an_error_that_says_how() -> None:
    found = program("""
from edgec.runtime.isolation import Worker
spare.prepare()
taken = spare.take()
os.kill(taken.pid, signal.SIGKILL)
os.waitid(os.P_PID, taken.pid, os.WEXITED | os.WNOWAIT)
try:
    Worker(spare=taken).open(FACTORY, "identify")
except EdgecError as error:
    say(code=error.code, message=str(error))
""")
    assert found["code"] == "EDG302" and "SIGKILL" in found["message"]


@pytest.mark.parametrize("failing", ["os.pipe", "os.fork", "spare.tempfile.TemporaryFile"])
def test_where_a_process_cannot_be_forked_none_is_kept_and_nothing_stays_open(failing: str) -> None:
    """No descriptor, no process, or no room for a temporary file: the second pipe fails, or what comes after it."""
    found = program(
        """
calls = []
whole = eval(os.environ["FAILING"])
def failing(*rest):
    calls.append(rest)
    if whole is not os.pipe or len(calls) > 1:
        raise OSError(24, "Too many open files")
    return whole(*rest)
exec(os.environ["FAILING"] + " = failing")
before = sorted(os.listdir("/proc/self/fd"))
spare.prepare()
after = sorted(os.listdir("/proc/self/fd"))
exec(os.environ["FAILING"] + " = whole")
with Workers() as workers:
    say(spare=spare._spare is not None, left=before != after, works=bool(identify(workers)))
""",
        FAILING=failing,
    )
    assert found == {"spare": False, "left": False, "works": True}


def test_a_program_that_ignores_its_children_is_served() -> None:
    """The kernel does not keep how they ended then, and waitpid says that there are none."""
    found = program("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
spare.prepare()
pid = spare._spare.pid
with Workers() as workers:
    first = [identify(workers)["parent"] for _ in range(2)]
with Workers() as workers:
    say(first=[item == pid for item in first], second=bool(identify(workers)))
""")
    assert found == {"first": [True, True], "second": True}


def test_signals_that_come_while_it_is_forked_do_not_run_handlers_in_the_copy() -> None:
    """A handler of the program unwinds what the program does: in the copy it would clean up what is the program's."""
    found = program("""
ran = []
signal.signal(signal.SIGTERM, lambda *rest: ran.append(os.getpid()))
fork = os.fork
def signalled():
    child = fork()
    os.kill(os.getpid(), signal.SIGTERM)
    if not child and ran:
        os._exit(0)
    return child
os.fork = signalled
spare.prepare()
say(ran=ran == [os.getpid()], ended=-spare._spare.wait(30))
""")
    assert found == {"ran": True, "ended": 15}


def test_waiting_for_it_ends_after_the_time_given() -> None:
    found = program("""
spare.prepare()
try:
    spare._spare.wait(0.1)
except __import__("subprocess").TimeoutExpired:
    say(late=True, runs=spare._spare.poll() is None)
""")
    assert found == {"late": True, "runs": True}


def test_a_command_started_where_children_are_ignored_converts(tmp_path: Path) -> None:
    """A shell or a server that ignores SIGCHLD hands that on; subprocess then says 0 of every program that failed."""
    ignore = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    start = f"{ignore}; os.execv(sys.executable, sys.argv[1:])"
    model = ROOT / "examples" / "digits" / "digits.onnx"
    command = [sys.executable, "-m", "edgec", "convert", str(model), "--target", "tflite", "-o", str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", start, *command],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("arguments", [["missing.onnx"], ["missing.onnx", "--plan"]])
def test_a_command_that_needs_no_worker_leaves_none(arguments: list[str], tmp_path: Path) -> None:
    found = program(
        """
forked = []
fork = os.fork
def counting():
    forked.append(fork())
    return forked[-1]
os.fork = counting
from edgec.cli.main import main
code = main(["convert", *json.loads(os.environ["ARGUMENTS"]), "--target", "tflite", "-o", os.environ["OUT"]])
say(code=code, forked=len(forked), left=sum(os.path.exists(f"/proc/{pid}") for pid in forked))
""",
        ARGUMENTS=json.dumps(arguments),
        OUT=str(tmp_path / "out"),
    )
    assert found == {"code": 3, "forked": "--plan" not in arguments, "left": 0}


def _wait_until_gone(process: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(process):
        assert time.monotonic() < deadline, os.listdir("/proc")
        time.sleep(0.01)
