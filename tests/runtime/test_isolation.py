"""A worker process turns crashes, hangs and memory exhaustion of a runtime into errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.runtime.isolation import FORKING, Worker, Workers, open_isolated

FACTORY = "tests.runtime.factories:open_session"
X = {"x": np.arange(4, dtype=np.float32).reshape(2, 2)}


def test_arrays_of_every_kind_come_back_unchanged() -> None:
    import ml_dtypes

    arrays = {
        "float": np.array([1.5, np.nan, np.inf], np.float32),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float16),
        "bool": np.array([[True], [False]]),
        "bfloat16": np.array([1, 2], ml_dtypes.bfloat16),
        "strings": np.array([["a", "é"]], dtype=object),
        "transposed": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        "large": np.arange(1 << 20, dtype=np.int32),
    }
    session = open_isolated(FACTORY, "echo")
    try:
        assert [spec.shape for spec in session.inputs + session.outputs] == [(None, 2), ("n", 2)]
        results = session.run(arrays)
    finally:
        session.close()
    assert list(results) == list(arrays)
    for name, array in arrays.items():
        assert results[name].dtype == array.dtype and results[name].shape == array.shape
        np.testing.assert_array_equal(results[name], array)


def test_one_worker_hosts_several_sessions_and_survives_their_errors() -> None:
    with Worker() as worker:
        failing = worker.open(FACTORY, "fail")
        with pytest.raises(EdgecError, match="shapes are wrong") as caught:
            failing.run(X)
        assert caught.value.code == "EDG303"
        failing.close()
        np.testing.assert_array_equal(worker.open(FACTORY, "echo").run(X)["x"], X["x"])


def test_an_error_with_a_code_keeps_it() -> None:
    with Worker() as worker, pytest.raises(EdgecError, match="not that kind") as caught:
        worker.open(FACTORY, "echo", {"refuse": True})
    assert caught.value.code == "EDG204"


@pytest.mark.parametrize(("behaviour", "name"), [("abort", "SIGABRT"), ("segfault", "SIGSEGV")])
def test_a_crash_names_the_signal_and_the_last_lines(behaviour: str, name: str) -> None:
    session = open_isolated(FACTORY, behaviour)
    with pytest.raises(EdgecError, match=name) as caught:
        session.run(X)
    assert caught.value.code == "EDG303" and caught.value.details["signal"] == name
    if behaviour == "abort":
        assert "the sky is falling" in (caught.value.why or "")
    session.close()


def test_a_crash_while_loading_is_a_load_error() -> None:
    with pytest.raises(EdgecError, match="SIGABRT") as caught:
        open_isolated(FACTORY, "abort-at-load")
    assert caught.value.code == "EDG302"


def test_a_hang_is_stopped() -> None:
    session = open_isolated(FACTORY, "hang")
    session._worker._timeout_s = 1.5  # starting it may take longer on a busy machine
    began = time.monotonic()
    with pytest.raises(EdgecError, match=r"longer than 1.5 s") as caught:
        session.run(X)
    assert caught.value.code == "EDG303" and time.monotonic() - began < 30
    session.close()


def test_running_out_of_memory_is_an_error() -> None:
    session = open_isolated(FACTORY, "exhaust", memory_limit=8 << 30)
    try:
        with pytest.raises(EdgecError, match=r"memory|allocate") as caught:
            session.run(X)
        assert caught.value.code == "EDG303"
    finally:
        session.close()


def test_output_of_the_runtime_does_not_disturb_the_replies() -> None:
    session = open_isolated(FACTORY, "chatter")
    np.testing.assert_array_equal(session.run(X)["x"], X["x"])
    session.close()


def test_closing_ends_what_the_runtime_started() -> None:
    session = open_isolated(FACTORY, "grandchild")
    child = int(session.run(X)["pid"])
    session.close()
    assert _ends(child)


def test_a_factory_that_does_not_exist_is_a_load_error() -> None:
    with pytest.raises(EdgecError) as caught:
        open_isolated("edgec.runtime.nowhere:open", "x")
    assert caught.value.code == "EDG302"


def test_a_module_in_the_current_folder_is_not_imported_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    session = open_isolated(FACTORY, "echo")
    session.close()


# workers that fork

linux = pytest.mark.skipif(not FORKING, reason="workers fork on Linux only")


@linux
def test_sessions_of_workers_have_processes_of_their_own_forked_from_one() -> None:
    with Workers() as workers:
        found = []
        for _ in range(3):
            session = workers.open(FACTORY, "identify")
            found.append({name: int(array) for name, array in session.run(X).items()})
            session.close()
            session.close()
            assert _ends(found[-1]["pid"])
        assert len({item["pid"] for item in found}) == 3 and len({item["parent"] for item in found}) == 1
        assert os.getpid() not in {item["parent"] for item in found}
        assert _alive(found[0]["parent"])
    assert _ends(found[0]["parent"])


@linux
def test_workers_host_sessions_at_the_same_time() -> None:
    with Workers() as workers:
        one, other = workers.open(FACTORY, "identify"), workers.open(FACTORY, "identify")
        assert int(one.run(X)["parent"]) != int(other.run(X)["parent"])
        one.close()
        again = workers.open(FACTORY, "identify")
        pids = {int(session.run(X)["pid"]) for session in (other, again)}
    assert len(pids) == 2 and all(_ends(pid) for pid in pids)


@pytest.mark.parametrize(
    ("behaviour", "message", "code"),
    [
        ("abort", "SIGABRT", "EDG303"),
        ("segfault", "SIGSEGV", "EDG303"),
        ("killed", "SIGKILL", "EDG303"),
        ("leave", "ended with status 0", "EDG303"),
        ("leave-with-7", "ended with status 7", "EDG303"),
        ("abort-at-load", "SIGABRT", "EDG302"),
    ],
)
def test_how_a_session_of_workers_ended_is_told_and_the_next_one_opens(behaviour: str, message: str, code: str) -> None:
    with Workers() as workers:
        with pytest.raises(EdgecError, match=message) as caught:
            workers.open(FACTORY, behaviour).run(X)
        assert caught.value.code == code
        np.testing.assert_array_equal(workers.open(FACTORY, "echo").run(X)["x"], X["x"])


@linux
def test_what_sessions_share_is_done_once_and_by_a_worker_of_their_own() -> None:
    share = "tests.runtime.factories:share"
    with Workers() as workers:
        workers.open(FACTORY, "identify").close()
        found = []
        for shared in (share, None, share, None):
            session = workers.open(FACTORY, "shared", shared=shared)
            found.append(session.run(X))
            session.close()
    first, other, second, last = found
    assert list(first["by"]) == list(second["by"]) == [first["parent"]] == [second["parent"]]
    assert first["pid"] != second["pid"]
    assert not len(other["by"]) and not len(last["by"])
    assert other["parent"] == last["parent"] != first["parent"]


@linux
@pytest.mark.parametrize(("shared", "forked"), [("share_and_fail", True), ("share_and_start_a_thread", False)])
def test_what_sessions_cannot_share_does_not_keep_them_from_opening(shared: str, forked: bool) -> None:
    with Workers() as workers:
        for _ in range(2):
            session = workers.open(FACTORY, "shared", shared=f"tests.runtime.factories:{shared}")
            assert session.opening["forked"] == forked  # type: ignore[attr-defined]
            found = session.run(X)
            assert list(found["by"]) == ([] if forked else [found["pid"]])
            session.close()


def test_what_an_earlier_session_of_workers_wrote_is_not_told_of_a_later_one() -> None:
    with Workers() as workers:
        session = workers.open(FACTORY, "complain")
        session.run(X)
        session.close()
        with pytest.raises(EdgecError) as caught:
            workers.open(FACTORY, "fail").run(X)
        assert "stderr" not in caught.value.details


def test_a_session_of_workers_that_does_not_load_leaves_the_worker_usable() -> None:
    with Workers() as workers:
        for _ in range(2):
            with pytest.raises(EdgecError, match="not that kind"):
                workers.open(FACTORY, "echo", {"refuse": True})
        np.testing.assert_array_equal(workers.open(FACTORY, "echo").run(X)["x"], X["x"])


def test_a_hang_in_a_session_of_workers_is_stopped() -> None:
    with Workers() as workers:
        session = workers.open(FACTORY, "identify")
        process = int(session.run(X)["pid"])
        session.close()
        session = workers.open(FACTORY, "hang")
        session._worker._timeout_s = 1.5  # type: ignore[attr-defined]
        began = time.monotonic()
        with pytest.raises(EdgecError, match=r"longer than 1.5 s"):
            session.run(X)
        session.close()
        assert time.monotonic() - began < 30
    assert _ends(process)


@linux
def test_a_worker_with_threads_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("OpenBLAS starts no thread on one processor")
    with Workers() as workers:
        pids = set()
        for _ in range(2):
            session = workers.open(FACTORY, "identify")
            assert not session.opening["forked"]  # type: ignore[attr-defined]
            found = session.run(X)
            assert int(found["parent"]) == os.getpid()
            pids.add(int(found["pid"]))
            session.close()
    assert len(pids) == 2


@linux
@pytest.mark.parametrize("killed", ["worker", "program"])
def test_no_copy_outlives_what_it_was_forked_for(killed: str) -> None:
    """The worker dies, or the program that started it: the copy goes too."""
    text = (
        "import sys, time, numpy as np\n"
        "from edgec.runtime.isolation import Workers\n"
        f"session = Workers().open({FACTORY!r}, 'identify')\n"
        "found = session.run({'x': np.zeros((2, 2), np.float32)})\n"
        "print(int(found['pid']), int(found['parent']), flush=True)\n"
        "time.sleep(60)\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(item or os.getcwd() for item in sys.path)},
    )
    assert program.stdout is not None
    copy, worker = (int(item) for item in program.stdout.readline().split())
    if killed == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        program.kill()
    ended = _ends(copy)
    program.kill()
    program.wait()
    program.stdout.close()
    assert ended


def _ends(process: int) -> bool:
    """Whether a process ends within half a minute, however busy the machine is."""
    deadline = time.monotonic() + 30
    while _alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _alive(process)


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return not os.path.isdir("/proc/self")
