"""What a SavedModel says is read without TensorFlow, under limits, and what it would do besides computing is found."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.cli.main import main
from edgec.converter.importers.tensorflow import saved_model as module
from edgec.converter.importers.tensorflow.saved_model import dangers, natural, read_saved_model
from edgec.errors import EdgecError, ModelError, UsageError
from tests.schemas import validate

from .saved_models import function, identity_model, node, saved_model, signature, tensor


def test_signatures_operators_and_versions_are_read(tmp_path: Path) -> None:
    found = read_saved_model(identity_model(tmp_path / "model"))
    assert found.version == "2.21.0"
    assert found.tags == ("serve",)
    served = found.signatures["serving_default"]
    assert [(item.name, item.dtype, item.shape) for item in served.inputs] == [("x", "float32", (None, 4))]
    assert [item.name for item in served.outputs] == ["y"]
    assert found.operators == {"Placeholder": 1, "StatefulPartitionedCall": 1, "Identity": 1}
    assert found.dangers == {}


def test_outputs_are_in_natural_order(tmp_path: Path) -> None:
    outputs = {f"output_{index}": tensor("call:0", None) for index in range(12)}
    found = read_saved_model(saved_model(tmp_path / "m", {"serve": signature({}, outputs)}))
    assert [item.name for item in found.signatures["serve"].outputs] == [f"output_{index}" for index in range(12)]
    assert found.signatures["serve"].outputs[0].shape is None
    assert sorted(["b10", "b9", "a"], key=natural) == ["a", "b9", "b10"]


def test_private_signatures_are_left_out_and_the_choice_is_clear(tmp_path: Path) -> None:
    own = signature({}, {"y": tensor("y:0", ())})
    one = read_saved_model(saved_model(tmp_path / "one", {"predict": own, "__saved_model_init_op": own}))
    assert one.choose(None) == "predict"
    two = read_saved_model(saved_model(tmp_path / "two", {"a": own, "b": own}))
    assert two.choose("b") == "b"
    for wanted in (None, "c"):
        with pytest.raises(UsageError) as raised:
            two.choose(wanted)
        assert raised.value.code == "EDG016"
        assert "'a', 'b'" in (raised.value.why or "")


@pytest.mark.parametrize("operator", ["PyFunc", "EagerPyFunc", "ReadFile", "WriteFile", "TFRecordDataset"])
def test_operators_that_run_code_or_reach_files_are_found_wherever_they_are(operator: str, tmp_path: Path) -> None:
    found = read_saved_model(identity_model(tmp_path / "main", node("evil", operator)))
    assert dangers(found) == [f"the operator '{operator}' (node 'evil')"]
    inside = function("never_called", node("evil", operator))
    found = read_saved_model(identity_model(tmp_path / "inside", functions=[inside]))
    assert dangers(found) == [f"the operator '{operator}' (node 'never_called/evil')"]


def test_saving_is_normal_unless_a_signature_reaches_it(tmp_path: Path) -> None:
    saver = function("traced_save", node("save", "SaveV2"))
    normal = identity_model(tmp_path / "a", node("saver", "PartitionedCall", calls="traced_save"), functions=[saver])
    assert read_saved_model(normal).dangers == {}
    served = signature({}, {"y": tensor("call:0", ())})
    nodes = [node("call", "PartitionedCall", "^first"), node("first", "PartitionedCall", calls="outer")]
    outer = function("outer", node("inner", "PartitionedCall", calls="traced_save"))
    hostile = saved_model(tmp_path / "b", {"serve": served}, nodes, [saver, outer])
    assert read_saved_model(hostile).dangers == {"SaveV2": "traced_save/save"}


def test_a_model_that_would_run_code_is_refused_before_tensorflow_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = identity_model(tmp_path / "model", node("evil", "PyFunc"))
    assert main(["convert", str(model), "--target", "tflite", "-o", str(tmp_path / "out")]) == 3
    shown = capsys.readouterr().err
    assert "EDG115" in shown
    assert "'PyFunc' (node 'evil')" in shown
    assert not (tmp_path / "out").exists()


def test_links_and_pipes_in_the_folder_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    linked = identity_model(tmp_path / "linked")
    (linked / "assets").mkdir()
    (linked / "assets" / "words.txt").symlink_to(secret)
    piped = identity_model(tmp_path / "piped")
    os.mkfifo(piped / "pipe")
    for folder in (linked, piped):
        with pytest.raises(ModelError) as raised:
            read_saved_model(folder)
        assert raised.value.code == "EDG117"


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = identity_model(tmp_path / "model")
    for name, value in (("MAX_FILES", 0), ("MAX_BYTES", 10), ("MAX_NODES", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(ModelError) as raised:
                read_saved_model(model)
            assert raised.value.code == "EDG112"


@pytest.mark.parametrize(("content", "code"), [(b"", "EDG102"), (b"\x08\x01", "EDG116"), (b"\x12\xff", "EDG116")])
def test_damaged_graphs_are_named(content: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read_saved_model(tmp_path)
    assert raised.value.code == code


def test_the_text_form_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("x", encoding="utf-8")
    assert main(["inspect", str(tmp_path)]) == 3
    assert "EDG116" in capsys.readouterr().err


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_file_is_more_than_an_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = identity_model(tmp_path_factory.mktemp("fuzz"), node("evil", "PyFunc"))
    content = bytearray((folder / "saved_model.pb").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "saved_model.pb").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(EdgecError):
        read_saved_model(folder)


def test_inspect_follows_its_schema_and_needs_no_tensorflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = identity_model(tmp_path / "model", node("evil", "PyFunc"))
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    validate(found)
    assert found["format"] == "saved_model"
    assert found["signature"] == "serving_default"
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4]}]
    assert found["code"] == ["the operator 'PyFunc' (node 'evil')"]
    assert main(["inspect", str(model), "--signature", "nope"]) == 2
    assert main(["inspect", str(model)]) == 0
    assert "serving_default" in capsys.readouterr().out
