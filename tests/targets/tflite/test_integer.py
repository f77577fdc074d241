"""Quantized graphs run on LiteRT's integer kernels and give what ONNX Runtime gives, within one step."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.ir.proto import model_from_proto, model_to_proto
from edgec.targets.base import Lowered
from tests.targets.tflite.lowered import counts, lower, run

HEADER = '<ir_version: 10, opset_import: ["" : 22]>\n'

NUMBERS = ", ".join(str((i * 37) % 255 - 127) for i in range(108))


def convolution(outputs: str, tail: str) -> str:
    """A quantized convolution of a float input, its result ``c`` used by ``tail``."""
    return f"""{HEADER}
  g (float[1,3,6,5] x) => ({outputs})
  <float sx = {{0.05}}, int8 zx = {{-3}}, float sy = {{0.04}}, int8 zy = {{-128}},
   int8[4,3,3,3] w = {{{NUMBERS}}}, float[4] sw = {{0.01, 0.02, 0.005, 0.03}}, int8[4] zw = {{0, 0, 0, 0}},
   int32[4] b = {{100, -200, 300, -400}}, float[4] sb = {{0.0005, 0.001, 0.00025, 0.0015}},
   int32[4] zb = {{0, 0, 0, 0}}> {{
    q = QuantizeLinear (x, sx, zx)
    d = DequantizeLinear (q, sx, zx)
    wd = DequantizeLinear <axis = 0> (w, sw, zw)
    bd = DequantizeLinear <axis = 0> (b, sb, zb)
    c = Conv <pads = [1,1,1,1]> (d, wd, bd)
    {tail}
  }}"""


def check(text: str, step: float, seed: int = 0) -> Lowered:
    """LiteRT's integer kernels are within one step of ONNX Runtime without graph optimisations."""
    proto = onnx.parser.parse_model(text)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model_to_proto(model_from_proto(proto)).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(seed)
    feeds = {}
    for item in session.get_inputs():
        if item.type == "tensor(float)":
            feeds[item.name] = generator.standard_normal(item.shape).astype(np.float32)
        else:
            kind = {"tensor(int8)": np.int8, "tensor(uint8)": np.uint8}[item.type]
            limits = np.iinfo(kind)
            feeds[item.name] = generator.integers(limits.min, limits.max + 1, item.shape).astype(kind)
    expected = session.run(None, feeds)
    lowered = lower(text, precision="int8")
    for (name, array), reference in zip(run(lowered, feeds).items(), expected, strict=True):
        assert array.dtype == reference.dtype, name
        distance = np.abs(array.astype(np.float64) - reference.astype(np.float64)).max()
        assert distance <= step * 1.01, f"{name}: {distance / step:.2f} steps"
    return lowered


def test_a_quantized_convolution_with_relu_is_one_integer_operator() -> None:
    tail = "r = Relu (c) e = QuantizeLinear (r, sy, zy) y = DequantizeLinear (e, sy, zy)"
    lowered = check(convolution("float[1,4,6,5] y", tail), 0.04)
    assert counts(lowered) == {"QUANTIZE": 1, "CONV_2D": 1, "DEQUANTIZE": 1, "TRANSPOSE": 2}


def test_integers_in_and_out_stay_integers() -> None:
    tail = "y = QuantizeLinear (c, sy, zy)"
    assert "DEQUANTIZE" not in counts(check(convolution("int8[1,4,6,5] y", tail), 1))


