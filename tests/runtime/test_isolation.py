"""A worker process turns crashes, hangs and memory exhaustion of a runtime into errors."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.runtime.isolation import Worker, open_isolated

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
    session = open_isolated(FACTORY, "hang", timeout_s=1.5)
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
    deadline = time.monotonic() + 30
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


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
