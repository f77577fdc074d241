"""Studies that are not finished, damaged, or whose artifact is gone, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.cli.main import main
from edgec.tuner.conversions import FOLDER
from edgec.tuner.journal import JOURNAL
from tests.command import DIGITS

from .quick import edgec
from .synthetic import opened, space


def applied(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The code that applying the study ends with."""
    capsys.readouterr()
    assert main(["tune", "apply", str(study), "-o", str(study / "out"), "--json"]) == 2
    found: str = json.loads(capsys.readouterr().out)["error"]["code"]
    assert not (study / "out").exists()
    return found


def test_an_unfinished_study_has_no_winner_to_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path, space()):
        pass
    assert applied(tmp_path, capsys) == "EDG815"


def test_a_damaged_journal_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path, space()):
        pass
    with (tmp_path / JOURNAL).open("a", encoding="utf-8") as file:
        file.write('{"kind": "trial", \n')
    assert applied(tmp_path, capsys) == "EDG816"
    assert main(["tune", "report", str(tmp_path)]) == 2
    assert "line 2" in capsys.readouterr().err


@pytest.mark.slow
def test_an_artifact_that_has_changed_since_is_not_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    knobs = ["--knob", "threads=1", "--knob", "execution_mode=sequential", "--knob", "optimise=all"]
    result = edgec("tune", DIGITS, "-t", "onnxruntime", "-o", study, "--trials", "1", *knobs, "--json")
    assert result.code == 0, result.stderr
    (artifact,) = (study / FOLDER).glob("*/model.onnx")
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    assert applied(study, capsys) == "EDG816"
