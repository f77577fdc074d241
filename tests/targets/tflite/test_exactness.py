"""Models that arrive quantized give ONNX's integers, not only some within a step of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto, model_to_proto
from edgec.targets.base import Lowered, TargetOptions
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.integer.exactness import LITERT, ORIGIN
from tests.targets.tflite.lowered import counts, lower, run

KERNELS = {
    "HardSwish (d)": "HARD_SWISH",
    "Add (d, e)": "ADD",
    "Sub (d, e)": "SUB",
    "LeakyRelu <alpha = 0.1> (d)": "LEAKY_RELU",
    "Abs (d)": "ABS",
    "Relu (d)": "RELU",
    "Clip (d, none, six)": "RELU6",
    "Sigmoid (d)": "LOGISTIC",
    "Tanh (d)": "TANH",
    "Concat <axis = 1> (d, e)": "CONCATENATION",
    "Max (d, e)": "MAXIMUM",
}
"""Expressions whose integer kernels round otherwise, and the operator that computes them either way."""

EXACT = ["Mul (d, e)", "Elu (d)", "Exp (d)"]
"""Expressions whose integer kernels round once, half to even."""


def expression(text: str, result: float, zero: int = -40) -> str:
    """A function of two quantized images, quantized again."""
    return f"""<ir_version: 10, opset_import: ["" : 22]>
    g (int8[1,8,16,16] x, int8[1,8,16,16] w) => (int8[a,b,c,d] y) <float s = {{0.0473}}, int8 p = {{-7}},
      float t = {{0.0211}}, int8 q = {{23}}, float u = {{{result}}}, int8 v = {{{zero}}}, float none = {{0.0}},
      float six = {{6.0}}> {{
      d = DequantizeLinear (x, s, p)
      e = DequantizeLinear (w, t, q)
      r = {text}
      y = QuantizeLinear (r, u, v)
    }}"""


def differing(lowered: Lowered, text: str) -> int:
    """How many integers are not those of float arithmetic in ONNX Runtime."""
    proto = model_to_proto(model_from_proto(onnx.parser.parse_model(text)))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feeds = {item.name: generator.integers(-128, 128, item.shape).astype(np.int8) for item in session.get_inputs()}
    (found,) = run(lowered, feeds).values()
    return int((found != session.run(None, feeds)[0]).sum())


@pytest.mark.parametrize("text", list(KERNELS))
def test_kernels_that_round_otherwise_are_avoided(text: str) -> None:
    differences = 0
    for result in (0.0301, 0.0173, 0.0077, 0.0525, 0.0631, 0.0951):
        whole = expression(text, result)
        lowered = lower(whole)
        assert differing(lowered, whole) == 0
        held = counts(lowered)
        assert held["DEQUANTIZE"] >= 1 and held[KERNELS[text]] == 1
        integers = lower(whole, precision="int8")
        assert counts(integers)["DEQUANTIZE"] == 0
        differences += differing(integers, whole)
    assert differences or text.startswith(("Add", "Sub", "Max")), "the integer kernel would have done"


@pytest.mark.parametrize("text", EXACT)
def test_kernels_that_round_once_are_kept(text: str) -> None:
    whole = expression(text, 0.0301)
    lowered = lower(whole)
    assert not {"DEQUANTIZE", "QUANTIZE"} & set(counts(lowered))
    assert differing(lowered, whole) == 0


def test_an_addition_rounds_ties_to_even() -> None:
    """XNNPACK's integer kernel rounds them up."""
    whole = expression("Add (d, e)", 0.5, 0).replace("0.0473", "0.25").replace("0.0211", "0.25")
    assert differing(lower(whole), whole) == 0
    assert differing(lower(whole, precision="int8"), whole) > 0


def test_float_inputs_are_divided_by_the_scale() -> None:
    """XNNPACK multiplies by its reciprocal, which decides ties of pixels between 0 and 1 the other way."""
    text = """<ir_version: 10, opset_import: ["" : 22]>
    g (float[1,3,16,16] x) => (uint8[1,3,16,16] y) <float s = {0.0039215651}, uint8 p = {3}> {
      y = QuantizeLinear (x, s, p)
    }"""
    scale = np.float32(0.0039215651)
    x = ((np.arange(768) % 256 + np.float32(0.5)) * scale).astype(np.float32).reshape(1, 3, 16, 16)
    expected = np.clip(np.round(x / scale) + 3, 0, 255).astype(np.uint8)
    assert (np.clip(np.round(x * (1 / scale)) + 3, 0, 255) != expected).any()
    np.testing.assert_array_equal(run(lower(text), {"x": x})["y"], expected)


def test_an_average_rounds_ties_to_even() -> None:
    """AVERAGE_POOL_2D rounds them away from zero; ONNX Runtime sums scaled floats, which decides ties by chance."""
    lowered = lower(expression("AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (d)", 0.0473, -7))
    x = np.random.default_rng(0).integers(-128, 128, (1, 8, 16, 16)).astype(np.int8)
    (found,) = run(lowered, {"x": x, "w": x}).values()
    sums = (x.astype(np.float64) + 7).reshape(1, 8, 8, 2, 8, 2).sum(axis=(3, 5))
    np.testing.assert_array_equal(found, np.clip(np.round(sums / 4) - 7, -128, 127).astype(np.int8))
    assert (sums % 4 == 2).any()


def test_what_is_computed_in_float_is_said() -> None:
    (note,) = lower(expression("HardSwish (d)", 0.03)).notes
    assert "1 HardSwish" in note and "--precision int8" in note
    assert not lower(expression("HardSwish (d)", 0.03), precision="int8").notes


def test_one_scale_on_both_sides_needs_no_float() -> None:
    for text, scale, zero in (("Relu (d)", 0.0473, -7), ("Sigmoid (d)", 1 / 256, -128), ("Tanh (d)", 1 / 128, 0)):
        whole = expression(text, scale, zero)
        lowered = lower(whole)
        assert "DEQUANTIZE" not in counts(lowered)
        assert differing(lowered, whole) == 0


def test_a_model_from_litert_means_its_kernels() -> None:
    model = model_from_proto(onnx.parser.parse_model(expression("HardSwish (d)", 0.03)))
    model.metadata[ORIGIN] = LITERT
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(model)
    assert counts(TARGET.lower(model, TargetOptions())) == {"HARD_SWISH": 1}


def test_accelerators_get_integers_only() -> None:
    model = model_from_proto(onnx.parser.parse_model(expression("HardSwish (d)", 0.03)))
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(model)
    assert counts(TARGET.lower(model, TargetOptions(), integers_only=True)) == {"HARD_SWISH": 1}
