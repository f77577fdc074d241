"""`edgec convert` and `edgec check` for the Edge TPU, from the command to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.cli.main import main
from edgec.converter.manifest import sha256
from edgec.errors import EdgecError
from edgec.ir.types import DataType
from edgec.targets.base import SessionSpec
from edgec.targets.edgetpu import TARGET
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.schemas import validate
from tests.targets.edgetpu import transcripts
from tests.targets.edgetpu.pairs import pair
from tests.targets.edgetpu.stub import Run, stub
from tests.targets.edgetpu.synthetic import Net, compiled


@pytest.fixture
def source(tmp_path: Path) -> Path:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    return net.write(tmp_path / "made_elsewhere.tflite", net.convolution(x, 2, "second"))


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEC_EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("EDGEC_EDGETPU_COMPILER", str(tmp_path / "no_compiler"))


def with_compiler(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = compiled(source, tmp_path / "made.tflite")
    says = transcripts.SUCCESS_16.format(stem="model")
    texts = {"model_edgetpu.log": transcripts.LOG.format(stem="model")}
    tool = stub(tmp_path / "tool", Run(says, {"model_edgetpu.tflite": made}, texts))
    monkeypatch.setenv("EDGEC_EDGETPU_COMPILER", str(tool.program))


def quantized(path: Path) -> Path:
    """x -> QuantizeLinear -> DequantizeLinear -> Conv -> Relu -> QuantizeLinear -> DequantizeLinear -> y."""
    generator = np.random.default_rng(1)
    weights = generator.integers(-127, 128, (4, 3, 3, 3), np.int8)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.int8(0),
        "w": weights,
        "ws": np.float32(0.005),
        "wz": np.int8(0),
        "ys": np.float32(0.03),
        "yz": np.int8(-128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quantize"),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "weights"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["yq"], "quantize_y"),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"], "dequantize_y"),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def failing(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a command that fails."""
    code = main([*(str(item) for item in arguments), "--json"])
    document = json.loads(capsys.readouterr().out)
    if document["schema"] != "edgec-error-1":
        validate(document)
    return code, document


