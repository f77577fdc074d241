"""What goes wrong around a study: the tool vanishes, the disk is full, the folder is read-only, the device is taken,
somebody presses Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.cli.main import main
from edgec.errors import EdgecError
from edgec.runtime.lease import lease
from edgec.targets.ethosu import compiler as vela
from edgec.tuner import study as studies
from edgec.tuner.journal import JOURNAL, Journal
from edgec.tuner.measurements import Race
from edgec.tuner.outcome import read_study
from edgec.tuner.replay import Replay
from edgec.tuner.search import Budget, Search
from edgec.tuner.storage import Mirror
from tests.command import DIGITS, environment
from tests.tuner.test_kill import tuning, wait_for_trial, workers_of

from .quick import QUICK, edgec
from .synthetic import opened, replay, searching, space

TUNE = ["tune", DIGITS, "-t", "onnxruntime", "--knob", "execution_mode=sequential", "--knob", "optimise=all"]
HELD_S = 6


class Vanishing(Replay):
    """The tool is there for some conversions."""

    left = 5

    def drop(self, configuration: Any) -> float | None:
        self.left -= 1
        if self.left < 0:
            raise EdgecError("EDG510", "vela has gone")
        return super().drop(configuration)


def test_a_tool_that_vanishes_ends_the_study_and_not_the_trials(tmp_path: Path) -> None:
    of = space()
    table = replay(of)
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, Vanishing(table.rows))
        with pytest.raises(EdgecError, match="has gone") as caught:
            search.run(Budget(trials=20))
        assert caught.value.exit_code == 5
        assert len(search.trials) == 5
    with opened(tmp_path, of) as journal:  # the tool is back
        search = searching(journal, of, table)
        assert len(search.trials) == 5
        search.run(Budget(trials=20))
        resumed = [trial.to_json() | {"seconds": 0} for trial in search.trials]
    with opened(tmp_path / "straight", of) as journal:
        search = searching(journal, of, table)
        search.run(Budget(trials=20))
    assert resumed == [trial.to_json() | {"seconds": 0} for trial in search.trials]


@pytest.mark.skipif(vela.find() is None, reason=f"needs Vela: {vela.TOOL.install}")
def test_vela_vanishes_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = DIGITS.parent / "samples.npz"
    arguments: dict[str, Any] = {"target": "ethosu", "output": tmp_path / "study", "calibration": samples}
    studies.tune(DIGITS, **arguments, trials=2)
    with monkeypatch.context() as without:
        without.setattr(vela, "find", lambda program=None: None)
        with pytest.raises(EdgecError) as caught:
            studies.tune(DIGITS, **arguments, trials=4)
    assert caught.value.exit_code == 5
    assert len(read_study(tmp_path / "study").trials) >= 2
    result = studies.tune(DIGITS, **arguments, trials=4)
    document = result.to_json()
    assert document["basis"] == "estimated by vela"
    assert all(trial["values"]["estimated_cycles"] > 0 for trial in document["trials"] if trial["state"] == "complete")
    assert len(document["trials"]) == 4


@pytest.mark.skipif(vela.find() is None, reason=f"needs Vela: {vela.TOOL.install}")
def test_vela_is_removed_while_a_study_runs_and_comes_back(tmp_path: Path) -> None:
    found = vela.find()
    program = tmp_path / "vela"
    program.write_text(f'#!/bin/sh\nexec "{found}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    samples = str(DIGITS.parent / "samples.npz")
    command = [sys.executable, "-m", "edgec", "tune", str(DIGITS), "-t", "ethosu", "--calibration", samples]
    command += [
        "-o",
        str(tmp_path / "study"),
        "--knob",
        "accelerator=ethos-u55-32,ethos-u55-64,ethos-u55-128",
        "--json",
    ]
    variables = environment(EDGEC_VELA=str(program))
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for_trial(tmp_path / "study", 1, process)
    program.rename(tmp_path / "gone")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 5
    assert json.loads(output)["error"]["code"] == "EDG510"
    done = [trial for trial in read_study(tmp_path / "study").trials if trial.state != "running"]
    assert done and all(trial.state == "complete" for trial in done), "no trial is blamed"
    (tmp_path / "gone").rename(program)
    again = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["status"] == "finished"
    assert document["trials"][: len(done)] == [trial.to_json() for trial in done]


def test_a_runtime_that_vanishes_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.targets import registry
    from edgec.targets.base import Finding

    of_target = registry.load("onnxruntime")
    studies.tune(DIGITS, target="onnxruntime", output=tmp_path / "study", trials=2, rules=QUICK)
    monkeypatch.setattr(type(of_target), "doctor", lambda self: [Finding("onnxruntime", False, "not installed")])
    monkeypatch.setattr(of_target.__class__, "session", _broken_session)
    with pytest.raises(EdgecError, match="has gone") as caught:
        studies.tune(DIGITS, target="onnxruntime", output=tmp_path / "study", trials=4)
    assert caught.value.exit_code == 5
    assert len([trial for trial in read_study(tmp_path / "study").trials if trial.state != "running"]) == 2


def _broken_session(self: Any, artifact: Path, threads: int = 1) -> Any:
    from edgec.targets.base import SessionSpec

    return SessionSpec("edgec.runtime.nowhere:open_session", {})


def test_a_full_disk_keeps_what_was_measured(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same manner."""
    first = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "2", "--json")
    assert first.code == 0, first.stderr
    size = (tmp_path / "study" / JOURNAL).stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, size + 300))

    full = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "4", "--json", before=limit)
    assert full.code == 2, full.stderr
    assert full.document["error"]["code"] == "EDG011"
    assert len([trial for trial in read_study(tmp_path / "study").trials if trial.state != "running"]) == 2
    again = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "4", "--json")
    assert again.code == 0, again.stderr
    assert len(again.document["trials"]) == 4
    assert again.document["trials"][:2] == first.document["trials"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MB."""
    place, mount = tmp_path / "small", shutil.which("mount")
    place.mkdir()
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; a limit on files stands for it in another test")
    command = [mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_is_full_is_told_and_the_study_goes_on_when_there_is_room(small_disk: Path) -> None:
    command = [*TUNE, "-o", small_disk / "study", "--json"]
    first = edgec(*command, "--trials", "2")
    assert first.code == 0, first.stderr
    with (small_disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    full = edgec(*command, "--trials", "60")  # a few may find room in pages that were not quite full
    assert full.code == 2, full.stderr
    assert full.document["error"]["code"] == "EDG011"
    assert "make room" in full.document["error"]["help"]
    kept = [trial for trial in read_study(small_disk / "study").trials if trial.state != "running"]
    (small_disk / "filler").unlink()
    again = edgec(*command, "--trials", str(len(kept) + 2))
    assert again.code == 0, again.stderr
    assert again.document["trials"][:2] == first.document["trials"]
    assert [trial["configuration"] for trial in again.document["trials"][: len(kept)]] == [
        trial.configuration for trial in kept
    ]
    assert len(again.document["trials"]) == len(kept) + 2


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, space()) as journal:
        before = (tmp_path / JOURNAL).read_bytes()
        write = os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[: len(data) // 2])

        monkeypatch.setattr("edgec.tuner.journal.os.write", half)
        with pytest.raises(EdgecError) as caught:
            journal.append({"kind": "begin", "number": 0, "configuration": {"threads": 1, "level": "all"}})
        assert caught.value.code == "EDG011"
        assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A finished study on a file system that is mounted read-only, or in a folder without permission to write."""
    place = tmp_path / "place"
    place.mkdir()
    mount = shutil.which("mount")
    mounted = mount is not None and os.geteuid() == 0
    if mounted:
        command = [str(mount), "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount a file system here")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere, and nothing can be mounted")
    try:
        result = edgec(*TUNE, "-o", place / "study", "--trials", "2", "--json")
        assert result.code == 0, result.stderr
        if mounted:
            subprocess.run([str(mount), "-o", "remount,ro", str(place)], check=True)
        else:
            for path in (place / "study", place / "study" / JOURNAL):
                path.chmod(0o555 if path.is_dir() else 0o444)
        yield place / "study"
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=False)
        else:
            (place / "study").chmod(0o755)


