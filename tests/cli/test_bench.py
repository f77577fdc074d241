"""``edgec bench`` and ``edgec devices`` as a user meets them."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.cli.bench import counts, unit_of, verdict_text
from edgec.cli.main import main
from edgec.runtime.measurement import Estimate, Status, Verdict, measure_floor
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.schemas import validate


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path / "leases"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    import edgec

    root = tmp_path_factory.mktemp("bench")
    for target in ("onnxruntime", "tflite"):
        edgec.convert(DIGITS, target=target, output=root / target)
    return root / "onnxruntime", root / "tflite"


def test_bench_compares_two_artifacts(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.execution.bench.measure_floor", functools.partial(measure_floor, pairs=2))
    first, second = folders
    arguments = ["bench", str(second), "--vs", str(first), "--threads", "1", "--budget", "4s"]
    code = main([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert code in (0, 7) and document["status"] in ("ok", "unstable")
    (comparison,) = document["versus"]["comparisons"]
    assert comparison["estimate"]["ratio"] > 0
    assert main([*arguments, "--batch", "1"]) in (0, 7)
    shown = capsys.readouterr().out
    assert re.search(r"1 +1 +[0-9.]+ us", shown) and "A/A floor" in shown


def test_bench_takes_samples_and_says_what_does_not_fit(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(folders[0]), "--data", str(DIGIT_SAMPLES), "--budget", "1s"]) in (0, 7)
    capsys.readouterr()
    assert main(["bench", str(folders[0]), "--batch", "3", "--budget", "1s"]) == 4
    assert "convert again with --batch 3" in capsys.readouterr().out
    assert main(["bench", str(folders[0]), "--data", str(tmp_path / "none.npz")]) == 2
    assert main(["bench", str(tmp_path)]) == 2
    assert main(["bench", str(folders[0]), "--batch", "1,x"]) == 2
    assert main(["bench", str(folders[0]), "--budget", "soon"]) == 2
    assert main(["bench", str(folders[0]), "--session-option", "nonsense=1", "--budget", "1s"]) == 2
    assert "EDG040" in capsys.readouterr().err


def test_a_device_that_another_process_holds_is_an_error_without_waiting(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    script = "from edgec.runtime.lease import lease\nwith lease('cpu'):\n print('held', flush=True)\n input()\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert main(["bench", str(folders[0]), "--no-wait", "--budget", "1s", "--json"]) == 2
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        assert document["error"]["code"] == "EDG701" and document["error"]["details"]["holder"]["pid"] == holder.pid
    finally:
        holder.communicate("\n")


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["kinds"][0]["kind"] == "cpu"
    assert main(["devices"]) == 0
    assert "cpu" in capsys.readouterr().out
    assert main(["devices", "--all"]) == 0
    assert "Edge TPU" in capsys.readouterr().out


def test_lists_of_numbers() -> None:
    assert counts("1,8,8,32") == (1, 8, 32)


@pytest.mark.parametrize(
    ("seconds", "unit"), [(2e-5, "us"), (9.9e-4, "us"), (1e-3, "ms"), (0.5, "ms"), (1.5, "s"), (5000.0, "s")]
)
def test_times_have_a_unit_that_reads(seconds: float, unit: str) -> None:
    assert unit_of(seconds)[0] == unit


def test_a_verdict_in_words() -> None:
    def estimate(ratio: float, verdict: Verdict, status: Status = Status.DECIDED) -> Estimate:
        return Estimate(ratio, ratio, ratio, ratio, ratio, ratio, 1, 1, 20, 1.0, status, verdict, 0.01, "why")

    assert verdict_text(estimate(0.8, Verdict.CANDIDATE), "a", "b") == "a is faster by 20.0%"
    assert verdict_text(estimate(1.25, Verdict.INCUMBENT), "a", "b") == "b is faster by 20.0%"
    assert verdict_text(estimate(1.0, Verdict.SAME), "a", "b") == "no significant difference"
    assert verdict_text(estimate(1.0, Verdict.SAME, Status.UNSTABLE), "a", "b") == "unstable: why"
    wide = estimate(0.5, Verdict.CANDIDATE, Status.WIDE)
    assert verdict_text(wide, "a", "b") == "a is faster by 50.0%, a wide interval: why"
    slower = estimate(2.0, Verdict.INCUMBENT, Status.WIDE)
    assert verdict_text(slower, "a", "b") == "b is faster by 50.0%, a wide interval: why"
