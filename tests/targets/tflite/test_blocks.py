"""Transposed convolutions whose blocks tile the result are 1x1 convolutions and DEPTH_TO_SPACE; all others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto
from edgec.ir.types import DataType
from edgec.targets import registry
from edgec.targets.base import Lowered, TargetOptions
from edgec.targets.tflite import TARGET
from tests.models import ModelUnavailable, real_model
from tests.targets.tflite.lowered import assert_equivalent, counts, lower, run

HEADER = '<ir_version: 10, opset_import: ["" : 22]>\n'
PARTS = ("CONV_2D", "DEPTH_TO_SPACE", "TRANSPOSE_CONV", "ADD", "RELU")


def numbers(shape: tuple[int, ...], seed: int = 0) -> str:
    """The elements of a float constant."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return ", ".join(f"{value:.6f}" for value in values.reshape(-1))


def written(shape: tuple[int, ...]) -> str:
    """A shape in ONNX text."""
    return ",".join(map(str, shape))


def transposed(
    attributes: str,
    weights: tuple[int, ...] = (5, 3, 2, 2),
    image: tuple[int, ...] = (1, 5, 4, 7),
    bias: bool = True,
    tail: str = "y = Identity (c)",
) -> str:
    """A float ConvTranspose of ``image``; its result ``c`` goes into ``tail``."""
    outputs = weights[1] * (2 if "group = 2" in attributes else 1)
    result = ",".join("NCHWD"[: len(image)]).replace("C", str(outputs)).replace("N", str(image[0]))
    return f"""{HEADER}
    g (float[{written(image)}] x) => (float[{result}] y) <
      float[{written(weights)}] w = {{{numbers(weights)}}}, float[{outputs}] b = {{{numbers((outputs,), 1)}}}> {{
      c = ConvTranspose <{attributes}> (x, w{", b" if bias else ""})
      {tail}
    }}"""


def parts(lowered: Lowered) -> dict[str, int]:
    """How often the operators in question occur."""
    found = counts(lowered)
    return {code: found[code] for code in PARTS if found[code]}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("attributes", "weights", "image"),
    [
        ("strides = [2, 2]", (5, 3, 2, 2), (1, 5, 4, 7)),
        ("strides = [3, 3], kernel_shape = [3, 3], dilations = [1, 1], group = 1", (5, 1, 3, 3), (1, 5, 4, 7)),
        ("strides = [4, 4], pads = [0, 0, 0, 0], output_padding = [0, 0]", (1, 3, 4, 4), (1, 1, 4, 7)),
        ("strides = [2, 2]", (5, 3, 2, 2), (3, 5, 4, 7)),
        ("strides = [2, 2], output_shape = [8, 14]", (5, 3, 2, 2), (1, 5, 4, 7)),
        ('strides = [2, 2], auto_pad = "SAME_UPPER"', (5, 3, 2, 2), (1, 5, 4, 7)),
        ('strides = [2, 2], auto_pad = "VALID"', (5, 3, 2, 2), (1, 5, 1, 1)),
    ],
)
def test_blocks_are_channels_first(
    attributes: str, weights: tuple[int, ...], image: tuple[int, ...], bias: bool
) -> None:
    lowered = assert_equivalent(transposed(attributes, weights, image, bias), tolerance=1e-5)
    assert parts(lowered) == {"CONV_2D": 1, "DEPTH_TO_SPACE": 1}


@pytest.mark.parametrize("attributes", ["strides = [1, 1]", "strides = [1, 1], dilations = [2, 3]"])
def test_blocks_of_one_pixel_are_where_they_belong(attributes: str) -> None:
    assert parts(assert_equivalent(transposed(attributes, (5, 3, 1, 1)))) == {"CONV_2D": 1}


