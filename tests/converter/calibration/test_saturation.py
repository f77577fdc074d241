"""Ranges end where the users of a value stop to distinguish numbers."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from edgec.converter.calibration.observers import METHODS
from edgec.converter.calibration.saturation import distinguished, limited
from edgec.converter.calibration.statistics import Statistics
from tests.ir.equivalence import model_of

HEAD = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) "


def bounds(text: str, *, eight_bits: bool = True) -> dict[str, tuple[float, float]]:
    """Name of the value to what its users distinguish."""
    model = model_of(HEAD + text)
    return {value.name: pair for value, pair in distinguished(model.graph, eight_bits=eight_bits).items()}


def test_hard_swish_does_not_see_what_is_below_minus_three() -> None:
    assert bounds("{ y = HardSwish (x) }") == {"x": (-3.0, inf)}


def test_a_second_user_sees_everything() -> None:
    assert bounds("{ a = HardSwish (x) y = Add (a, x) }") == {}


def test_bounds_go_back_through_sums_products_and_moves() -> None:
    found = bounds(
        "<float c = {2.0}, float m = {-0.5}> { a = Add (x, c) b = Mul (a, m) d = MaxPool <kernel_shape=[1,1]> (b)"
        " y = Sigmoid (d) }"
    )
    assert found == {"b": (-7.0, 7.0), "d": (-7.0, 7.0), "a": (-14.0, 14.0), "x": (-16.0, 12.0)}


def test_sigmoid_is_only_limited_for_results_of_eight_bits() -> None:
    assert bounds("{ y = Sigmoid (x) }", eight_bits=False) == {}


def test_an_output_is_seen_whole() -> None:
    model = model_of("g (float[4] x) => (float[4] a, float[4] y) { a = Neg (x) y = HardSwish (a) }")
    assert distinguished(model.graph, eight_bits=True) == {}


@pytest.mark.parametrize("op", ["HardSwish", "Sigmoid", "Tanh", "Relu"])
def test_what_is_cut_off_changes_no_integer(op: str) -> None:
    """Against NumPy: the result before and after the limit is the same, or within half a step of its 8-bit form."""
    functions = {
        "HardSwish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, 0.0),
        "Relu": (lambda x: np.maximum(x, 0), 0.0),
        "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 0.5 / 256),
        "Tanh": (np.tanh, 0.5 / 128),
    }
    function, allowed = functions[op]
    (low, high) = bounds(f"{{ y = {op} (x) }}")["x"]
    numbers = np.linspace(-30, 30, 1201)
    assert np.abs(function(numbers) - function(np.clip(numbers, low, high))).max() <= allowed


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_stays_within_the_limit(method: str) -> None:
    found = Statistics()
    found.add(np.random.default_rng(0).normal(-4, 10, (1, 4, 50, 50)).astype(np.float32))
    chosen = METHODS[method](limited(found, (-3.0, inf)))
    assert -3 <= chosen.low <= 0 < chosen.high <= found.high


def test_the_parts_of_a_hard_swish_see_as_little_as_the_whole() -> None:
    constants = "<float l = {0.0}, float h = {6.0}, float t = {3.0}, float s = {0.16666667}>"
    assert bounds(f"{constants} {{ a = Add (x, t) b = Clip (a, l, h) c = Mul (b, s) y = Mul (x, c) }}")["x"] == (
        -3.0,
        inf,
    )
    assert "x" not in bounds(f"{constants} {{ a = Add (x, t) c = Mul (a, s) y = Mul (x, c) }}")


def test_a_gate_of_several_slopes_is_limited_by_the_flattest() -> None:
    text = (
        "<float[4,1,1,1] w = {1.0, 0.5, 0.25, 2.0}, float[4] b = {3.0, 3.0, 3.0, 3.0}, "
        "float l = {0.0}, float h = {6.0}>"
        " { a = Conv <group = 4> (x, w, b) g = Clip (a, l, h) y = Mul (x, g) }"
    )
    assert bounds(text)["x"] == (-12.0, inf)
