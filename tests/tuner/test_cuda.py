"""Measuring and tuning on a real NVIDIA GPU, as commands; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from tests.command import edgec
from tests.runtime.nets import save_net
from tests.schemas import validate

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="no CUDA execution provider"
)
MIB = 1 << 20


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    result = edgec("convert", save_net(folder / "net.onnx"), "-t", "onnxruntime", "-o", folder / "out", "--json")
    assert result.code == 0, result.stderr
    return folder / "out"


def test_bench_tells_the_memory_and_the_energy_of_the_device(artifact: Path) -> None:
    result = edgec("bench", artifact, "--provider", "cuda", "--batch", "1", "--budget", "3s", "--json")
    assert result.code in (0, 7), result.stderr
    validate(result.document)
    assert result.document["device"] == "cuda:0"
    (row,) = result.document["rows"]
    assert row["device_memory"] > 50 * MIB
    assert row["energy"]["scope"] == "GPU board" and row["energy"]["joules_per_run"] > 0
    assert row["assignment"] is None or row["assignment"]["complete"]
    assert row["conditions"]["gpu"]["clock_mhz"] > 0


def test_two_artifacts_are_compared_on_one_processor(artifact: Path) -> None:
    result = edgec("bench", artifact, "--vs", artifact, "--provider", "cuda", "--budget", "4s", "--json")
    assert result.code in (0, 7), result.stderr
    (comparison,) = result.document["versus"]["comparisons"]
    assert comparison["estimate"]["verdict"] == "no significant difference"


def test_a_study_knows_what_a_session_holds_on_the_device(tmp_path: Path) -> None:
    """And keeps a limit on it; a device that holds less than CUDA itself takes is infeasible."""
    given = [
        "tune",
        save_net(tmp_path / "net.onnx"),
        "-t",
        "onnxruntime",
        "--provider",
        "cuda",
        "--knob",
        "device_limit=268435456",
    ]
    found = edgec(*given, "--max-device-memory", "8GB", "--trials", "3", "-o", tmp_path / "study", "--json")
    assert found.code == 0, found.stderr
    validate(found.document)
    measured = [trial for trial in found.document["trials"] if trial["state"] != "failed"]
    assert measured and all(trial["values"]["device_memory_bytes"] > 50 * MIB for trial in measured)
    none = edgec(*given, "--max-device-memory", "1MB", "--trials", "2", "-o", tmp_path / "none", "--json")
    assert none.code == 1 and none.document["status"] == "infeasible"
    assert "on the device" in none.document["trials"][1]["reason"]


def test_a_tuned_artifact_is_measured_on_the_device_that_it_was_tuned_for(tmp_path: Path) -> None:
    """Without --provider: its own session options name it."""
    net, study = save_net(tmp_path / "net.onnx"), tmp_path / "study"
    tuned = edgec("tune", net, "-t", "onnxruntime", "--provider", "cuda", "--trials", "4", "-o", study, "--json")
    assert tuned.code == 0, tuned.stderr
    assert edgec("tune", "apply", study, "-o", tmp_path / "out").code == 0
    result = edgec("bench", tmp_path / "out", "--budget", "2s", "--json")
    assert result.code in (0, 7), result.stderr
    assert result.document["device"] == "cuda:0" and result.document["rows"][0]["device_memory"] > 50 * MIB


def test_a_provider_that_is_not_there_is_named(artifact: Path) -> None:
    result = edgec("bench", artifact, "--provider", "openvino", "--json")
    assert result.code == 5 and result.document["error"]["code"] == "EDG522"
