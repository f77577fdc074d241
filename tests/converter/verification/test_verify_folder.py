"""`edgec verify` repeats the comparison from the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.errors import EdgecError

from .support import save

NETWORK = """agraph (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y)
<float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}> { c = Conv(x, w) y = Relu(c) }"""


@pytest.fixture
def converted(tmp_path: Path) -> tuple[Path, Path]:
    model = save(tmp_path, NETWORK)
    edgec.convert(model, target="tflite", output=tmp_path / "out")
    return model, tmp_path / "out"


def test_a_finished_conversion_verifies_again(converted: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = converted
    np.save(tmp_path / "samples.npy", np.random.default_rng(0).random((4, 1, 3, 8, 8), np.float32))
    assert edgec.verify(folder, against=model, seed=5).passed
    report = edgec.verify(folder, against=model, data=tmp_path / "samples.npy")
    assert report.samples == 4 and report.passed and not report.notes


def test_another_model_is_noticed(converted: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = converted
    other = save(tmp_path, NETWORK.replace("5, 6", "5, 7"), name="other.onnx")
    with pytest.raises(EdgecError) as caught:
        edgec.verify(folder, against=other)
    assert caught.value.code == "EDG301"
    assert "not the file" in caught.value.details["verification"]["notes"][0]


def test_a_changed_artifact_is_refused(converted: tuple[Path, Path]) -> None:
    model, folder = converted
    with (folder / "model.tflite").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(EdgecError) as caught:
        edgec.verify(folder, against=model)
    assert caught.value.code == "EDG306" and "has changed" in caught.value.message


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        edgec.verify(tmp_path, against=save(tmp_path, NETWORK))
    assert caught.value.code == "EDG017" and caught.value.exit_code == 2
