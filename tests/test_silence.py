"""Nothing of edgec, or of what it loads, reports home: what ONNX Runtime prepares for that is never there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import DIGIT_SAMPLES, DIGITS, ROOT

TRACES = ("deviceid", "onnxruntime.db", ".ses")
"""Files of the telemetry of ONNX Runtime 1.29 to 1.32: an identifier, the events that wait, its session."""
SUPPRESSING = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS")
"""Variables that ONNX Runtime looks for itself."""


def traces(folder: Path, *arguments: str) -> list[str]:
    """Names of what a Python process with its own home leaves in it of telemetry."""
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in SUPPRESSING}
    homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**kept, **homes, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return sorted(path.name for path in folder.rglob("*") if path.name in TRACES)


@pytest.mark.parametrize("where", ["command", "library", "worker"])
def test_onnx_runtime_reports_nothing(where: str, tmp_path: Path) -> None:
    """Run after a check that it would: a process that imports it alone leaves traces."""
    if not traces(tmp_path / "alone", "-c", "import onnxruntime"):
        pytest.skip("this ONNX Runtime leaves no trace of telemetry")
    convert = ["convert", str(DIGITS), "--target", "onnxruntime", "--calibration", str(DIGIT_SAMPLES), "-o", "out"]
    program = "import edgec; edgec.convert({!r}, target='onnxruntime', output='out', isolate={})"
    arguments = {
        "command": ["-m", "edgec", *convert],
        "library": ["-c", program.format(str(DIGITS), False)],
        "worker": ["-c", program.format(str(DIGITS), True)],
    }[where]
    assert traces(tmp_path / "ours", *arguments) == []