def test_a_read_only_study_can_be_shown_and_applied_but_not_gone_on_with(read_only: Path, tmp_path: Path) -> None:
    refused = edgec(*TUNE, "-o", read_only, "--trials", "4", "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "EDG010"
    shown = edgec("tune", "report", read_only, "--html", tmp_path / "report.html", "--json")
    assert shown.code == 0, shown.stderr
    assert len(shown.document["trials"]) == 2
    assert (tmp_path / "report.html").exists()
    applied = edgec("tune", "apply", read_only, "-o", tmp_path / "out", "--json")
    assert applied.code == 0, applied.stderr


def test_a_device_that_another_process_holds_is_waited_for_and_the_wait_costs_no_budget(tmp_path: Path) -> None:
    leases = tmp_path / "leases"
    with lease("cpu", folder=leases):
        refused = edgec(*TUNE, "-o", tmp_path / "a", "--trials", "2", "--no-wait", "--json", EDGEC_LEASES=str(leases))
        assert refused.code == 2
        assert refused.document["error"]["code"] == "EDG701"
        process = tuning(tmp_path / "study", "--trials", "1", "--json", EDGEC_LEASES=str(leases))
        wait_for_trial(tmp_path / "study", 0, process)
        begun = time.monotonic()
        assert process.stderr is not None
        assert any(b"waiting for the device 'cpu'" in line for line in process.stderr)
        waits = time.monotonic()
        time.sleep(HELD_S)
        assert process.poll() is None, "it waits"
        released = time.monotonic()
    assert process.wait(600) == 0
    worked = waits - begun + time.monotonic() - released
    trial = read_study(tmp_path / "study").trials[0]
    assert trial.state == "complete" or (trial.reason or "").startswith("unstable")
    assert trial.seconds < worked + HELD_S / 2, f"the {HELD_S} seconds of waiting are not in it"
    first = json.loads((tmp_path / "study" / JOURNAL).read_text(encoding="utf-8").splitlines()[0])
    assert first["target"] == "onnxruntime"


def test_ctrl_c_ends_with_130_and_the_study_goes_on(tmp_path: Path) -> None:
    leases = str(tmp_path / "leases")
    process = tuning(tmp_path / "study", "--trials", "30", EDGEC_LEASES=leases)
    wait_for_trial(tmp_path / "study", 2, process)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert "EDG020  interrupted" in said
    assert "give the same command again: the study goes on" in said
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    done = len([trial for trial in read_study(tmp_path / "study").trials if trial.state != "running"])
    assert done >= 2
    assert f"keeps its finished trials, {done} so far" in said
    result = edgec("tune", DIGITS, "-t", "onnxruntime", "-o", tmp_path / "study", "--trials", str(done), "--json")
    assert result.code == 0, result.stderr
    assert result.document["status"] == "finished"


def test_two_processes_do_not_measure_for_one_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path / "study"):
        assert main([*map(str, TUNE), "-o", str(tmp_path / "study"), "--trials", "1"]) == 2
    assert capsys.readouterr().err.startswith("EDG012")


