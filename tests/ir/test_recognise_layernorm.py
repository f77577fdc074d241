"""Layer normalisation written as a chain becomes one operator."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import node_of, ops_of, rewritten

CONSTANTS = (
    "int64[1] last = {-1}, int64[2] both = {1, 2}, int64[1] first = {0}, float two = {2}, float eps = {0.00001}, "
    "float one = {1}, float power = {-0.5}, float[4] s = {1, 2, 3, 4}, float[1,1,4] b = {5, 6, 7, 8}"
)
CENTRE = "m = ReduceMean(x, last) d = Sub(x, m)"
VARIANCE = f"{CENTRE} q = Pow(d, two) v = ReduceMean(q, last) e = Add(v, eps)"
CHAINS = {
    "PyTorch": f"{VARIANCE} r = Sqrt(e) y = Div(d, r)",
    "squares as products": f"{CENTRE} q = Mul(d, d) v = ReduceMean(q, last) e = Add(eps, v) r = Sqrt(e) y = Div(d, r)",
    "Reciprocal": f"{VARIANCE} r = Sqrt(e) i = Reciprocal(r) y = Mul(i, d)",
    "power": f"{VARIANCE} i = Pow(e, power) y = Mul(d, i)",
    "scale": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) y = Mul(s, n)",
    "scale and bias": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) k = Mul(n, s) y = Add(k, b)",
    "bias alone": f"{VARIANCE} r = Sqrt(e) n = Div(d, r) y = Add(b, n)",
    "difference written twice": (
        "m = ReduceMean(x, last) d = Sub(x, m) f = Sub(x, m) q = Pow(f, two) v = ReduceMean(q, last) "
        "e = Add(v, eps) r = Sqrt(e) y = Div(d, r)"
    ),
    "two axes": (
        "m = ReduceMean(x, both) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, both) e = Add(v, eps) "
        "r = Sqrt(e) y = Div(d, r)"
    ),
}


@pytest.mark.parametrize("nodes", CHAINS.values(), ids=CHAINS.keys())
def test_recognises(nodes: str) -> None:
    text = f"g (float[2,3,4] x) => (float[2,3,4] y) <{CONSTANTS}> {{ {nodes} }}"
    pipeline = "eliminate-common-subexpressions,recognise-layernorm,eliminate-dead-code"
    model = rewritten(text, pipeline)
    assert ops_of(model) == ["LayerNormalization"]
    assert "ReduceMean_0" in node_of(model, "LayerNormalization").sources


def test_leaves_means_over_leading_axes_alone() -> None:
    text = (
        f"g (float[2,3,4] x) => (float[2,3,4] y) <{CONSTANTS}> {{ m = ReduceMean(x, first) d = Sub(x, m) "
        "q = Pow(d, two) v = ReduceMean(q, first) e = Add(v, eps) r = Sqrt(e) y = Div(d, r) }"
    )
    assert "LayerNormalization" not in ops_of(rewritten(text, "recognise-layernorm"))


def test_leaves_a_scale_over_other_axes_alone() -> None:
    text = (
        f"g (float[2,3,4] x) => (float[2,3,4] y) <{CONSTANTS}, float[3,1] k = {{1, 2, 3}}> "
        f"{{ {VARIANCE} r = Sqrt(e) n = Div(d, r) y = Mul(n, k) }}"
    )
    assert ops_of(rewritten(text, "recognise-layernorm,eliminate-dead-code")) == ["LayerNormalization", "Mul"]