def test_without_a_compiler_the_verified_file_and_the_plan_are_left(
    source: Path, no_compiler: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, document = failing("convert", source, "-t", "edgetpu", "-o", out, capsys=capsys)
    error = document["error"]
    assert (code, error["code"], error["exit"]) == (5, "EDG510", 5)
    assert sorted(item.name for item in out.iterdir()) == ["model.plan.json", "model.tflite"]
    assert sha256(out / "model.tflite") == sha256(source)
    command = "edgetpu_compiler --out_dir . --show_operations --timeout_sec 180 model.tflite"
    assert error["help"].endswith(command)
    assert document["verification"]["levels"] == {"lowered-numerics": "passed"}
    plan = json.loads((out / "model.plan.json").read_text(encoding="utf-8"))
    validate(plan)
    assert plan["plan"]["command"] == command
    assert plan["lowered"]["sha256"] == sha256(source)
    assert str(tmp_path) not in (out / "model.plan.json").read_text(encoding="utf-8")


def test_with_a_compiler(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(tmp_path, source, monkeypatch)
    result = edgec.convert(source, target="edgetpu", output=tmp_path / "out")
    assert result.artifact.name == "model_edgetpu.tflite"
    manifest = json.loads(result.manifest.read_text(encoding="utf-8"))
    validate(manifest)
    validate(result.to_json())
    assert manifest["verification"]["levels"] == {"lowered-numerics": "passed", "artifact-structure": "passed"}
    assert any("not run" in note for note in manifest["verification"]["notes"])
    assert manifest["artifact"]["toolchain"]["version"] == "16.0.384591198"
    assert manifest["artifact"]["edgetpu"]["cached_parameter_bytes"] == 640
    assert {item["path"] for item in manifest["sidecars"]} == {"model.tflite", "model_edgetpu.log"}
    names = {item["path"] for item in manifest["sidecars"]} | {"manifest.json", "model_edgetpu.tflite"}
    assert {item.name for item in (tmp_path / "out").iterdir()} == names
    assert str(tmp_path) not in result.manifest.read_text(encoding="utf-8")
    again = edgec.convert(source, target="edgetpu", output=tmp_path / "again")
    assert again.manifest.read_bytes() == result.manifest.read_bytes()


def test_a_failed_compilation_leaves_what_was_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = stub(tmp_path / "tool", Run(transcripts.NOT_QUANTIZED.format(stem="model"), status=1))
    monkeypatch.setenv("EDGEC_EDGETPU_COMPILER", str(tool.program))
    out = tmp_path / "out"
    out.mkdir()
    (out / "model_edgetpu.tflite").write_text("old")
    code, document = failing("convert", source, "-t", "edgetpu", "-o", out, capsys=capsys)
    assert (code, document["error"]["code"]) == (6, "EDG511")
    assert "Model not quantized" in document["error"]["details"]["log"]
    assert [item.name for item in out.iterdir()] == ["model_edgetpu.tflite"]


def test_a_device_is_used_where_there_is_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(tmp_path, source, monkeypatch)
    monkeypatch.setattr(type(TARGET), "runs_here", lambda self: True)
    spec = SessionSpec("tests.targets.edgetpu.on_cpu:open_session")
    monkeypatch.setattr(type(TARGET), "session", lambda self, artifact, threads=1: spec)
    report = edgec.convert(source, target="edgetpu", output=tmp_path / "out").report
    assert report is not None
    assert report.levels == {"lowered-numerics": "passed", "artifact-structure": "passed", "on-device": "passed"}


def test_a_quantized_onnx_model(tmp_path: Path, no_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowered, verified against ONNX Runtime, then compiled from exactly these bytes."""
    model = quantized(tmp_path / "model.onnx")
    with pytest.raises(EdgecError) as caught:
        edgec.convert(model, target="edgetpu", output=tmp_path / "plan")
    assert caught.value.code == "EDG510"
    plan = json.loads((tmp_path / "plan/model.plan.json").read_text(encoding="utf-8"))
    validate(plan)
    assert plan["layouts"]["x"] == [0, 2, 3, 1]
    with_compiler(tmp_path, tmp_path / "plan/model.tflite", monkeypatch)
    result = edgec.convert(model, target="edgetpu", output=tmp_path / "out")
    validate(json.loads(result.manifest.read_text(encoding="utf-8")))
    assert sha256(tmp_path / "out/model.tflite") == plan["lowered"]["sha256"]
    assert result.report is not None
    assert result.report.levels["lowered-numerics"] == "passed"
    assert any("predicted on the Edge TPU" in note for note in result.notes)


def test_checking_a_quantized_onnx_model(tmp_path: Path) -> None:
    report = edgec.check(quantized(tmp_path / "model.onnx"), target="edgetpu")
    validate(report.to_json())
    assert report.facts["operators_on_device"] >= 1
    verdicts = {node.name: node.verdict for node in report.nodes}
    assert verdicts["conv"] == "ok"
    assert not report.general


def test_a_float_model_needs_calibration_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = failing("convert", DIGITS, "-t", "edgetpu", "-o", tmp_path / "out", capsys=capsys)
    assert (code, document["error"]["code"]) == (2, "EDG030")
    assert "--calibration" in document["error"]["help"]
    assert not (tmp_path / "out").exists()


def test_a_float_model_is_quantized_and_runs_on_the_device_whole(tmp_path: Path, no_compiler: None) -> None:
    """Its HardSwish activations, which the Edge TPU lacks, are written as sums and products."""
    with pytest.raises(EdgecError) as caught:
        edgec.convert(DIGITS, target="edgetpu", calibration=DIGIT_SAMPLES, output=tmp_path / "out")
    assert caught.value.code == "EDG510"
    report = edgec.check(tmp_path / "out/model.tflite", target="edgetpu")
    assert report.summary["unsupported"] == report.summary["uncertain"] == 0
    plan = json.loads((tmp_path / "out/model.plan.json").read_text(encoding="utf-8"))
    validate(plan)
    assert {name: item["dtype"] for name, item in plan["quantized_io"].items()} == {"x": "int8", "logits": "int8"}
    (output,) = plan["verification"]["outputs"]
    assert output["sqnr_db"] > 25
    assert edgec.check(DIGITS, target="edgetpu").facts["operators_on_cpu"] == 0


def test_the_console_says_that_inputs_are_integers_and_channels_last(
    tmp_path: Path, no_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the compiler is missing: the file that is left has them."""
    arguments = ["convert", str(DIGITS), "-t", "edgetpu", "--calibration", str(DIGIT_SAMPLES)]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 5
    assert "note: 'x' is int8, channels last: real = " in capsys.readouterr().err
    plan = json.loads((tmp_path / "out/model.plan.json").read_text(encoding="utf-8"))
    assert any("'logits' is int8: real = " in note for note in plan["notes"])


def test_a_float_tflite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    x = net.input(1, 4, dtype=DataType.FLOAT)
    model = net.write(tmp_path / "float.tflite", net.add("RELU", [x], (1, 4), dtype=DataType.FLOAT))
    code, document = failing("convert", model, "-t", "edgetpu", "-o", tmp_path / "out", capsys=capsys)
    assert (code, document["error"]["code"]) == (4, "EDG410")
    assert edgec.check(model, target="edgetpu").nodes[0].rule == "EDG410"


def test_compiled_and_damaged_files_are_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = compiled(source, tmp_path / "compiled.tflite")
    code, document = failing("convert", made, "-t", "edgetpu", "-o", tmp_path / "out", capsys=capsys)
    assert (code, document["error"]["code"]) == (4, "EDG427")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(source.read_bytes()[:300])
    for command in (("convert", cut, "-o", tmp_path / "out"), ("check", cut)):
        code, document = failing(*command, "-t", "edgetpu", capsys=capsys)
        assert code == 3
        assert document["error"]["code"] == "EDG109"


def test_custom_operators_are_listed_and_not_refused(tmp_path: Path, no_compiler: None) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "end")
    model = net.write(tmp_path / "model.tflite", net.add("CUSTOM", [x], (1, 8, 8, 4), custom="Mine", name="y"))
    report = edgec.check(model, target="edgetpu")
    assert [(node.operator, node.rule) for node in report.nodes] == [("CONV_2D", ""), ("CUSTOM:Mine", "EDG411")]
    with pytest.raises(EdgecError) as caught:
        edgec.convert(model, target="edgetpu", output=tmp_path / "out")
    assert caught.value.code == "EDG510"
    plan = json.loads((tmp_path / "out/model.plan.json").read_text(encoding="utf-8"))
    assert plan["verification"]["levels"] == {}
    assert any("custom op" in note for note in plan["verification"]["notes"])
    with pytest.raises(EdgecError) as caught:
        options = {"require-device": True}
        edgec.convert(model, target="edgetpu", output=tmp_path / "other", target_options=options)
    assert (caught.value.code, caught.value.exit_code) == ("EDG411", 4)


def test_a_plan_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(source), "-t", "edgetpu", "-o", str(tmp_path / "out"), "--plan", "--segments", "2"]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert "--num_segments 2" in document["plan"]["tool"]["command"]
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert "edgetpu_compiler" in capsys.readouterr().out


def test_options_are_checked(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        (source, "-t", "edgetpu", "--option", "segments=0"),
        (source, "-t", "edgetpu", "--option", "colour=red"),
        (source, "-t", "edgetpu", "--option", "segments"),
        (source, "-t", "edgetpu", "--batch", "2"),
        (source, "-t", "edgetpu", "--io-layout", "NHWC"),
        (source, "-t", "edgetpu", "--method", "mse"),
        (DIGITS, "-t", "tflite", "--method", "mse"),
        (DIGITS, "-t", "tflite", "--precision", "float16", "--method", "mse"),
        (DIGITS, "-t", "tflite", "--segments", "2"),
        (DIGITS, "-t", "onnxruntime", "--require-device"),
    ):
        code, document = failing("convert", *arguments, "-o", tmp_path / "out", capsys=capsys)
        assert (code, document["error"]["code"]) == (2, "EDG001"), arguments
    assert not (tmp_path / "out").exists()


def test_the_source_is_not_overwritten(source: Path, tmp_path: Path, no_compiler: None) -> None:
    out = tmp_path / "out"
    out.mkdir()
    model = out / "model.tflite"
    model.write_bytes(source.read_bytes())
    with pytest.raises(EdgecError) as caught:
        edgec.convert(model, target="edgetpu", output=out)
    assert caught.value.code == "EDG015"


def test_data_and_ranges_reach_the_comparison(source: Path, tmp_path: Path, no_compiler: None) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((1, 8, 8, 4), np.int8))
    for given, code in (
        ({"data": tmp_path / "data.npz"}, "EDG510"),
        ({"ranges": {"x": (0, 1)}}, "EDG510"),
        ({"ranges": {"z": (0, 1)}}, "EDG002"),
        ({"data": tmp_path / "absent.npz"}, "EDG006"),
    ):
        with pytest.raises(EdgecError) as caught:
            edgec.convert(source, target="edgetpu", output=tmp_path / "out", **given)  # type: ignore[arg-type]
        assert caught.value.code == code


