"""kill -9 at any moment: of the coordinator, and of the workers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from edgec.runtime.lease import holder
from edgec.tuner.journal import JOURNAL, read_journal
from edgec.tuner.outcome import read_study
from edgec.tuner.search import finished_trials
from tests.command import DIGITS, environment, is_running

from .quick import edgec
from .replaying import Runs


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as started:
        yield started


def finished(folder: Path) -> list[dict[str, object]]:
    return [trial.to_json() | {"seconds": 0} for trial in finished_trials(read_journal(folder))]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "kills", "trials"), [("surrogate", 50, 60), ("tpe", 12, 30)])
def test_killed_at_random_moments_a_study_loses_nothing_and_measures_nothing_twice(
    runs: Runs, tmp_path: Path, sampler: str, kills: int, trials: int
) -> None:
    assert runs.start(tmp_path / "straight", trials, 0.0, sampler).wait() == 0
    straight = finished(tmp_path / "straight")
    rng = random.Random(7)
    killed = 0
    studies: list[Path] = []
    while killed < kills:
        studies.append(tmp_path / f"killed{len(studies)}")
        killed += kill_often(runs, studies[-1], trials, sampler, kills - killed, rng)
    for folder in studies:
        assert runs.start(folder, trials, 0.0, sampler).wait() == 0
        require_whole(folder, straight, count=trials)


def kill_often(runs: Runs, folder: Path, trials: int, sampler: str, kills: int, rng: random.Random) -> int:
    """Kill a study up to so often while it runs, and start it again; how often, when it was over before."""
    killed = length = 0
    while killed < kills:
        run = runs.start(folder, trials, 0.02, sampler)  # blocks are played slowly
        if rng.random() < 0.9:
            run.listen()
        time.sleep(rng.uniform(0, 0.3))
        ended = run.poll()
        if ended is None:
            run.kill()
            run.wait()
        if (folder / JOURNAL).exists():
            before, length = length, len((folder / JOURNAL).read_bytes())
            assert length >= before - 4096, "the journal only grows, but for a line that was cut short"
        if ended is not None:
            assert ended == 0
            break
        killed += 1
    return killed


def require_whole(
    folder: Path, straight: list[dict[str, object]], database: str | None = "study.db", *, count: int
) -> None:
    """The study has the trials that it would have had without any kill, each measured once; so has its SQLite file."""
    resumed = finished(folder)
    assert [trial["configuration"] for trial in resumed] == [trial["configuration"] for trial in straight]
    assert resumed == straight
    numbers = [entry["trial"]["number"] for entry in read_journal(folder) if entry["kind"] == "end"]
    assert numbers == list(range(count)), "every trial ended once"
    configurations = [json.dumps(trial["configuration"], sort_keys=True) for trial in resumed]
    assert len(set(configurations)) == count, "no configuration was measured twice"
    if database is None:
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="replayed", storage=f"sqlite:///{folder / database}")
    assert [trial.user_attrs["configuration"] for trial in study.trials] == [t["configuration"] for t in resumed]


def tuning(folder: Path, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.tuner.quick", "tune", str(DIGITS), "-t", "onnxruntime"]
    command += ["-o", str(folder), *more]
    return subprocess.Popen(
        command, env=environment(**variables), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def workers_of(pid: int) -> list[int]:
    """Processes whose parent is ``pid`` and that run the worker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == pid and b"worker.py" in command:
                found.append(int(entry.name))
    return found


def wait_for_trial(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        if (folder / JOURNAL).exists():
            text = (folder / JOURNAL).read_text(encoding="utf-8")
            if any(f'"begin","number":{number},' in line for line in text.splitlines()):
                return
        time.sleep(0.01)
    raise AssertionError("the trial did not begin")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_coordinator_leaves_no_worker_and_no_lease(tmp_path: Path) -> None:
    leases = {"EDGEC_LEASES": str(tmp_path / "leases")}
    process = tuning(tmp_path / "study", "--trials", "40", **leases)
    wait_for_trial(tmp_path / "study", 2, process)
    deadline = time.monotonic() + 30
    workers: list[int] = []
    while len(workers) < 2 and time.monotonic() < deadline:
        workers = workers_of(process.pid)
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)
    assert holder("cpu", tmp_path / "leases") is None
    shown = edgec("tune", "report", tmp_path / "study", "--json")
    assert shown.code == 0
    assert shown.document["status"] == "unfinished"
    done = sum(trial["state"] != "running" for trial in shown.document["trials"])
    again = ["tune", DIGITS, "-t", "onnxruntime", "-o", tmp_path / "study", "--trials", str(done + 1), "--json"]
    result = edgec(*again, **leases)
    assert result.code == 0, result.stderr
    assert len(result.document["trials"]) == done + 1
    assert result.document["status"] == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_costs_no_trial(tmp_path: Path) -> None:
    process = tuning(tmp_path / "study", "--trials", "8", EDGEC_LEASES=str(tmp_path / "leases"))
    for number in (2, 4, 6):
        wait_for_trial(tmp_path / "study", number, process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            workers = workers_of(process.pid)
            if workers:
                os.kill(random.Random(number).choice(workers), signal.SIGKILL)
                break
    assert process.wait(240) == 0
    trials = read_study(tmp_path / "study").trials
    assert len(trials) == 8
    reasons = [trial.reason or "" for trial in trials if trial.state == "failed"]
    assert all(reason.startswith("unstable") for reason in reasons), "the kills are not the trials' fault"
