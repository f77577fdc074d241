"""One run at a time per device, across processes, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgec.errors import EdgecError
from edgec.runtime.lease import command_line, default_folder, holder, lease, lease_file
from tests.command import is_running

HOLD = """
import sys, time
from pathlib import Path
from edgec.runtime.lease import lease
sys.argv[0] = "edgec"
with lease("cpu", folder=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held_elsewhere(folder: Path, seconds: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of the cpu."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_lease_that_nobody_has_is_had_at_once(tmp_path: Path) -> None:
    told: list[str] = []
    with lease("cpu", folder=tmp_path, tell=told.append) as held:
        assert held.device == "cpu" and held.waited_s == 0
        owner = holder("cpu", tmp_path)
        assert owner is not None and owner.pid == os.getpid()
    assert holder("cpu", tmp_path) is None
    assert told == []


def test_a_second_process_waits_visibly_and_the_wait_is_known(tmp_path: Path) -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        """Let the other one end a while after we have said that we wait for it, however late that is."""
        if not told:
            threading.Timer(0.3, process.kill).start()
        told.append(text)

    with held_elsewhere(tmp_path) as process:
        began = time.monotonic()
        with lease("cpu", folder=tmp_path, tell=tell) as held:
            assert time.monotonic() - began >= held.waited_s > 0.2
        assert f"process {process.pid} (edgec {tmp_path} 60.0)" in told[0]
        assert "not measured" in told[0]
        assert "is free after" in told[1]


def test_without_waiting_it_is_an_error_that_names_the_holder(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path) as process,
        pytest.raises(EdgecError, match="in use") as raised,
        lease("cpu", folder=tmp_path, wait=False),
    ):
        pass
    assert raised.value.code == "EDG701"
    assert str(process.pid) in (raised.value.why or "")
    assert raised.value.details["holder"]["pid"] == process.pid


def test_killing_the_holder_frees_the_device(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        owner = holder("cpu", tmp_path)
        assert owner is not None and owner.pid == process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert holder("cpu", tmp_path) is None
        with lease("cpu", folder=tmp_path, wait=False):
            pass


def test_children_of_the_holder_do_not_keep_it(tmp_path: Path) -> None:
    """A worker that outlives the coordinator for a moment must not hold the device."""
    with lease("cpu", folder=tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        assert holder("cpu", tmp_path) is None
    finally:
        child.kill()
        child.wait()


def test_a_process_may_take_its_own_lease_again(tmp_path: Path) -> None:
    with lease("cpu", folder=tmp_path):
        with lease("cpu", folder=tmp_path, wait=False) as again:
            assert again.waited_s == 0
        assert holder("cpu", tmp_path) is not None
    assert holder("cpu", tmp_path) is None


def test_devices_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path), lease("cuda:0", folder=tmp_path, wait=False):
        pass


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lease("cpu", folder=tmp_path):
        raise RuntimeError
    assert holder("cpu", tmp_path) is None


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgecError) as raised, lease("cpu", folder=tmp_path / "file" / "leases"):
        pass
    assert raised.value.code == "EDG010"


def test_nonsense_in_the_file_does_not_matter(tmp_path: Path) -> None:
    lease_file("cpu", tmp_path).write_text("{")
    with lease("cpu", folder=tmp_path, wait=False):
        pass


def test_names_of_devices_make_names_of_files(tmp_path: Path) -> None:
    assert lease_file("usb:/../x y", tmp_path).parent == tmp_path
    assert "/" not in lease_file("usb:/../x", tmp_path).name


def test_the_folder_is_the_same_with_and_without_a_login() -> None:
    assert default_folder({"XDG_RUNTIME_DIR": "/run/user/1"}) == default_folder({})
    assert default_folder({"EDGEC_LEASES": "/shared"}) == Path("/shared")
    assert default_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/edgec/leases")


def test_the_command_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/edgec/__main__.py", "bench", "out"])
    assert command_line() == "edgec bench out"


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from edgec.runtime.lease import lease
from edgec.runtime.measurement import open_subject
with lease("cpu", folder=Path(sys.argv[1])):
    with open_subject("tests.runtime.factories:open_sleeper", "50", {}, {"x": np.zeros((1, 2), np.float32)}) as subject:
        print(subject.process, flush=True)
        while True:
            subject.time(20)
"""


def test_killing_a_coordinator_that_measures_leaves_no_worker_and_no_lease(tmp_path: Path) -> None:
    coordinator = subprocess.Popen(
        [sys.executable, "-c", MEASURE, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert coordinator.stdout is not None
    with coordinator.stdout:
        worker = int(coordinator.stdout.readline())
        assert Path(f"/proc/{worker}").exists() and holder("cpu", tmp_path) is not None
        coordinator.kill()
        coordinator.wait()
    deadline = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(worker)
    assert holder("cpu", tmp_path) is None


def test_the_command_is_told_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["postgresql://me:Geheim@host:5432/name", "--storage=mysql://me:Geheim@host/name?password=Geheim"]
    monkeypatch.setattr(sys, "argv", ["edgec", "tune", *urls, "sqlite:///study.db"])
    assert command_line() == (
        "edgec tune postgresql://me:***@host:5432/name --storage=mysql://me:***@host/name?*** sqlite:///study.db"
    )
