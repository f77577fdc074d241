"""A layer normalisation's scale and bias go into the matrix products behind it."""

from __future__ import annotations

import numpy as np

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, node_of, ops_of, random_feeds, run

CONSTANTS = """float[4] s = {0.5, 2.0, -1.5, 3.0}, float[4] b = {0.1, -0.2, 0.3, 0.4},
    float[4,2] w = {1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, -8.0}"""


def same(body: str) -> list[str]:
    """Run the pass, check that nothing changed for ONNX Runtime, and return the operators after it."""
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline("fold-constants,fuse-layernorm"):
        item.apply(after)
    feeds = random_feeds(before)
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    if "LayerNormalization" in ops_of(after):
        layernorm = node_of(after, "LayerNormalization")
        assert layernorm.input(2) is None or layernorm.operand(2).const is not None
    return ops_of(after)


def test_a_product_followed_by_a_bias_absorbs_both() -> None:
    body = f"""g (float[2,3,4] x) => (float[2,3,2] y) <{CONSTANTS}, float[2] c = {{1.0, -1.0}}> {{
        n = LayerNormalization <axis = -1> (x, s, b)
        m = MatMul (n, w)
        y = Add (m, c)
    }}"""
    assert same(body) == ["LayerNormalization", "MatMul", "Add"]


def test_a_product_without_a_bias_gets_one() -> None:
    body = f"""g (float[2,3,4] x) => (float[2,3,2] y) <{CONSTANTS}> {{
        n = LayerNormalization <axis = -1> (x, s, b)
        y = MatMul (n, w)
    }}"""
    assert same(body) == ["LayerNormalization", "MatMul", "Add"]


def test_a_gemm_with_transposed_weights_absorbs_both() -> None:
    body = """g (float[3,4] x) => (float[3,2] y) <float[4] s = {0.5, 2.0, -1.5, 3.0},
        float[4] b = {0.1, -0.2, 0.3, 0.4}, float[2,4] w = {1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, -8.0},
        float[2] c = {1.0, -1.0}> {
        n = LayerNormalization <axis = -1> (x, s, b)
        y = Gemm <transB = 1> (n, w, c)
    }"""
    assert same(body) == ["LayerNormalization", "Gemm"]


def test_a_normalisation_with_another_user_is_left_alone() -> None:
    body = f"""g (float[2,3,4] x) => (float[2,3,2] y, float[2,3,4] z) <{CONSTANTS}> {{
        n = LayerNormalization <axis = -1> (x, s, b)
        y = MatMul (n, w)
        z = Relu (n)
    }}"""
    assert same(body) == ["LayerNormalization", "MatMul", "Relu"]
