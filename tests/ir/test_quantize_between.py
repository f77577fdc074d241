"""Activations of several nodes between two quantized tensors get inner scales, and move by one step at most."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgec.ir.passes.quantize_between import NOTED, inner_scale_notes, inner_steps
from tests.ir.equivalence import apply, model_of, ops_of, run

PIPELINE = "fold-constants,expand-activations,quantize-between"

FUNCTIONS = {
    "hard-swish": "r = HardSwish (d)",
    "hard-sigmoid": "r = HardSigmoid <alpha = 0.2, beta = 0.5> (d)",
    "leaky-relu": "r = LeakyRelu <alpha = 0.1> (d)",
    "silu": "g = Sigmoid (d) r = Mul (d, g)",
    "hard-swish by parts": "a = Add (d, three) c = Clip (a, low, high) m = Mul (d, c) r = Div (m, high)",
}


def body(function: str, dtype: str, scales: tuple[float, float], zeros: tuple[int, int]) -> str:
    return f"""g ({dtype}[256] x) => ({dtype}[256] y) <float s = {{{scales[0]}}}, {dtype} z = {{{zeros[0]}}},
      float t = {{{scales[1]}}}, {dtype} v = {{{zeros[1]}}}, float three = {{3.0}}, float low = {{0.0}},
      float high = {{6.0}}> {{
      d = DequantizeLinear (x, s, z)
      {FUNCTIONS[function]}
      y = QuantizeLinear (r, t, v)
    }}"""


def every(dtype: str) -> dict[str, Any]:
    limits = np.iinfo(dtype)
    return {"x": np.arange(limits.min, limits.max + 1).astype(dtype)}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_number_is_within_one_step(function: str, dtype: str) -> None:
    down = 128 if dtype == "int8" else 0
    scale = {"hard-sigmoid": 0.004, "leaky-relu": 0.03}.get(function, 0.025)
    zero = 20 - (128 if dtype == "int8" else 0)
    if function == "hard-sigmoid":
        zero = -128 if dtype == "int8" else 0
    text = body(function, dtype, (0.047, scale), (133 - down, zero))
    before, after = model_of(text), apply(model_of(text), PIPELINE)
    assert all(
        user.op == "QuantizeLinear" or user.op in ("Clip", "Relu")
        for node in after.graph.nodes
        if "Linear" not in node.op
        for user in node.output.users
    )
    wanted, found = run(before, every(dtype))[0], run(after, every(dtype))[0]
    assert np.abs(wanted.astype(np.int64) - found).max() <= 1
    (noted,) = json.loads(after.metadata[NOTED])
    assert noted["steps"] <= 1 and len(inner_scale_notes(after)) == 1 and inner_steps(after) == noted["steps"]
    assert inner_steps(before) == 0


def test_what_would_move_further_is_left_in_float() -> None:
    text = body("hard-swish", "int8", (0.047, 0.001), (5, -100))
    after = apply(model_of(text), PIPELINE)
    assert ops_of(after).count("QuantizeLinear") == 1 and not inner_scale_notes(after)


def test_functions_of_two_tensors_and_results_that_others_read_are_left_alone() -> None:
    parameters = "float s = {0.05}, int8 z = {5}"
    for text in (
        f"""g (int8[4] x, int8[4] w) => (int8[4] y) <{parameters}> {{
          d = DequantizeLinear (x, s, z) e = DequantizeLinear (w, s, z) g = Sigmoid (e) r = Mul (d, g)
          y = QuantizeLinear (r, s, z) }}""",
        f"""g (int8[4] x) => (int8[4] y, float[4] g) <{parameters}> {{
          d = DequantizeLinear (x, s, z) g = Sigmoid (d) r = Mul (d, g) y = QuantizeLinear (r, s, z) }}""",
    ):
        model = apply(model_of(text), "fold-constants")
        before = ops_of(model)
        assert ops_of(apply(model, "quantize-between")) == before