def test_another_study_in_the_folder_is_refused(tmp_path: Path) -> None:
    arguments = ["-o", tmp_path / "study", "--trials", "1", "--json"]
    assert edgec(*TUNE, *arguments).code == 0
    other = edgec(*TUNE, *arguments, "--seed", "1")
    assert other.code == 2
    assert other.document["error"]["code"] == "EDG811"
    assert "seed" in other.document["error"]["why"]


def test_a_storage_that_is_not_there_is_told_and_the_journal_goes_on_without_harm(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/study.db"
    refused = edgec(*TUNE, "-o", tmp_path / "study", "--trials", "1", "--storage", url, "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "EDG814"
    assert edgec(*TUNE, "-o", tmp_path / "study", "--trials", "1").code == 0


def test_a_storage_that_was_lost_is_filled_again(tmp_path: Path) -> None:
    import optuna

    of = space()
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, replay(of), mirror=Mirror(tmp_path, None, "s", of, studies.Goals(), {}))
        search.run(Budget(trials=5))
    for file in tmp_path.glob("study.db*"):
        file.unlink()
    with opened(tmp_path, of) as journal:
        Search(of, studies.Goals(), replay(of), journal, Mirror(tmp_path, None, "s", of, studies.Goals(), {}))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(study.trials) == 5


class Crashing(Replay):
    """A worker that is killed on the first race of a configuration, and works on the second."""

    @contextlib.contextmanager
    def race(self, configuration: Any, *, against: Any = None, fresh: bool = False) -> Iterator[Race]:
        from edgec.tuner.space import key_of
        from edgec.tuner.trials import KILLED, TrialFailed

        if self.asked.count(key_of(configuration)) == 0:
            self.asked.append(key_of(configuration))
            raise TrialFailed(KILLED, "killed (SIGKILL)")
        with super().race(configuration, against=against, fresh=fresh) as race:
            yield race


def test_a_worker_that_was_killed_once_is_tried_again_and_twice_is_a_failure(tmp_path: Path) -> None:
    of = space()
    with opened(tmp_path, of) as journal:
        search = searching(journal, of, Crashing(replay(of).rows))
        search.run(Budget(trials=4))
    assert [trial.state for trial in search.trials if trial.state == "failed"] == []
