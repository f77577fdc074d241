"""A .keras archive is judged before Keras sees it: paths, sizes, and the code that loading it would run."""

from __future__ import annotations

import base64
import json
import marshal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgec.cli.main import main
from edgec.converter.importers.tensorflow import keras_file as module
from edgec.converter.importers.tensorflow.keras_file import is_legacy, read_keras_file
from edgec.converter.importers.tensorflow.trust import find_code
from edgec.errors import ModelError
from tests.schemas import validate

INPUT = {
    "module": "keras.layers",
    "class_name": "InputLayer",
    "config": {"batch_shape": [None, 4], "dtype": "float32", "name": "image"},
    "registered_name": None,
}
DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"name": "dense", "units": 2, "activation": "relu", "dtype": {"class_name": "DTypePolicy"}},
    "registered_name": None,
}
BYTECODE = base64.encodebytes(marshal.dumps(compile("x * 2 + some_name_that_is_long", "f", "eval"))).decode()


def configuration(*layers: dict[str, Any]) -> dict[str, Any]:
    inner = {"name": "model", "layers": [INPUT, *layers]}
    return {"module": "keras", "class_name": "Sequential", "config": inner, "registered_name": None}


def archive(path: Path, content: object, *more: tuple[str, bytes]) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", text)
        file.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        for name, data in more:
            file.writestr(name, data)
    return path


