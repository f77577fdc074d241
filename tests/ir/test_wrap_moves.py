"""Moved integers become moved real numbers, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.equivalence import apply, model_of, ops_of, random_feeds, rewritten, run

CONSTANTS = "float s = {0.25}, uint8 z = {7}, float t = {0.5}, uint8 v = {9}"


@pytest.mark.parametrize(
    ("moves", "result"),
    [
        ("m = Transpose <perm = [0, 3, 1, 2]> (x)", "2,3,4,5"),
        ("f = Flatten (x) m = Identity (f)", "2,60"),
        ("a, b = Split <axis = 3, num_outputs = 3> (x)  m = Concat <axis = 3> (b, a)", "2,4,5,2"),
        ("c = Transpose <perm = [0, 3, 1, 2]> (x) m = MaxPool <kernel_shape = [2, 2]> (c)", "2,3,3,4"),
        ("m = Max (x, x)", "2,4,5,3"),
        ("c = Constant <value = uint8[1,4,5,3] {%s}> ()  m = Concat <axis = 0> (x, c)", "3,4,5,3"),
    ],
)
def test_behind_an_integer_input(moves: str, result: str) -> None:
    if "%s" in moves:
        moves = moves % ", ".join(str(number) for number in range(60))
    extents = result
    if "Split" in moves:
        moves, extents = moves.replace("a, b =", "a, b, c ="), "2,4,5,2"
    body = f"""g (uint8[2,4,5,3] x) => (float[{extents}] y) <{CONSTANTS}> {{
      {moves}
      y = DequantizeLinear (m, s, z)
    }}"""
    after = rewritten(body, "wrap-moves", exact=True)
    assert all(value.dtype.is_float for node in after.graph.nodes if node.op == "Transpose" for value in node.outputs)
    assert ops_of(after).count("QuantizeLinear") == sum(
        bool(value.use_count) for node in after.graph.nodes if "Linear" not in node.op for value in node.outputs
    )


@pytest.mark.parametrize("fill", ["", ", f"])
def test_padding_keeps_what_it_fills_with(fill: str) -> None:
    body = f"""g (float[2,3] x) => (uint8[4,3] y) <{CONSTANTS}, int64[4] p = {{1, 0, 1, 0}}, uint8 f = {{7}}> {{
      q = QuantizeLinear (x, s, z)
      y = Pad (q, p{fill})
    }}"""
    after = rewritten(body, "wrap-moves", exact=True)
    assert ops_of(after) == ["QuantizeLinear", "DequantizeLinear", "Pad", "QuantizeLinear"]


def test_between_quantizing_and_dequantizing() -> None:
    body = f"""g (float[2,6] x) => (float[3,4] y) <{CONSTANTS}, int64[2] shape = {{3, 4}}> {{
      q = QuantizeLinear (x, s, z)
      m = Reshape (q, shape)
      y = DequantizeLinear (m, s, z)
    }}"""
    after = rewritten(body, "wrap-moves", exact=True)
    assert ops_of(after) == ["QuantizeLinear", "DequantizeLinear", "Reshape", "QuantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize(
    "tail",
    [
        "y = Transpose (x)",  # nobody says what the integers stand for
        "m = Transpose (x) y = Cast <to = 2> (m)",
        "m = Transpose (x) d = DequantizeLinear (m, s, z) c = Cast <to = 2> (m) y = Add (c, c)",
        "m = Transpose (x) d = DequantizeLinear (m, s, z) e = DequantizeLinear (m, t, z) y = Transpose (x)",
        "m = Transpose (x) d = DequantizeLinear (m, s, z) e = DequantizeLinear (x, t, v) y = Transpose (x)",
    ],
)
def test_integers_of_unknown_or_of_two_meanings_are_left_alone(tail: str) -> None:
    body = f"g (uint8[2,3] x) => (uint8[3,2] y{', float[3,2] d' if ' d = ' in tail else ''}) <{CONSTANTS}> {{ {tail} }}"
    model = model_of(body)
    before = ops_of(model)
    apply(model, "fold-constants,wrap-moves")
    assert ops_of(model) == before


def test_the_positions_of_extremes_are_those_of_the_real_numbers() -> None:
    body = f"""g (uint8[2,5] x) => (int64[5] y, float[5,2] d) <{CONSTANTS}> {{
      m = Transpose (x)
      y = ArgMax <axis = 1, keepdims = 0> (m)
      d = DequantizeLinear (m, s, z)
    }}"""
    after = rewritten(body, "wrap-moves", exact=True)
    assert all(node.operand(0).dtype.is_float for node in after.graph.nodes if node.op == "ArgMax")


def test_a_chosen_set_of_operators() -> None:
    body = f"""g (uint8[2,5] x) => (float[5,2] d) <{CONSTANTS}> {{
      m = Transpose (x)
      d = DequantizeLinear (m, s, z)
    }}"""
    model = model_of(body)
    feeds = random_feeds(model)
    (wanted,) = run(model, feeds)
    apply(model, "fold-constants,wrap-moves{ops=Concat+Slice}")
    assert ops_of(model) == ["Transpose", "DequantizeLinear"]
    np.testing.assert_array_equal(run(apply(model, "wrap-moves{ops=Transpose}"), feeds)[0], wanted)
    assert ops_of(model)[0] == "DequantizeLinear"


@pytest.mark.parametrize("move", ["Transpose <perm = [1,0]>", "Identity"])
def test_inputs_and_outputs_can_be_integers(move: str) -> None:
    shape = "3,2" if "Transpose" in move else "2,3"
    body = f"""g (float[2,3] x) => (float[2,3] y) <{CONSTANTS}, int64[2] shape = {{2, 3}}> {{
      m = {move} (x)
      q = QuantizeLinear (m, s, z)
      d = DequantizeLinear (q, s, z)
      y = Reshape (d, shape)
    }}"""
    after = rewritten(body.replace("shape}", shape), "wrap-moves", exact=True)
    assert [ops_of(after)[0], ops_of(after)[-1]] == ["QuantizeLinear", "DequantizeLinear"]
    assert ops_of(after).count("QuantizeLinear") == 3


def test_inputs_that_others_read_too_stay_as_they_are() -> None:
    body = f"""g (float[2,3] x) => (float[3,2] y, float[2,3] w) <{CONSTANTS}> {{
      m = Transpose (x)
      q = QuantizeLinear (m, s, z)
      y = DequantizeLinear (q, s, z)
      w = Relu (x)
    }}"""
    assert ops_of(rewritten(body, "wrap-moves", exact=True))[0] == "Transpose"
