"""Activations of 16 bits on the NPU: what is quantized so runs there as a whole, and so does what mixes them with 8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.converter.convert import ConversionResult, convert
from edgec.errors import EdgecError
from edgec.targets.tflite.graph import read
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.converter.calibration.mixed.planted import BAD, network, saved
from tests.models import real_model
from tests.schemas import validate
from tests.targets.ethosu.vela import need_vela

FORMS = {
    "sum": "sum_a = Relu (x)\n sum = Add (x, sum_a)",
    "scales that are powers of two": "two_a = Sigmoid (x)\n two_b = Tanh (x)\n two = Add (two_a, two_b)",
    "difference": "difference_a = Tanh (x)\n difference = Sub (x, difference_a)",
    "product": "product_a = Sigmoid (x)\n product = Mul (x, product_a)",
    "hard swish": "hard = HardSwish (x)",
    "hard sigmoid": "gate = HardSigmoid (x)",
    "clamp": "clamp = Clip (x, low, high)",
    "clamp to six": "six = Clip (x, zero, six_c)",
    "leaky": "leaky = LeakyRelu <alpha = 0.1> (x)",
    "softmax": "softmax = Softmax <axis = 1> (x)",
    "maximum": "maximum = Max (x, high)",
    "pooling": "pooling_a = AveragePool <kernel_shape = [3, 3]> (x)\n pooling = Relu (pooling_a)",
    "concatenation": "c_a, c_b = Split <num_outputs = 2, axis = 1> (x)\n join = Concat <axis = 1> (c_b, c_a)",
}
"""Independent operators on one input; each gives the name in front of its last equals sign."""
CONSTANTS = "float low = {-0.5}, float high = {0.25}, float zero = {0.0}, float six_c = {6.0}"


def all_forms() -> onnx.ModelProto:
    """One model of all forms."""
    names = [line.split("=")[0].strip() for line in (form.split("\n")[-1] for form in FORMS.values())]
    sizes = {"pooling": 6}
    outputs = ", ".join(f"float[1,4,{sizes.get(name, 8)},{sizes.get(name, 8)}] {name}" for name in names)
    body = "\n".join(FORMS.values())
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 22]> g (float[1,4,8,8] x) => ({outputs}) <{CONSTANTS}> {{ {body} }}'
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def on_npu(
    folder: Path, model: Path, data: Any, accelerator: str = "ethos-u55-128", **options: Any
) -> ConversionResult:
    """Convert in this process; nothing may be left to the CPU, and nothing may be elsewhere than predicted."""
    result = convert(
        model,
        target="ethosu",
        output=folder / "out",
        calibration=data,
        isolate=False,
        target_options={"accelerator": accelerator},
        **options,
    )
    validate(json.loads(result.manifest.read_text(encoding="utf-8")))
    assert result.document["artifact"]["ethosu"]["operators_on_cpu"] == []
    assert result.document["artifact"]["operators"] == {"CUSTOM:ethos-u": 1}
    assert not any("against the prediction" in note for note in result.notes)
    return result


def types(result: ConversionResult) -> set[str]:
    """Element types of the values that the file given to Vela computes."""
    lowered = result.artifact.with_name("model.tflite")
    return {tensor.dtype for operator in read(lowered).main.operators for tensor in operator.outputs}


@pytest.mark.parametrize("accelerator", ["ethos-u55-128", "ethos-u85-256"])
def test_operators_of_16_bits_run_on_the_npu(accelerator: str, tmp_path: Path) -> None:
    need_vela()
    onnx.save(all_forms(), tmp_path / "model.onnx")
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(0).uniform(-4, 4, (8, 1, 4, 8, 8)).astype(np.float32))
    result = on_npu(tmp_path, tmp_path / "model.onnx", data, accelerator, precision="int16x8")
    assert types(result) == {"int16"}
    assert result.report is not None
    noisy = [output.name for output in result.report.outputs if output.difference.sqnr_db < 60]
    assert noisy == []


@pytest.mark.parametrize("accelerator", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
def test_a_network_of_16_bits_loses_less_than_one_of_8(accelerator: str, tmp_path: Path) -> None:
    need_vela()
    errors = []
    for precision in ("int8", "int16x8"):
        result = on_npu(tmp_path / precision, DIGITS, DIGIT_SAMPLES, accelerator, precision=precision)
        assert result.report is not None
        errors.append(result.report.outputs[0].difference.sqnr_db)
    assert errors[1] > errors[0] + 3
    held = result.document["quantization"]["quantized_io"]
    assert {item["dtype"] for item in held.values()} == {"int16"} and result.document["options"]["io_layout"] == "NHWC"


def test_mixed_raises_the_bad_place_to_16_bits_and_nothing_leaves_the_npu(tmp_path: Path) -> None:
    need_vela()
    result = on_npu(tmp_path, network(tmp_path), saved(tmp_path), precision="mixed", max_drop=0.03)
    mixed = result.document["quantization"]["mixed"]
    assert mixed["raise_to"] == "int16x8" and tuple(mixed["raised_nodes"]) == BAD
    assert mixed["loss"] <= 0.03 < mixed["curve"][0]["loss"]
    assert types(result) == {"int8", "int16"}


@pytest.mark.slow
@pytest.mark.download
def test_mixed_raises_hard_swish_of_a_real_model_too(tmp_path: Path) -> None:
    need_vela()
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(0).uniform(-1, 1, (16, 1, 3, 48, 192)).astype(np.float32))
    shapes = {"x": (1, 3, 48, 192)}
    model = real_model("ppocr-cls")
    result = on_npu(tmp_path, model, data, precision="mixed", max_drop=0.03, input_shapes=shapes)
    mixed = result.document["quantization"]["mixed"]
    assert mixed["loss"] <= 0.03 < mixed["curve"][0]["loss"], "8 bits alone lose more"
    assert types(result) == {"int8", "int16"}


def test_a_limit_that_cannot_be_kept_names_what_loses_less(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        convert(
            network(tmp_path),
            target="ethosu",
            output=tmp_path / "out",
            precision="mixed",
            max_drop=0.0001,
            calibration=saved(tmp_path),
            isolate=False,
        )
    assert caught.value.code == "EDG038" and "--precision int16x8" in (caught.value.help or "")


@pytest.mark.parametrize(
    ("target", "precision", "why", "help"),
    [
        ("edgetpu", "mixed", "int8 only", "--target tflite --precision mixed"),
        ("edgetpu", "int16x8", "int8 only", "--method auto"),
        ("ethosu", "float16", "computes integers", "--precision int16x8, or mixed"),
    ],
)
def test_precisions_that_an_accelerator_lacks_are_explained(
    target: str, precision: str, why: str, help: str, tmp_path: Path
) -> None:
    with pytest.raises(edgec.EdgecError) as caught:
        edgec.convert(DIGITS, target=target, output=tmp_path, precision=precision, calibration=DIGIT_SAMPLES)
    assert (caught.value.code, caught.value.exit_code) == ("EDG001", 2)
    assert why in (caught.value.why or "") and help in (caught.value.help or "")