def test_unsigned_integers_are_held_signed_and_handed_out_unsigned() -> None:
    text = (
        HEADER
        + """
    g (uint8[1,2,4,4] x) => (uint8[1,2,4,4] y) <float s = {0.02}, uint8 z = {100}, float t = {0.05}, uint8 v = {7}> {
      d = DequantizeLinear (x, s, z)
      h = HardSwish (d)
      y = QuantizeLinear (h, t, v)
    }"""
    )
    assert counts(check(text, 1))["HARD_SWISH"] == 1


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_arithmetic_of_differently_scaled_operands(op: str) -> None:
    text = (
        HEADER
        + f"""
    g (float[1,3,4,4] x, float[1,3,4,4] z) => (float[1,3,4,4] y) <float a = {{0.03}}, int8 p = {{5}},
      float b = {{0.02}}, int8 q = {{-9}}, float c = {{0.06}}, int8 r = {{11}}> {{
      x1 = QuantizeLinear (x, a, p)
      x2 = DequantizeLinear (x1, a, p)
      z1 = QuantizeLinear (z, b, q)
      z2 = DequantizeLinear (z1, b, q)
      s = {op} (x2, z2)
      s1 = QuantizeLinear (s, c, r)
      y = DequantizeLinear (s1, c, r)
    }}"""
    )
    assert counts(check(text, 0.06)) == {"QUANTIZE": 2, op.upper(): 1, "DEQUANTIZE": 1}


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Softmax"])
def test_operators_of_fixed_scale_are_requantized_to_the_scale_asked_for(op: str) -> None:
    text = (
        HEADER
        + f"""
    g (float[2,8] x) => (float[2,8] y) <float a = {{0.03}}, int8 p = {{5}}, float c = {{0.0081}}, int8 r = {{-3}}> {{
      x1 = QuantizeLinear (x, a, p)
      x2 = DequantizeLinear (x1, a, p)
      s = {op} (x2)
      s1 = QuantizeLinear (s, c, r)
      y = DequantizeLinear (s1, c, r)
    }}"""
    )
    assert counts(check(text, 0.0081))["QUANTIZE"] == 2


def test_an_operator_without_integer_form_is_computed_in_float_and_that_is_said() -> None:
    text = (
        HEADER
        + """
    g (float[2,8] x) => (float[2,8] y) <float a = {0.03}, int8 p = {5}> {
      x1 = QuantizeLinear (x, a, p)
      x2 = DequantizeLinear (x1, a, p)
      s = LeakyRelu (x2)
      t = Softsign (s)
      s1 = QuantizeLinear (t, a, p)
      y = DequantizeLinear (s1, a, p)
    }"""
    )
    (note,) = check(text, 0.03).notes
    assert "Softsign" in note and "float32" in note


def test_operands_of_a_concatenation_are_brought_to_one_scale() -> None:
    text = (
        HEADER
        + """
    g (float[1,2,4,4] x, float[1,3,4,4] z) => (float[1,5,4,4] y) <float a = {0.03}, int8 p = {5}, float b = {0.02},
      int8 q = {-9}, float c = {0.035}, int8 r = {11}> {
      x1 = QuantizeLinear (x, a, p)
      x2 = DequantizeLinear (x1, a, p)
      z1 = QuantizeLinear (z, b, q)
      z2 = DequantizeLinear (z1, b, q)
      s = Concat <axis = 1> (x2, z2)
      s1 = QuantizeLinear (s, c, r)
      y = DequantizeLinear (s1, c, r)
    }"""
    )
    assert counts(check(text, 0.035))["QUANTIZE"] == 4


def test_an_average_without_its_padding_needs_a_float_factor_and_is_computed_in_float() -> None:
    text = (
        HEADER
        + """
    g (float[1,2,7,7] x) => (float[1,2,4,4] y) <float a = {0.03}, int8 p = {5}> {
      x1 = QuantizeLinear (x, a, p)
      x2 = DequantizeLinear (x1, a, p)
      s = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (x2)
      s1 = QuantizeLinear (s, a, p)
      y = DequantizeLinear (s1, a, p)
    }"""
    )
    check(text, 0.03)


def test_constants_of_int16_reach_operators_that_compute_in_float() -> None:
    text = (
        HEADER
        + """
    g (float[2,4] x) => (float[2,4] y) <int16[4] c = {1000, -2000, 3000, 4000}, float s = {0.001}, int16 z = {0}> {
      d = DequantizeLinear (c, s, z)
      y = Div (x, d)
    }"""
    )
    check(text, 1e-5)