@pytest.mark.parametrize(
    ("attributes", "weights"),
    [
        pytest.param("strides = [2, 3]", (5, 3, 2, 3), id="not square"),
        pytest.param("strides = [3, 3]", (5, 3, 2, 2), id="gaps"),
        pytest.param("strides = [2, 2]", (5, 3, 3, 3), id="overlap"),
        pytest.param("strides = [2, 1]", (5, 3, 2, 2), id="overlap in width"),
        pytest.param("strides = [2, 2], pads = [1, 0, 0, 0]", (5, 3, 2, 2), id="pads"),
        pytest.param("strides = [2, 2], pads = [0, 0, 1, 1]", (5, 3, 2, 2), id="pads behind"),
        pytest.param("strides = [2, 2], output_padding = [1, 0]", (5, 3, 2, 2), id="output padding"),
        pytest.param("strides = [2, 2], output_shape = [7, 14]", (5, 3, 2, 2), id="cropped"),
        pytest.param("strides = [2, 2], output_padding = [1, 1], pads = [0, 0, 1, 1]", (5, 3, 2, 2), id="moved"),
        pytest.param("strides = [2, 2], dilations = [2, 2], pads = [1, 1, 0, 0]", (5, 3, 2, 2), id="dilated"),
        pytest.param("output_shape = [8, 14], strides = [2, 2], dilations = [2, 2]", (5, 3, 2, 2), id="dilated to it"),
        pytest.param(
            "output_shape = [8, 14], strides = [2, 2], output_padding = [1, 0]", (5, 3, 2, 2), id="padded to it"
        ),
        pytest.param("output_shape = [8, 14], strides = [3, 3]", (5, 3, 2, 2), id="gaps cropped to it"),
        pytest.param("output_shape = [8, 14], strides = [2, 2]", (5, 3, 2, 3), id="not square, cropped to it"),
    ],
)
def test_other_transposed_convolutions_stay(attributes: str, weights: tuple[int, ...]) -> None:
    found = parts(assert_equivalent(transposed(attributes, weights)))
    assert found == {"TRANSPOSE_CONV": 1, "ADD": 1}


def test_groups_stay() -> None:
    found = parts(assert_equivalent(transposed("strides = [2, 2], group = 2", (6, 3, 2, 2), (1, 6, 4, 7))))
    assert found["TRANSPOSE_CONV"] == 2 and "DEPTH_TO_SPACE" not in found


@pytest.mark.parametrize(
    ("weights", "image", "attributes", "code"),
    [
        ((5, 3, 2), (1, 5, 4), "strides = [2]", "TRANSPOSE_CONV"),
        ((5, 3, 2, 2, 2), (1, 5, 4, 3, 2), "strides = [2, 2, 2]", "CONV_3D_TRANSPOSE"),
    ],
)
def test_other_ranks_stay(weights: tuple[int, ...], image: tuple[int, ...], attributes: str, code: str) -> None:
    found = counts(assert_equivalent(transposed(attributes, weights, image)))
    assert found[code] == 1 and not found["DEPTH_TO_SPACE"]


@pytest.mark.parametrize("operand", ["w", "b"])
def test_what_is_computed_at_run_time_stays(operand: str) -> None:
    shape = {"w": (5, 3, 2, 2), "b": (3,)}
    (constant,) = set(shape) - {operand}
    text = f"""{HEADER}
    g (float[1,5,4,7] x, float[{written(shape[operand])}] {operand}) => (float[1,3,8,14] y) <
      float[{written(shape[constant])}] {constant} = {{{numbers(shape[constant])}}}> {{
      y = ConvTranspose <strides = [2, 2]> (x, w, b)
    }}"""
    assert parts(assert_equivalent(text)) == {"TRANSPOSE_CONV": 1, "ADD": 1}


# activations


def test_an_activation_is_fused_before_blocks_are_placed() -> None:
    lowered = assert_equivalent(transposed("strides = [2, 2]", tail="y = Relu (c)"))
    assert parts(lowered) == {"CONV_2D": 1, "DEPTH_TO_SPACE": 1}


def test_an_activation_is_fused_through_the_depth_to_space_of_a_model() -> None:
    lowered = assert_equivalent(shuffled("r = Relu (d)", "r"))
    assert parts(lowered) == {"CONV_2D": 1, "DEPTH_TO_SPACE": 1}


