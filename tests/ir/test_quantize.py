"""QDQ pairs are written under a target's rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.ir.graph import Model
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.passes.quantize import Quantize
from edgec.ir.quantization import Fixed, QuantizationRules, Range, affine
from edgec.ir.types import DataType
from tests.ir.equivalence import model_of, ops_of, random_feeds, run

RULES = QuantizationRules(
    DataType.INT8,
    False,
    frozenset("Conv Relu Add Concat MaxPool Sigmoid Gemm".split()),
    frozenset({"Concat", "MaxPool"}),
    {"Sigmoid": Fixed(1 / 256, -128)},
)


def typed(body: str) -> Model:
    model = model_of(body)
    for item in parse_pipeline("fold-constants"):
        item.apply(model)
    return model


def quantized(body: str, ranges: dict[str, Range], keep: frozenset[str] = frozenset()) -> Model:
    model = typed(body)
    assert Quantize(RULES, ranges, keep).apply(model)
    return model


def pairs(model: Model) -> dict[str, tuple[float, int]]:
    """Scale and zero point by the name of the value that is quantized."""
    return {
        node.operand(0).name: (float(node.operand(1).numpy()), int(node.operand(2).numpy()))
        for node in model.graph.nodes
        if node.op == "QuantizeLinear"
    }


def test_a_convolution_with_relu_is_quantized_as_one() -> None:
    body = """g (float[1,2,3,3] x) => (float[1,1,3,3] y) <float[1,2,1,1] w = {1.0, -0.5}, float[1] b = {0.25}> {
      c = Conv (x, w, b)
      y = Relu (c)
    }"""
    model = quantized(body, {"x": Range(-1, 1), "c": Range(-2, 2), "y": Range(0, 2)})
    assert set(pairs(model)) == {"x", "y"}
    assert ops_of(model).count("DequantizeLinear") == 4  # x, y, weights, bias
    feeds = {"x": np.random.default_rng(0).uniform(-1, 1, (1, 2, 3, 3)).astype(np.float32)}
    (expected,), (found,) = run(model_of(body), feeds), run(model, feeds)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_values_that_share_a_scale_get_the_union_of_their_ranges() -> None:
    body = "g (float[1,2] a, float[1,2] b) => (float[1,4] y) { y = Concat <axis = 1> (a, b) }"
    found = pairs(quantized(body, {"a": Range(-1, 1), "b": Range(0, 4), "y": Range(-1, 4)}))
    assert found["a"] == found["b"] == found["y"] == affine(Range(-1, 4), DataType.INT8, False)


def test_a_prescribed_scale_is_used_and_does_not_spread() -> None:
    body = """g (float[1,2] a, float[1,2] b) => (float[1,4] y) {
      s = Sigmoid (a)
      y = Concat <axis = 1> (s, b)
    }"""
    found = pairs(quantized(body, {"a": Range(-1, 1), "s": Range(0, 1), "b": Range(0, 4), "y": Range(0, 4)}))
    assert found["s"] == (1 / 256, -128)
    assert found["y"] == affine(Range(0, 4), DataType.INT8, False)


def test_nodes_to_keep_stay_in_float() -> None:
    body = "g (float[1,2] x) => (float[1,2] y) { a = Relu (x) y = Sigmoid (a) }"
    model = typed(body)
    names = frozenset(node.name for node in model.graph.nodes)
    assert not Quantize(RULES, {"x": Range(0, 1), "a": Range(0, 1), "y": Range(0, 1)}, names).apply(model)


def test_a_value_without_a_range_keeps_its_node_in_float() -> None:
    body = "g (float[1,2] x) => (float[1,2] y) { a = Relu (x) y = Sigmoid (a) }"
    found = pairs(quantized(body, {"x": Range(0, 1), "a": Range(0, 1)}))
    assert set(found) == {"x", "a"}


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.booleans())
def test_every_range_is_covered_and_zero_is_exact(first: float, second: float, symmetric: bool) -> None:
    low, high = min(first, second), max(first, second)
    scale, zero = affine(Range(low, high), DataType.INT8, symmetric)
    assert scale > 0 and -128 <= zero <= 127
    if max(-low, high) > 1e-30:  # below, nothing is left of the range
        assert (-128 - zero) * scale <= min(low, 0.0) + scale and (127 - zero) * scale >= max(high, 0.0) - scale


@pytest.mark.parametrize("seed", [0, 1])
def test_int16_activations_are_symmetric_and_close(seed: int) -> None:
    rules = QuantizationRules(DataType.INT16, True, frozenset({"Add"}), frozenset())
    body = "g (float[8] x, float[8] z) => (float[8] y) { y = Add (x, z) }"
    model = typed(body)
    assert Quantize(rules, {"x": Range(-8, 8), "z": Range(-8, 8), "y": Range(-16, 16)}).apply(model)
    assert all(zero == 0 for _, zero in pairs(model).values())
    feeds = random_feeds(model, seed)
    (expected,), (found,) = run(model_of(body), feeds), run(model, feeds)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_biases_beside_weights_that_are_nearly_zero_leave_room_for_sums() -> None:
    body = """g (float[1,1,4,4] x) => (float[1,2,4,4] y)
      <float[2,1,1,1] w = {1e-9, 0.5}, float[2] b = {-0.3, 0.2}> { y = Conv (x, w, b) }"""
    model = quantized(body, {"x": Range(-1, 1), "y": Range(-1, 1)})
    (conv,) = [node for node in model.graph.nodes if node.op == "Conv"]
    bias = conv.operand(2).producer
    assert bias is not None
    whole, scale = bias.operand(0).numpy().astype(np.int64), bias.operand(1).numpy()
    assert np.abs(whole).max() <= 2**30
    np.testing.assert_allclose(whole * scale, [-0.3, 0.2], rtol=1e-3)


@pytest.mark.parametrize("high", [0.5, 1.0, 0.9995, 4.0, 2.0**-9])
def test_no_scale_of_16_bits_is_taken_for_a_power_of_two(high: float) -> None:
    scale, zero = affine(Range(-high, high), DataType.INT16, True)
    power = np.log2(scale)
    assert zero == 0 and abs(power - round(power)) > 1e-3, "LiteRT's additions take it for one up to there"
    assert high / 32767 <= scale < 1.004 * high / 32767
