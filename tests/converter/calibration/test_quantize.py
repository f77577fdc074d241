"""``edgec quantize`` writes plain QDQ ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.cli.main import main
from edgec.errors import EdgecError
from tests.schemas import validate

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_file_is_valid_onnx_that_keeps_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "digits_int8.onnx"
    arguments = ["quantize", str(DIGITS / "digits.onnx"), "-o", str(file), "--json"]
    assert main([*arguments, "--calibration", str(DIGITS / "samples.npz")]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["quantization"]["float_nodes"] == []
    onnx.checker.check_model(str(file), full_check=True)
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    samples = np.load(DIGITS / "samples.npz")
    (name,) = samples.files
    before = onnxruntime.InferenceSession(DIGITS / "digits.onnx")
    after = onnxruntime.InferenceSession(file)
    shape = [dim if isinstance(dim, int) else 1 for dim in before.get_inputs()[0].shape]
    inputs = samples[name].reshape(-1, *shape)
    same = [
        int(before.run(None, {name: item})[0].argmax()) == int(after.run(None, {name: item})[0].argmax())
        for item in inputs
    ]
    assert np.mean(same) >= 0.99


def test_without_data_it_says_how_to_give_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(DIGITS / "digits.onnx"), "-o", str(tmp_path / "x.onnx")]) == 2
    assert "EDG030" in capsys.readouterr().err and not (tmp_path / "x.onnx").exists()


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    from edgec.converter.quantize import quantize_model

    with pytest.raises(EdgecError) as caught:
        quantize_model(DIGITS / "digits.onnx", DIGITS / "digits.onnx", calibration="random")
    assert caught.value.code == "EDG015"