@pytest.mark.parametrize(("op", "result"), [("DepthToSpace", "1,2,6,8"), ("SpaceToDepth", "1,32,3,2")])
def test_blocks_of_int16_are_moved_as_floats(op: str, result: str) -> None:
    text = (
        HEADER
        + f"""
    g (float[1,8,{"3,4" if op == "DepthToSpace" else "6,4"}] x) => (float[{result}] y) <float s = {{0.0002}},
      int16 z = {{0}}> {{
      q = QuantizeLinear (x, s, z)
      a = DequantizeLinear (q, s, z)
      r = {op} <blocksize = 2> (a)
      p = QuantizeLinear (r, s, z)
      y = DequantizeLinear (p, s, z)
    }}"""
    )
    lowered = check(text, 0.0002)
    assert op in " ".join(lowered.notes)


@pytest.mark.parametrize(("window", "stride", "operator"), [(6, 6, "MEAN"), (2, 2, "DEPTHWISE_CONV_2D")])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_averages_to_a_narrower_scale_do_not_cut_what_they_average(
    window: int, stride: int, operator: str, dtype: str
) -> None:
    out = 6 // window
    zeros = (5, -9) if dtype == "int8" else (133, 119)
    text = (
        HEADER
        + f"""
    g ({dtype}[1,3,6,6] x) => ({dtype}[1,3,{out},{out}] y) <float a = {{0.05}}, {dtype} p = {{{zeros[0]}}},
      float b = {{0.011}}, {dtype} q = {{{zeros[1]}}}> {{
      d = DequantizeLinear (x, a, p)
      s = AveragePool <kernel_shape = [{window},{window}], strides = [{stride},{stride}]> (d)
      y = QuantizeLinear (s, b, q)
    }}"""
    )
    lowered = check(text, 1)
    assert counts(lowered)[operator] == 1 and not lowered.notes


@pytest.mark.parametrize("size", ["12, 10", "9, 13"])
def test_images_are_resized_on_integers(size: str) -> None:
    text = (
        HEADER
        + f"""
    g (int8[1,3,6,5] x) => (int8[1,3,{size}] y) <float a = {{0.05}}, int8 p = {{5}},
      int64[4] sizes = {{1, 3, {size}}}> {{
      d = DequantizeLinear (x, a, p)
      s = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (d, , , sizes)
      y = QuantizeLinear (s, a, p)
    }}"""
    )
    assert counts(check(text, 1))["RESIZE_BILINEAR"] == 1


def test_what_is_moved_between_a_product_and_its_quantization_stays_an_integer() -> None:
    numbers = ", ".join(str((i * 37) % 255 - 127) for i in range(48))
    text = (
        HEADER
        + f"""
    g (int8[3,6] x) => (int8[4,3,2] y) <float a = {{0.05}}, int8 p = {{5}}, int8[6,8] w = {{{numbers}}},
      float b = {{0.01}}, int8 q = {{0}}, float c = {{0.6}}, int8 r = {{-9}}, int64[3] shape = {{3, 2, 4}}> {{
      d = DequantizeLinear (x, a, p)
      e = DequantizeLinear (w, b, q)
      m = MatMul (d, e)
      f = Relu (m)
      s = Reshape (f, shape)
      t = Transpose <perm = [2, 0, 1]> (s)
      y = QuantizeLinear (t, c, r)
    }}"""
    )
    lowered = check(text, 1)
    assert not lowered.notes and not {"DEQUANTIZE", "QUANTIZE"} & set(counts(lowered))


def test_what_is_moved_without_being_quantized_again_stays_an_integer() -> None:
    text = (
        HEADER
        + """
    g (int8[3,4] x, int8[3,4] z) => (float[8,3] y, int64[8] k) <float a = {0.05}, int8 p = {5}> {
      d = DequantizeLinear (x, a, p)
      e = DequantizeLinear (z, a, p)
      c = Concat <axis = 1> (d, e)
      y = Transpose (c)
      k = ArgMax <axis = 1, keepdims = 0> (y)
    }"""
    )
    found = counts(check(text, 1e-6))
    assert found["DEQUANTIZE"] == 1 and found["CONCATENATION"] == 1


