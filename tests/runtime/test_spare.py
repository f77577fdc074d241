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
with Workers(timeout_s=1.5, memory_limit=1 << 33) as workers:
    try:
        workers.open(FACTORY, os.environ["BEHAVIOUR"]).run(X)
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
