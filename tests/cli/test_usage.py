"""Usage errors carry codes, exit with 2, and honour --json."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from edgec.cli.main import main
from edgec.cli.options import named_range, named_shape
from tests.command import DIGITS, edgec_into
from tests.schemas import validate

CASES = [
    (["nonsense"], "EDG001"),
    (["convert"], "EDG001"),
    (["convert", str(DIGITS)], "EDG001"),
    (["convert", str(DIGITS), "--target", "nonsense"], "EDG003"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--frobnicate"], "EDG001"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--input-shape", "1,3,64,64"], "EDG001"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--input-shape", "x:1,b"], "EDG001"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--input-shape", "nonsense:1,3"], "EDG002"),
    (
        ["convert", str(DIGITS), "--target", "onnxruntime", "--input-shape", "x:1,1,8,8", "--input-shape", "x:1"],
        "EDG001",
    ),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--range", "x:1"], "EDG001"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--batch", "0"], "EDG001"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--passes", "nonsense"], "EDG004"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--passes", "fold-constants{limit=many}"], "EDG004"),
    (["convert", str(DIGITS), "--target", "onnxruntime", "--print-ir-after", "nonsense"], "EDG004"),
    (["check", str(DIGITS)], "EDG001"),
    (["passes", "nonsense"], "EDG004"),
    (["explain"], "EDG001"),
    (["explain", "EDG999"], "EDG014"),
    (["schema", "nonsense"], "EDG001"),
]


@pytest.mark.parametrize(
    ("arguments", "code"), CASES, ids=lambda value: None if isinstance(value, str) else "_".join(value)
)
def test_a_usage_error_has_a_code_and_exit_2(
    arguments: list[str], code: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert text.err.startswith(code)
    assert f"More: edgec explain {code}" in text.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"), CASES, ids=lambda value: None if isinstance(value, str) else "_".join(value)
)
def test_with_json_it_is_the_one_document(
    arguments: list[str], code: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["status"] == "error"
    assert document["error"]["code"] == code


def test_a_name_ends_at_the_last_colon() -> None:
    assert named_shape("serving:x:0:1,3,640,640") == ("serving:x:0", (1, 3, 640, 640))
    assert named_shape("scalar:") == ("scalar", ())
    assert named_range("a:b:-1,2.5") == ("a:b", (-1.0, 2.5))
    for text in ("x", ":1", "x:-1", "x:1,,2"):
        with pytest.raises(click.BadParameter):
            named_shape(text)
    for text in ("x:2,1", "x:0,inf", "x:0,nan", "x:1,2,3"):
        with pytest.raises(click.BadParameter):
            named_range(text)


def test_an_unexpected_exception_is_an_internal_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("made for this test")

    monkeypatch.setattr("edgec.converter.check.check", fail)
    arguments = ["check", str(DIGITS), "--target", "onnxruntime"]
    assert main(arguments) == 70
    text = capsys.readouterr()
    assert text.err.startswith("EDG900")
    assert "Traceback" not in text.err
    assert main([*arguments, "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to write to")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("targets",), 2), (("targets", "--json"), 2), (("explain", "--all"), 2), (("inspect", "none.onnx", "--json"), 2)],
)
def test_a_full_disk_behind_standard_output_is_said_and_no_internal_error(
    arguments: tuple[str, ...], code: int
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = edgec_into(arguments, full)
    assert done.returncode == code
    assert "EDG011  standard output" in done.stderr and "No space left on device" in done.stderr
    assert ("none.onnx" in done.stderr) == ("none.onnx" in arguments), "the first error is shown too"
    assert "EDG900" not in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
