"""What the command line costs before it does anything, and that its help tells the truth."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from edgec.cli.main import COMMANDS, module_of
from tests.command import ROOT, edgec, environment

HEAVY = ("numpy", "onnx", "onnxruntime", "ai_edge_litert", "rich", "optuna", "flatbuffers")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["convert", "--help"], ["check", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\nfrom edgec.cli.main import main\ncode = main(json.loads(sys.argv[1]))\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(result.stderr)
    assert code == 0
    assert not {name.split(".")[0] for name in modules} & set(HEAVY)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize(("given", "kept"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2")])
def test_numpy_starts_no_threads_for_a_command(given: dict[str, str], kept: str) -> None:
    """They cost 0.1 s of CPU and more, and spin; who asks for them by OpenBLAS's own variable gets them."""
    script = (
        "import os, sys\nfrom edgec.cli.main import main\nsys.argv = ['edgec', 'targets']\nmain()\nimport numpy\n"
        "print(len(os.listdir('/proc/self/task')), os.environ['OPENBLAS_NUM_THREADS'], file=sys.stderr)"
    )
    variables = {name: value for name, value in environment().items() if name != "OPENBLAS_NUM_THREADS"}
    result = subprocess.run(
        [sys.executable, "-c", script], env={**variables, **given}, capture_output=True, text=True, check=True
    )
    threads, value = result.stderr.split()
    assert value == kept
    assert given or threads == "1"


COUNT = """
import sys
executed = 0
def follow(frame, event, argument):
    global executed
    frame.f_trace_opcodes = True
    executed += event == "opcode"
    return follow
sys.settrace(follow)
from edgec.cli.main import main
main(["--help"])
sys.settrace(None)
print(executed, len(sys.modules), file=sys.stderr)
"""


def test_help_stays_within_its_budget() -> None:
    """0.3 s of CPU, counted in what is the same on every machine, and 40 MB for the whole process.

    With 740,000 of Python's instructions and 122 modules it takes 0.11 s on a slow machine.
    """
    result = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment(), capture_output=True, text=True, check=True, cwd=ROOT
    )
    instructions, modules = map(int, result.stderr.split())
    assert 100_000 < instructions <= 2_000_000
    assert modules <= 200
    assert _peak() <= 40e6


def _peak() -> float:
    """Peak memory in bytes, measured from a small process: a child starts with its parent's memory."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'edgec', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_maxrss * 1024)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(result.stdout)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_exists_and_is_listed_with_its_own_summary(name: str) -> None:
    command = importlib.import_module(module_of(name)).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.short_help == COMMANDS[name]
    taken = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--debug"} <= taken


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m edgec explain --all | head -n 1"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.startswith("EDG001")
    assert result.stderr == ""


def test_the_module_and_the_script_are_the_same_program() -> None:
    assert edgec("--version").stdout.startswith("edgec ")


def test_the_garbage_collector_looks_seldom_while_a_command_runs_and_is_spared_the_end() -> None:
    """What imports made is left to the end of the process; a caller inside Python keeps its own settings."""
    script = (
        "import gc, json, sys\nfrom edgec.cli.main import main\nfound = [gc.get_threshold()]\n"
        "for arguments in (['--version'], None):\n"
        "    main(arguments)\n    found.append([gc.get_threshold(), gc.get_freeze_count() > 0])\n"
        "print(json.dumps([found, gc.isenabled()]), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "--version"], env=environment(), capture_output=True, text=True, check=True
    )
    (before, inside, own), enabled = json.loads(result.stderr)
    assert inside == [before, False]
    assert own == [[50_000, 20, 10], True]
    assert enabled