def layer(kind: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": "odd", **config}, **more}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "lambda of Keras 3": (
        layer("Lambda", {"function": {"class_name": "__lambda__", "config": {"code": BYTECODE}}}),
        "Python bytecode",
    ),
    "lambda of Keras 2": (
        {"class_name": "Lambda", "config": {"name": "odd", "function": [BYTECODE, None, None]}},
        "byte",
    ),
    "lambda as activation": (layer("Dense", {"activation": {"value": [BYTECODE, None, None]}}), "Python bytecode"),
    "named function in a Lambda": (layer("Lambda", {"function": "os.system", "function_type": "function"}), "(Lambda)"),
    "class of another module": (layer("Odd", {}, module="some_package.layers"), "'some_package.layers'"),
    "registered class": ({"class_name": "mine>Odd", "config": {"name": "odd"}}, "'mine>Odd'"),
    "registered name": (layer("Odd", {}, module=None, registered_name="mine>Odd"), "'mine>Odd'"),
    "function of another module": (
        layer("Dense", {"activation": {"module": "os", "class_name": "function", "config": "system"}}),
        "function 'system' of the Python module 'os'",
    ),
    "builtin function": (
        layer("Dense", {"activation": {"module": "builtins", "class_name": "function", "config": "eval"}}),
        "'eval'",
    ),
    "torch module": (layer("TorchModuleWrapper", {"module": "UEsDBA=="}), "pickled"),
    "another SavedModel": (layer("TFSMLayer", {"filepath": "/elsewhere"}), "'/elsewhere'"),
    "file as vocabulary": (layer("StringLookup", {"vocabulary": "/etc/passwd"}), "'/etc/passwd'"),
    "TensorFlow symbol": (
        {"class_name": "TFOpLambda", "config": {"name": "odd", "function": "io.write_file"}},
        "io.wri",
    ),
    "TensorFlow py_function": (
        {"class_name": "TFOpLambda", "config": {"name": "odd", "function": "py_function"}},
        "py_f",
    ),
    "inside another model": (layer("Functional", {"layers": [layer("TorchModuleWrapper", {})]}), "pickled"),
    "a module that only begins like Keras": (layer("Odd", {}, module="keras_evil"), "'keras_evil'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_in_a_configuration_is_found_and_named(name: str) -> None:
    hostile, expected = HOSTILE[name]
    found = find_code(configuration(hostile, DENSE))
    assert any(expected in str(item) for item in found), found
    assert all(item.layer == "odd" for item in found)


def test_ordinary_layers_hold_no_code() -> None:
    harmless = [
        DENSE,
        {"class_name": "TFOpLambda", "config": {"name": "relu", "function": "nn.relu"}},
        {"class_name": "SlicingOpLambda", "config": {"name": "slice", "function": "__operators__.getitem"}},
        layer("StringLookup", {"vocabulary": ["a", "b"]}),
        layer("Dense", {"kernel_regularizer": {"module": "keras.regularizers", "class_name": "L2", "config": {}}}),
    ]
    found = configuration(*harmless)
    found["compile_config"] = {"loss": {"module": "my_training.losses", "class_name": "function", "config": "loss"}}
    assert find_code(found) == []


@pytest.mark.parametrize("command", ["convert", "check", "import"])
def test_no_command_runs_the_code_of_a_model(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = archive(tmp_path / "m.keras", configuration(HOSTILE["lambda of Keras 3"][0]))
    output = ["-o", str(tmp_path / "out.onnx")] if command != "check" else []
    target = ["--target", "tflite"] if command != "import" else []
    assert main([command, str(model), *target, *output]) == 3
    shown = capsys.readouterr().err
    assert "EDG115" in shown and "layer 'odd' holds Python bytecode" in shown and "--trust" in shown
    assert [item.name for item in tmp_path.iterdir()] == ["m.keras"]


def test_inspect_says_what_a_model_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = archive(tmp_path / "m.keras", configuration(HOSTILE["lambda of Keras 3"][0], DENSE))
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    validate(found)
    assert found["format"] == "keras"
    assert found["producer"] == "Keras 3.15.1"
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": [None, 4]}]
    assert [item["name"] for item in found["outputs"]] == ["dense"]
    assert found["operators"] == {"Dense": 1, "InputLayer": 1, "Lambda": 1}
    assert found["code"] == ["layer 'odd' holds Python bytecode"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:evil"])
def test_an_archive_with_paths_outside_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        read_keras_file(archive(tmp_path / "m.keras", configuration(DENSE), (name, b"x")))
    assert raised.value.code == "EDG117"


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", configuration(DENSE))
    entry = zipfile.ZipInfo("model.weights.h5")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(ModelError) as raised:
        read_keras_file(path)
    assert raised.value.code == "EDG117"


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "m.keras", configuration(DENSE), ("model.weights.h5", bytes(1 << 25)))
    with pytest.raises(ModelError) as raised:
        read_keras_file(path)
    assert raised.value.code == "EDG112"
    for name, value in (("MAX_ENTRIES", 1), ("MAX_BYTES", 100), ("MAX_CONFIGURATION", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(ModelError) as raised:
                read_keras_file(archive(tmp_path / "n.keras", configuration(DENSE)))
            assert raised.value.code == "EDG112"


def test_a_deeply_nested_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth in (300, 100_000):
        model = archive(tmp_path / "m.keras", '{"a":' * depth + "1" + "}" * depth)
        assert main(["check", str(model), "--target", "tflite"]) == 3
        assert "EDG112" in capsys.readouterr().err


def test_what_is_no_keras_file_is_named(tmp_path: Path) -> None:
    empty, other, text = (tmp_path / name for name in ("empty.keras", "other.keras", "text.h5"))
    empty.touch()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("readme", "x")
    text.write_text("hello hello", encoding="utf-8")
    damaged = archive(tmp_path / "damaged.keras", configuration(DENSE))
    damaged.write_bytes(damaged.read_bytes()[:-30])
    listed = archive(tmp_path / "listed.keras", "[]")
    expected = {empty: "EDG102", other: "EDG116", text: "EDG116", damaged: "EDG116", listed: "EDG116"}
    expected[tmp_path / "none.keras"] = "EDG101"
    for path, code in expected.items():
        with pytest.raises(ModelError) as raised:
            read_keras_file(path)
        assert raised.value.code == code, path


def test_signatures_belong_to_saved_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = archive(tmp_path / "m.keras", configuration(DENSE))
    assert main(["check", str(model), "--target", "tflite", "--signature", "nope"]) == 2
    assert "EDG016" in capsys.readouterr().err


def test_versions_tell_which_keras_it_takes() -> None:
    assert [is_legacy(version) for version in ("2.4.0", "2.15.0-tf", "3.0.0", "3.15.1", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
