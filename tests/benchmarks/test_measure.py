"""What the benchmarks measure with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.latency import compare
from benchmarks.measure.process import run_measured, summary
from benchmarks.measure.runners import fit, worst_relative_error


def test_a_process_is_charged_for_its_children(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    cost = run_measured([sys.executable, "-c", parent], tmp_path)
    assert cost.returncode == 0
    assert cost.cpu_seconds >= 0.5


def test_the_memory_of_the_measuring_process_is_not_counted(tmp_path: Path) -> None:
    ballast = np.ones(40_000_000)
    cost = run_measured([sys.executable, "-c", "pass"], tmp_path)
    assert ballast.nbytes == 320_000_000
    assert cost.peak_megabytes < 60


def test_the_memory_of_parent_and_child_is_added(tmp_path: Path) -> None:
    fill = "data = bytearray(100_000_000); data[::1024] = b'x' * len(data[::1024]); "
    hold = f"import time; {fill}time.sleep(0.5)"
    parent = f"import subprocess, sys; {fill}subprocess.run([sys.executable, '-c', {hold!r}])"
    cost = run_measured([sys.executable, "-c", parent], tmp_path)
    assert cost.largest_process_megabytes < 150 or sys.platform != "linux"
    assert cost.peak_megabytes > 200 or sys.platform != "linux"


def test_compiling_source_is_counted_in_the_first_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "module.py").write_text("found = True\n")
    cost = run_measured([sys.executable, "-c", "import module"], tmp_path)
    assert cost.returncode == 0 and list((tmp_path / "__pycache__").glob("module.*.pyc"))


def test_a_failed_run_keeps_the_line_that_says_why(tmp_path: Path) -> None:
    cost = run_measured([sys.executable, "-c", "raise SystemExit('no such operator')"], tmp_path)
    assert summary([cost]) == {"ok": False, "returncode": 1, "message": "no such operator"}


class Clock:
    """Time that passes only when work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-9
        return self.now

    process_time = perf_counter

    def work(self, seconds: float) -> object:
        self.now += seconds
        return None


def test_the_interval_of_twice_the_work_holds_two(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("benchmarks.measure.latency.time", clock)
    found = compare(lambda: lambda: clock.work(0.02), lambda: lambda: clock.work(0.01), seconds=0.5, rounds=3)
    for ratio in (found.wall, found.processor):
        assert ratio.low <= ratio.value <= ratio.high
        assert ratio.value == pytest.approx(2, rel=1e-3)


def test_an_image_fits_an_input_with_channels_last() -> None:
    image = np.arange(24.0).reshape(1, 2, 3, 4)
    moved = fit(image, (1, 3, 4, 2))
    assert moved.shape == (1, 3, 4, 2)
    assert worst_relative_error([image], [moved]) == 0.0
    with pytest.raises(ValueError, match="does not fit"):
        fit(image, (1, 5, 4, 2))
