"""Every command's JSON document follows its published schema, and the text says the same."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from edgec.cli.main import main
from edgec.errors import CODES
from tests.command import DIGITS
from tests.schemas import validate


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    validate(found)
    return found


@pytest.mark.parametrize(
    "name", [item.name for item in files("edgec.schemas").iterdir() if item.name.endswith(".json")]
)
def test_every_schema_is_sound_and_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    assert main(["schema", name.removesuffix(".json")]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == f"edgec-{name.removesuffix('.json')}-1"


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "explain", "edg301")
    assert found["codes"][0]["code"] == "EDG301"  # type: ignore[index]
    found = document(capsys, "explain", "--all")
    assert {item["code"] for item in found["codes"]} >= set(CODES)  # type: ignore[attr-defined]
    assert main(["explain", "EDG301"]) == 0
    assert "verification failed" in capsys.readouterr().out


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "targets")
    targets = {item["name"]: item for item in found["targets"]}  # type: ignore[attr-defined]
    assert {"tflite", "onnxruntime"} <= set(targets)
    assert targets["onnxruntime"]["artifact"] == "model.onnx"
    assert main(["targets"]) == 0
    assert "onnxruntime" in capsys.readouterr().out


def test_passes(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "passes")
    passes = {item["name"]: item for item in found["passes"]}  # type: ignore[attr-defined]
    assert passes["fold-constants"]["options"][0] == {"name": "limit", "default": "16384"}
    assert all(item["documentation"] for item in passes.values())
    assert main(["passes", "fold-constants"]) == 0
    assert "limit=16384" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "doctor")
    assert found["status"] == "ok"
    subjects = {item["subject"] for item in found["findings"]}  # type: ignore[attr-defined]
    assert {"python", "onnx", "temporary folder", "target onnxruntime: onnxruntime"} <= subjects


def test_doctor_exits_with_5_when_something_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.runtime.packages.described", lambda package: None)
    found = document(capsys, "doctor", code=5)
    assert found["status"] == "error"


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "check", str(DIGITS), "--target", "onnxruntime")
    nodes = found["nodes"]
    assert isinstance(nodes, list)
    assert [node["index"] for node in nodes] == list(range(len(nodes)))
    assert found["summary"]["ok"] == len(nodes)  # type: ignore[index]
    assert main(["check", str(DIGITS), "--target", "onnxruntime"]) == 0
    assert f"{len(nodes)} of {len(nodes)} nodes ok" in capsys.readouterr().out


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "inspect", str(DIGITS))
    assert found["inputs"][0]["name"] == "x"  # type: ignore[index]
    assert found["operators"]["Conv"] > 1  # type: ignore[index]
    assert main(["inspect", str(DIGITS)]) == 0
    assert "Conv" in capsys.readouterr().out


def test_inspect_of_an_artifact(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["convert", str(DIGITS), "--target", "tflite", "-o", str(tmp_path)]) == 0
    found = document(capsys, "inspect", str(tmp_path / "model.tflite"))
    assert found["inputs"][0]["name"] == "x"  # type: ignore[index]
    content = (tmp_path / "model.tflite").read_bytes()
    for damaged, problem in ((b"", "EDG102"), (b"something else", "EDG114"), (content[:64], "EDG109")):
        (tmp_path / "damaged.tflite").write_bytes(damaged)
        found = document(capsys, "inspect", str(tmp_path / "damaged.tflite"), code=3)
        assert found["error"]["code"] == problem  # type: ignore[index]


def test_convert_verify_and_the_manifest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = document(capsys, "convert", str(DIGITS), "--target", "onnxruntime", "-o", str(out))
    assert found["status"] == "ok"
    assert found["artifact"] == str(out / "model.onnx")
    validate(json.loads((out / "manifest.json").read_text(encoding="utf-8")))
    verified = document(capsys, "verify", str(out), "--against", str(DIGITS))
    assert verified["status"] == "ok"
    assert main(["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(out)]) == 0
    assert "manifest.json" in capsys.readouterr().out
    assert main(["verify", str(out), "--against", str(DIGITS)]) == 0


def test_plan_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(tmp_path / "out"), "--plan"]
    found = document(capsys, *arguments)
    assert found["status"] == "planned"
    assert found["plan"]["files"] == ["model.onnx", "model.session.json", "manifest.json"]  # type: ignore[index]
    assert main(arguments) == 0
    assert "pipeline:" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_ir_is_printed_on_standard_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(tmp_path / "out"), "--plan", "--json"]
    assert main([*arguments, "--print-ir-after", "import", "--print-ir-after", "fold-constants"]) == 0
    text = capsys.readouterr()
    json.loads(text.out)
    assert "# after import" in text.err
    assert "# after fold-constants" in text.err
    assert "Conv" in text.err


def test_doctor_says_what_optional_parts_are_for_and_how_to_get_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEC_VELA", str(tmp_path / "absent"))
    monkeypatch.setattr("edgec.runtime.packages.described", lambda name: None if name == "tensorflow" else "1.0")
    found = {item["subject"]: item for item in document(capsys, "doctor")["findings"]}
    assert found["extra tensorflow"]["ok"], "nothing is wrong without it"
    assert "SavedModel" in found["extra tensorflow"]["detail"]
    assert found["extra tensorflow"]["help"] == "pip install 'edgec[tensorflow]'"
    assert found["extra images"]["detail"] == "pillow 1.0"
    assert "edgec[ethosu]" in found["target ethosu: vela"]["detail"]
    assert "needed to compile" in found["target edgetpu: edgetpu_compiler"]["detail"]


def test_doctor_sees_a_vela_that_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "vela"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("EDGEC_VELA", str(broken))
    found = {item["subject"]: item for item in document(capsys, "doctor", code=5)["findings"]}
    assert not found["target ethosu: vela"]["ok"] and found["target ethosu: vela"]["help"]