def test_integers_that_mean_two_things_are_dequantized_twice() -> None:
    text = (
        HEADER
        + """
    g (uint8[3,4] x) => (float[3,4] y, float[3,4] z, int32[3,4] w) <float a = {0.05}, uint8 p = {5},
      float b = {0.5}, uint8 q = {200}> {
      y = DequantizeLinear (x, a, p)
      z = DequantizeLinear (x, b, q)
      w = Cast <to = 6> (x)
    }"""
    )
    check(text, 1e-4)


def test_padding_of_integers_fills_with_the_number_asked_for() -> None:
    text = (
        HEADER
        + """
    g (int8[2,3] x) => (int8[4,3] y) <float a = {0.05}, int8 p = {5}, int64[4] pads = {1, 0, 1, 0},
      float fill = {1.3}> {
      d = DequantizeLinear (x, a, p)
      s = Pad (d, pads, fill)
      y = QuantizeLinear (s, a, p)
    }"""
    )
    assert counts(check(text, 0.1)) == {"PADV2": 1}


UNSIGNED = ", ".join(str((i * 37) % 256) for i in range(108))


@pytest.mark.parametrize("tail", ["Relu", "Clip", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "GlobalAveragePool"])
def test_weights_with_a_zero_point_run_on_the_kernels_for_unsigned_bytes(tail: str) -> None:
    scale, zero = {"Sigmoid": (1 / 256, 0), "Tanh": (1 / 128, 128)}.get(tail, (0.05, 7))
    shape = "1,4,1,1" if tail == "GlobalAveragePool" else "1,4,6,5"
    operands = "m, low, high" if tail == "Clip" else "m"
    text = f"""{HEADER}
  g (uint8[1,3,6,5] x) => (uint8[{shape}] y) <float a = {{0.05}}, uint8 p = {{131}}, uint8[4,3,3,3] w = {{{UNSIGNED}}},
    float b = {{0.002}}, uint8 q = {{117}}, int32[4] c = {{100, -200, 300, -400}}, float u = {{0.0001}},
    float s = {{0.04}}, uint8 z = {{120}}, float t = {{{scale}}}, uint8 v = {{{zero}}}, float low = {{0.0}},
    float high = {{6.0}}> {{
    d = DequantizeLinear (x, a, p)
    wd = DequantizeLinear (w, b, q)
    cd = DequantizeLinear (c, u)
    k = Conv <pads = [1,1,1,1]> (d, wd, cd)
    kq = QuantizeLinear (k, s, z)
    m = DequantizeLinear (kq, s, z)
    r = {tail} ({operands})
    y = QuantizeLinear (r, t, v)
  }}"""
    lowered = check(text, 1)
    assert not lowered.notes and all(
        tensor.dtype.name in ("UINT8", "INT32") for op in lowered.payload.ops for tensor in (*op.inputs, *op.outputs)
    )


@pytest.mark.parametrize("divisor", [6.0, -0.3])
@pytest.mark.parametrize(("dtype", "zero"), [("int8", -20), ("uint8", 108)])
def test_a_division_by_one_number_is_a_product(divisor: float, dtype: str, zero: int) -> None:
    text = (
        HEADER
        + f"""
    g ({dtype}[3,4] x) => ({dtype}[3,4] y) <float a = {{0.05}}, {dtype} p = {{{zero}}}, float d = {{{divisor}}},
      float b = {{{0.06 / abs(divisor)}}}> {{
      r = DequantizeLinear (x, a, p)
      s = Div (r, d)
      y = QuantizeLinear (s, b, p)
    }}"""
    )
    assert counts(check(text, 1)) == {"MUL": 1}
