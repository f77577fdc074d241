"""A conversion: what it leaves, that it is repeatable, and what happens when the artifact is not what it should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec
from edgec.cli.main import main
from edgec.converter.convert import ConversionResult
from edgec.converter.manifest import sha256
from edgec.errors import EdgecError
from edgec.targets.base import Artifact, Lowered
from edgec.targets.onnxruntime import TARGET as ORT
from tests.command import DIGITS
from tests.command import edgec as run_edgec
from tests.faults import graphs
from tests.schemas import validate

TARGETS = ["onnxruntime", "tflite"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifest_describes_what_lies_beside_it(target: str, tmp_path: Path) -> None:
    result = edgec.convert(DIGITS, target=target, output=tmp_path / "out")
    assert isinstance(result, ConversionResult)
    manifest = json.loads(result.manifest.read_text(encoding="utf-8"))
    validate(manifest)
    assert manifest["artifact"]["sha256"] == sha256(result.artifact)
    assert manifest["artifact"]["size"] == result.artifact.stat().st_size
    assert manifest["source"]["sha256"] == sha256(DIGITS)
    assert manifest["verification"]["passed"] is True
    assert manifest["verification"]["levels"]["artifact-numerics"] == "passed"
    files = {item["path"] for item in manifest["sidecars"]} | {"manifest.json", manifest["artifact"]["path"]}
    assert {item.name for item in result.artifact.parent.iterdir()} == files
    assert str(tmp_path) not in result.manifest.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_two_conversions_give_the_same_bytes(target: str, tmp_path: Path) -> None:
    """In two processes with different hash seeds and from different folders."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        shutil.copy(DIGITS, folder / "digits.onnx")
        result = run_edgec(
            "convert", folder / "digits.onnx", "-t", target, "-o", folder / "out", PYTHONHASHSEED=str(seed + 1)
        )
        assert result.code == 0, result.stderr
    first, second = ({item.name: item.read_bytes() for item in (folder / "out").iterdir()} for folder in folders)
    assert first == second


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_and_outputs_keep_names_order_shapes_and_types(target: str, tmp_path: Path) -> None:
    result = edgec.convert(DIGITS, target=target, output=tmp_path / "out")
    facts = json.loads(result.manifest.read_text(encoding="utf-8"))["artifact"]
    source = edgec.inspect(DIGITS)
    for kind in ("inputs", "outputs"):
        named = [(item["name"], item["dtype"]) for item in facts[kind]]
        assert named == [(item["name"], item["dtype"]) for item in source[kind]]


def tampering(change: Callable[[onnx.ModelProto], None]) -> Callable[[Lowered, Path, str], Artifact]:
    """The onnxruntime target's ``compile``, with a change to the file it wrote."""
    compile = ORT.compile

    def tampered(lowered: Lowered, folder: Path, stem: str) -> Artifact:
        artifact = compile(lowered, folder, stem)
        proto = onnx.load(artifact.main)
        change(proto)
        onnx.save(proto, artifact.main)
        return artifact

    return tampered


def scale(proto: onnx.ModelProto) -> None:
    weight = next(item for item in proto.graph.initializer if len(item.dims) == 4)
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))


def rename(proto: onnx.ModelProto) -> None:
    proto.graph.node.add(op_type="Identity", input=[proto.graph.output[0].name], output=["another"])
    proto.graph.output[0].name = "another"


@pytest.mark.parametrize(("change", "code"), [(scale, "EDG301"), (rename, "EDG304")])
def test_an_artifact_that_is_not_the_model_is_set_aside(
    change: Callable[[onnx.ModelProto], None],
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"old and good")
    monkeypatch.setattr(ORT, "compile", tampering(change))
    arguments = ["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(out)]
    assert main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["error"]["code"] == code
    assert document["artifact"] is None
    assert document["verification"]["passed"] is False
    assert document["rejected"] == str(out / "model.onnx.rejected")
    assert (out / "model.onnx").read_bytes() == b"old and good"
    assert sorted(item.name for item in out.iterdir()) == ["model.onnx", "model.onnx.rejected"]
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(code)
    monkeypatch.undo()
    assert main(arguments) == 0
    assert not (out / "model.onnx.rejected").exists()


def test_an_artifact_that_does_not_load_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compile = ORT.compile

    def truncate(lowered: Lowered, folder: Path, stem: str) -> Artifact:
        artifact = compile(lowered, folder, stem)
        artifact.main.write_bytes(artifact.main.read_bytes()[:-100])
        return artifact

    monkeypatch.setattr(ORT, "compile", truncate)
    assert main(["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("EDG302")
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["model.onnx.rejected"]


def test_verify_notices_a_changed_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    edgec.convert(DIGITS, target="onnxruntime", output=out)
    assert main(["verify", str(out), "--against", str(DIGITS)]) == 0
    (out / "model.onnx").write_bytes((out / "model.onnx").read_bytes() + b"\0")
    capsys.readouterr()
    assert main(["verify", str(out), "--against", str(DIGITS), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["error"]["code"] == "EDG306"
    assert main(["verify", str(tmp_path), "--against", str(DIGITS)]) == 2


def test_verify_notices_another_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The artifact of a model with one weight changed, verified against the model itself."""
    proto = onnx.load(DIGITS)
    scale(proto)
    onnx.save(proto, tmp_path / "changed.onnx")
    edgec.convert(tmp_path / "changed.onnx", target="onnxruntime", output=tmp_path / "out")
    assert main(["verify", str(tmp_path / "out"), "--against", str(DIGITS)]) == 1
    assert "EDG301" in capsys.readouterr().err


@pytest.mark.parametrize("target", TARGETS)
def test_external_data_is_read_and_named_in_the_manifest(target: str, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    np.arange(4, dtype=np.float32).tofile(folder / "weights.bin")
    path = graphs.save(graphs.external("weights.bin"), folder / "model.onnx")
    result = edgec.convert(path, target=target, output=tmp_path / "out")
    manifest = json.loads(result.manifest.read_text(encoding="utf-8"))
    validate(manifest)
    assert manifest["source"]["external"] == [
        {"name": "weights.bin", "sha256": sha256(folder / "weights.bin"), "size": 16}
    ]


def test_options_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="io_layout"):
        edgec.convert(DIGITS, target="tflite", output=tmp_path / "out", io_layout="CHWN")
    with pytest.raises(EdgecError, match="precision"):
        edgec.convert(DIGITS, target="tflite", output=tmp_path / "out", precision="int3")


def test_the_sidecar_holds_the_session_options(tmp_path: Path) -> None:
    import onnxruntime

    result = edgec.convert(DIGITS, target="onnxruntime", output=tmp_path / "out")
    document = json.loads(result.sidecars[0].read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, document["graph_optimization_level"])
    options.execution_mode = getattr(onnxruntime.ExecutionMode, document["execution_mode"])
    options.intra_op_num_threads = document["intra_op_num_threads"]
    options.inter_op_num_threads = document["inter_op_num_threads"]
    for key, value in document["config"].items():
        options.add_session_config_entry(key, value)
    model = result.artifact.parent / document["model"]
    session = onnxruntime.InferenceSession(model, options, providers=document["execution_providers"])
    assert [item.name for item in session.get_inputs()] == ["x"]