@pytest.mark.parametrize(
    ("tail", "results"),
    [
        ("r = Relu (d)", "r, d"),
        ("r = Relu (d)", "r, c"),
        ("r = Relu (d) s = Abs (d)", "r, s"),
        ("r = Relu (d) s = Abs (c)", "r, s"),
    ],
)
def test_an_activation_is_not_fused_where_others_read_what_is_before_it(tail: str, results: str) -> None:
    assert parts(assert_equivalent(shuffled(tail, results)))["RELU"] == 1


def shuffled(tail: str, results: str) -> str:
    """A Conv ``c``, its DepthToSpace ``d`` and what follows."""
    outputs = ", ".join(f"float[A{name},B{name},C{name},D{name}] {name}" for name in results.split(", "))
    return f"""{HEADER}
    g (float[1,2,3,5] x) => ({outputs}) <float[8,2,1,1] w = {{{numbers((8, 2))}}}> {{
      c = Conv (x, w)
      d = DepthToSpace <blocksize = 2> (c)
      {tail}
    }}"""


# integers


def quantized(
    weights: tuple[int, ...] = (12, 5, 2, 2),
    attributes: str = "strides = [2, 2]",
    per_channel: bool = True,
    dtype: str = "int8",
    weight_zero: int = 0,
) -> str:
    """A ConvTranspose between integers of ``dtype``; weights are uint8 where ``weight_zero`` is given."""
    generator = np.random.default_rng(0)
    inputs, outputs, *_ = weights
    kind = "uint8" if weight_zero else "int8"
    low, high = (0, 256) if weight_zero else (-127, 128)
    integers = ", ".join(map(str, generator.integers(low, high, weights).reshape(-1)))
    count = outputs if per_channel else 1
    scales = np.linspace(0.004, 0.011, count, dtype=np.float32)
    steps = ", ".join(map(str, scales))
    units = ", ".join(str(np.float32(0.02) * scale) for scale in scales)
    biases = ", ".join(map(str, generator.integers(-3000, 3000, outputs)))
    extent = f"[{count}]" if per_channel else ""
    axis, bias_axis = ("<axis = 1>", "<axis = 0>") if per_channel else ("", "")
    zero = {"int8": -7, "uint8": 120, "int16": 0}[dtype]
    result = 0.05 if dtype != "int16" else 0.0002
    many = ", ".join(["0"] * count)
    return f"""{HEADER}
    g ({dtype}[1,{inputs},6,9] x) => ({dtype}[1,{outputs},H,W] y) <
      float xs = {{0.02}}, {dtype} xz = {{{zero}}}, float ys = {{{result}}}, {dtype} yz = {{{zero}}},
      {kind}[{written(weights)}] w = {{{integers}}}, float{extent} ws = {{{steps}}},
      {kind}{extent} wz = {{{", ".join([str(weight_zero)] * count)}}},
      int32[{outputs}] b = {{{biases}}}, float{extent} bs = {{{units}}}, int32{extent} bz = {{{many}}}> {{
      a = DequantizeLinear (x, xs, xz)
      v = DequantizeLinear {axis} (w, ws, wz)
      d = DequantizeLinear {bias_axis} (b, bs, bz)
      c = ConvTranspose <{attributes}> (a, v, d)
      y = QuantizeLinear (c, ys, yz)
    }}"""


def for_accelerators(text: str) -> Lowered:
    """The program that goes into the compiler of an accelerator."""
    model = model_from_proto(onnx.parser.parse_model(text))
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(model)
    options = TargetOptions(precision="int8")
    assert not TARGET.refusals(model, options, integers_only=True)
    return TARGET.lower(model, options, integers_only=True)