def test_checking_a_real_model_lists_its_operators_index_for_index(capsys: pytest.CaptureFixture[str]) -> None:
    real = pair("deeplabv3")
    assert main(["check", str(real.source), "-t", "edgetpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert [node["index"] for node in document["nodes"]] == list(range(72))
    away = [node["index"] for node in document["nodes"] if node["verdict"] == "unsupported"]
    assert away == real.left
    low, high = document["facts"]["cached_parameter_bytes"]
    assert low <= real.truth["cached_parameter_bytes"] <= high


def test_explaining_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "EDG412"]) == 0
    assert "Source" in capsys.readouterr().out


def test_a_quantized_model_whose_activations_are_rounded_further_may_be_off_by_that_and_no_more(
    tmp_path: Path, no_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = DIGITS.with_name("digits_qdq.onnx")
    code, document = failing("convert", model, "--target", "edgetpu", "-o", tmp_path / "out", capsys=capsys)
    assert code == 5 and document["error"]["code"] == "EDG510"
    assert document["verification"]["precision"] == "quantized"
    assert any("allowed on top of the usual limit" in note for note in document["notes"])
    (output,) = document["verification"]["outputs"]
    (note,) = (note for note in document["verification"]["notes"] if "meant to be off" in note)
    departure = float(note.rsplit(" ", 1)[1])
    limit = max(1e-2, 3 * output["floor"])
    assert output["threshold"] == pytest.approx(limit + departure, rel=1e-2)
    assert 0.01 < output["relative_l2"] == pytest.approx(departure, rel=1e-2), "it computes just what it is meant to"
    assert output["threshold"] < 0.05, "15 dB would allow 0.178"
