"""Constants in front of a convolution go into its weights and bias where padding allows it."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import ops_of, rewritten

WEIGHTS = "float[4,2,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4] b = {1, 2, 3, 4}"
SPATIAL = "float[2,1,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}"
CONSTANTS = "float[2,1,1] k = {2, -3}, float s = {0.5}, float o = {0.25}"


@pytest.mark.parametrize("nodes", ["m = Mul(x, k)", "m = Add(k, x)", "m = Mul(s, x)", "n = Mul(x, k) m = Add(n, o)"])
def test_constants_go_into_a_convolution_without_padding(nodes: str) -> None:
    text = f"g (float[1,2,3,3] x) => (float[1,4,3,3] y) <{WEIGHTS}, {CONSTANTS}> {{ {nodes} y = Conv(m, w, b) }}"
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Conv"]


def test_a_multiplication_goes_into_a_padded_convolution() -> None:
    text = (
        f"g (float[1,2,3,3] x) => (float[1,2,4,4] y) <{SPATIAL}, {CONSTANTS}> "
        "{ m = Mul(x, k) y = Conv<group = 2, pads = [1, 1, 1, 1]>(m, w) }"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Conv"]


def test_an_addition_stays_before_padding() -> None:
    text = (
        f"g (float[1,2,3,3] x) => (float[1,2,4,4] y) <{SPATIAL}, {CONSTANTS}> "
        "{ m = Add(x, k) y = Conv<group = 2, pads = [1, 1, 1, 1]>(m, w) }"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Add", "Conv"]


def test_only_the_addition_of_an_affine_block_stays_before_padding() -> None:
    text = (
        f"g (float[1,2,3,3] x) => (float[1,2,4,4] y) <{SPATIAL}, {CONSTANTS}> "
        "{ m = Mul(x, k) a = Add(m, o) y = Conv<group = 2, pads = [1, 1, 1, 1]>(a, w) }"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Add", "Conv"]


def test_a_value_that_others_use_keeps_its_operator() -> None:
    text = (
        f"g (float[1,2,3,3] x) => (float[1,4,3,3] y, float[1,2,3,3] z) <{WEIGHTS}, {CONSTANTS}> "
        "{ m = Mul(x, k) y = Conv(m, w, b) z = Relu(m) }"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Mul", "Conv", "Relu"]


def test_two_convolutions_both_take_the_constant() -> None:
    text = (
        f"g (float[1,2,3,3] x) => (float[1,4,3,3] y, float[1,4,3,3] z) <{WEIGHTS}, {CONSTANTS}> "
        "{ m = Mul(x, k) y = Conv(m, w, b) z = Conv(m, w) }"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Conv", "Conv"]


@pytest.mark.parametrize("step", ["Mul", "Add"])
@pytest.mark.parametrize(("shape", "flag"), [("float[2,3] w = {1,2,3,4,5,6}", 0), ("float[3,2] w = {1,2,3,4,5,6}", 1)])
def test_constants_go_into_a_gemm(step: str, shape: str, flag: int) -> None:
    text = (
        f"g (float[5,2] x) => (float[5,3] y) <{shape}, float[2] c = {{3, -4}}, float[3] b = {{1, 2, 3}}> "
        f"{{ m = {step}(x, c) y = Gemm<transB = {flag}, alpha = 0.5, beta = 2.0>(m, w, b) }}"
    )
    assert ops_of(rewritten(text, "fuse-input-scale")) == ["Gemm"]