def integers_for(dtype: str) -> dict[str, Any]:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(limits.min, limits.max + 1, (1, 12, 6, 9))
    return {"x": values.astype(dtype)}


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(
    "form",
    [
        {"per_channel": True},
        {"per_channel": False},
        {"per_channel": False, "dtype": "uint8", "weight_zero": 117},
    ],
    ids=["per channel", "per tensor", "unsigned"],
)
def test_integers_are_those_of_the_transposed_convolution(form: dict[str, Any], block: int) -> None:
    text = quantized((12, 5, block, block), f"strides = [{block}, {block}]", **form)
    tiled, whole, feeds = lower(text, precision="int8"), for_accelerators(text), integers_for(form.get("dtype", "int8"))
    assert parts(tiled) == {"CONV_2D": 1} | ({"DEPTH_TO_SPACE": 1} if block > 1 else {})
    assert parts(whole) == {"TRANSPOSE_CONV": 1}
    results, expected = run(tiled, feeds)["y"], run(whole, feeds)["y"]
    assert len(np.unique(expected)) > 50
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_and_biases_repeat_for_every_position(per_channel: bool) -> None:
    text = quantized(per_channel=per_channel)
    (tiled,) = [op for op in lower(text, precision="int8").payload.ops if op.code == "CONV_2D"]
    (whole,) = [op for op in for_accelerators(text).payload.ops if op.code == "TRANSPOSE_CONV"]
    for mine, other in zip(tiled.inputs[1:], (whole.inputs[1], whole.inputs[3]), strict=True):
        count = 4 if per_channel else 1
        np.testing.assert_array_equal(mine.scale, np.tile(other.scale, count))
        np.testing.assert_array_equal(mine.zero_point, np.tile(other.zero_point, count))
        assert mine.axis == 0
    np.testing.assert_array_equal(tiled.inputs[2].const.numpy(), np.tile(whole.inputs[3].const.numpy(), 4))


def test_both_operators_have_the_scale_of_the_result() -> None:
    ops = {op.code: op for op in lower(quantized(), precision="int8").payload.ops}
    blocks, placed = ops["CONV_2D"].outputs[0], ops["DEPTH_TO_SPACE"].outputs[0]
    assert blocks.dtype is placed.dtype is DataType.INT8
    assert blocks.scale == placed.scale == np.float32(0.05) and blocks.zero_point == placed.zero_point == -7


def test_activations_of_16_bits_stay() -> None:
    lowered = lower(quantized(dtype="int16"), precision="int16x8")
    assert parts(lowered) == {"TRANSPOSE_CONV": 1}
    assert not lowered.notes, "it runs on integers"


def test_integer_convolutions_that_do_not_tile_stay() -> None:
    assert parts(lower(quantized((12, 5, 3, 3)), precision="int8")) == {"TRANSPOSE_CONV": 1}


def test_dynamic_int8_stores_the_weights_as_those_of_a_convolution() -> None:
    lowered = lower(transposed("strides = [2, 2]", (32, 16, 2, 2), (1, 32, 5, 5)), precision="dynamic-int8")
    (made,) = [op for op in lowered.payload.ops if op.code == "CONV_2D"]
    assert made.inputs[1].dtype is DataType.INT8 and len(made.inputs[1].scale) == 64
    assert any("1 constants are int8" in note for note in lowered.notes)


@pytest.mark.parametrize("target", ["edgetpu", "ethosu"])
def test_accelerators_without_depth_to_space_get_the_transposed_convolution(target: str) -> None:
    chosen: Any = registry.load(target)
    model = model_from_proto(onnx.parser.parse_model(quantized()))
    for item in parse_pipeline(chosen.pipeline):
        item.apply(model)
    program = chosen.lower(model, TargetOptions(precision="int8")).payload.program
    assert [op.code for op in program.ops if op.code in PARTS] == ["TRANSPOSE_CONV"]


# real models


@pytest.mark.download
@pytest.mark.parametrize(
    ("name", "shape", "count"), [("ppocr-det", "x:1,3,160,160", 2), ("centerface", "input.1:1,3,160,160", 3)]
)
def test_real_models_have_none_left(name: str, shape: str, count: int, tmp_path: Any) -> None:
    try:
        path = real_model(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    title, _, dims = shape.partition(":")
    made = edgec.convert(
        path, target="tflite", output=tmp_path / "out", input_shapes={title: tuple(map(int, dims.split(",")))}
    )
    found = TARGET.inspect(made.artifact)["operators"]
    assert found["DEPTH_TO_SPACE"] == count and "TRANSPOSE_CONV" not in found
