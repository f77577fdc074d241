"""`edgec import` writes ONNX that computes what the source does, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import edgec
from edgec.cli.main import main
from tests.command import DIGITS
from tests.schemas import validate


def _document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["import", *arguments, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    validate(found)
    return found


def test_an_onnx_file_is_written_at_the_lowest_opset_that_means_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "model.onnx"
    found = _document(capsys, str(DIGITS), "-o", str(output))
    assert found["model"] == str(output)
    assert found["verification"]["passed"] is True  # type: ignore[index]
    assert [item.name for item in output.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(output, full_check=True)
    assert found["opset"] == onnx.load(output).opset_import[0].version


def test_an_opset_can_be_asked_for(tmp_path: Path) -> None:
    result = edgec.import_(DIGITS, tmp_path / "model.onnx", opset=19)
    assert result.opset == onnx.load(result.model).opset_import[0].version == 19
    assert result.report.passed


@pytest.mark.parametrize("opset", ["7", "99"])
def test_an_opset_that_cannot_be_written_is_refused_by_name(
    opset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    found = _document(capsys, str(DIGITS), "-o", str(output), "--opset", opset, code=4)
    assert found["error"]["code"] == "EDG205"  # type: ignore[index]
    assert not list(tmp_path.iterdir())


def test_the_source_is_never_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(DIGITS.read_bytes())
    found = _document(capsys, str(source), "-o", str(source), code=2)
    assert found["error"]["code"] == "EDG015"  # type: ignore[index]
    assert source.read_bytes() == DIGITS.read_bytes()


def test_a_folder_is_no_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = _document(capsys, str(DIGITS), "-o", str(tmp_path), code=2)
    assert found["error"]["code"] == "EDG010"  # type: ignore[index]


def test_the_text_says_where_the_file_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["import", str(DIGITS), "-o", str(tmp_path / "model.onnx"), "--batch", "1"]) == 0
    assert f"model: {tmp_path / 'model.onnx'}" in capsys.readouterr().out
