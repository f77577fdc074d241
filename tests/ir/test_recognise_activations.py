"""Chains that exporters write become the operator that they compute, and only where they compute it."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import node_of, ops_of, rewritten

CONSTANTS = (
    "float zero = {0}, float half = {0.5}, float one = {1}, float two = {2}, float three = {3}, float six = {6}, "
    "float sixth = {0.16666667}, float[1] onetensor = {1}, float root = {1.4142135}, float inverse = {0.70710677}, "
    "float tenth = {0.1}, float minus = {-0.1}, float cubic = {0.044715}, float factor = {0.7978846}, "
    "float twenty = {20}, float[3,1,1] slope = {0.1, 0.2, 1.5}, float[3,1,1] negative = {-0.1, -0.2, -1.5}"
)
ERF = "q = Div(x, root) e = Erf(q) p = Add(e, one)"
TANH = "c = Pow(x, three) k = Mul(c, cubic) s = Add(x, k) m = Mul(factor, s) t = Tanh(m) p = Add(one, t)"
RELU6 = "a = Add(x, three) r = Clip(a, zero, six)"

CHAINS = {
    "Relu of Max": ("y = Max(x, zero)", "Relu"),
    "Relu of Clip": ("y = Clip(x, zero)", "Relu"),
    "Clip of Relu and Min": ("r = Relu(x) y = Min(r, six)", "Clip"),
    "Clip of Relu and Clip": ("r = Relu(x) y = Clip(r, minus, six)", "Clip"),
    "Clip and Relu": ("r = Clip(x, minus, six) y = Relu(r)", "Clip"),
    "Clip of Min and Max": ("r = Min(x, six) y = Max(minus, r)", "Clip"),
    "Sigmoid": ("n = Neg(x) e = Exp(n) d = Add(one, e) y = Div(onetensor, d)", "Sigmoid"),
    "Sigmoid by Reciprocal": ("n = Neg(x) e = Exp(n) d = Add(e, one) y = Reciprocal(d)", "Sigmoid"),
    "Softplus": ("e = Exp(x) a = Add(e, one) y = Log(a)", "Softplus"),
    "Softplus with threshold": (
        "g = Greater(x, twenty) e = Exp(x) a = Add(one, e) l = Log(a) y = Where(g, x, l)",
        "Softplus",
    ),
    "Softsign": ("m = Abs(x) a = Add(one, m) y = Div(x, a)", "Softsign"),
    "HardSigmoid": ("m = Mul(x, tenth) a = Add(m, half) y = Clip(a, zero, one)", "HardSigmoid"),
    "HardSigmoid by Div": (f"{RELU6} y = Div(r, six)", "HardSigmoid"),
    "HardSigmoid by Mul": (f"{RELU6} y = Mul(sixth, r)", "HardSigmoid"),
    "HardSigmoid by Relu and Min": ("a = Add(x, three) r = Relu(a) m = Min(r, six) y = Div(m, six)", "HardSigmoid"),
    "HardSwish x * (relu6 / 6)": (f"{RELU6} d = Div(r, six) y = Mul(x, d)", "HardSwish"),
    "HardSwish (x * relu6) / 6": (f"{RELU6} d = Mul(r, x) y = Div(d, six)", "HardSwish"),
    "HardSwish (x * relu6) * sixth": (f"{RELU6} d = Mul(x, r) y = Mul(d, sixth)", "HardSwish"),
    "HardSwish (x / 6) * relu6": (f"{RELU6} d = Div(x, six) y = Mul(d, r)", "HardSwish"),
    "HardSwish of HardSigmoid": ("h = HardSigmoid<alpha = 0.1666667, beta = 0.5>(x) y = Mul(h, x)", "HardSwish"),
    "Mish": ("s = Softplus(x) t = Tanh(s) y = Mul(t, x)", "Mish"),
    "Mish of chains": ("e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t)", "Mish"),
    "Gelu by PyTorch": (f"{ERF} m = Mul(x, p) y = Mul(m, half)", "Gelu"),
    "Gelu by Paddle": (f"{ERF} h = Mul(p, half) y = Mul(x, h)", "Gelu"),
    "Gelu by TensorFlow": ("q = Mul(x, inverse) e = Erf(q) p = Add(one, e) h = Mul(x, half) y = Mul(h, p)", "Gelu"),
    "Gelu with the half inside": (
        "q = Div(x, root) e = Erf(q) h = Mul(half, e) p = Add(half, h) y = Mul(x, p)",
        "Gelu",
    ),
    "Gelu divided by two": (f"{ERF} m = Mul(x, p) y = Div(m, two)", "Gelu"),
    "Gelu with tanh": (f"{TANH} h = Mul(half, x) y = Mul(h, p)", "Gelu"),
    "Gelu with tanh and products": (
        "v = Mul(x, x) w = Mul(v, x) k = Mul(cubic, w) s = Add(x, k) m = Mul(s, factor) t = Tanh(m) "
        "p = Add(t, one) h = Mul(x, p) y = Mul(h, half)",
        "Gelu",
    ),
    "Gelu with tanh, factored": (
        "v = Mul(x, x) k = Mul(cubic, v) s = Add(one, k) n = Mul(factor, x) m = Mul(n, s) t = Tanh(m) "
        "p = Add(t, one) h = Mul(x, p) y = Mul(h, half)",
        "Gelu",
    ),
    "LeakyRelu by Max": ("s = Mul(tenth, x) y = Max(x, s)", "LeakyRelu"),
    "LeakyRelu by Where": ("g = Greater(x, zero) s = Mul(x, tenth) y = Where(g, x, s)", "LeakyRelu"),
    "LeakyRelu by inverted Where": ("g = Less(x, zero) s = Mul(x, tenth) y = Where(g, s, x)", "LeakyRelu"),
    "LeakyRelu by two Relu": ("r = Relu(x) n = Neg(x) q = Relu(n) s = Mul(tenth, q) y = Sub(r, s)", "LeakyRelu"),
    "LeakyRelu by a sum": ("r = Relu(x) n = Neg(x) q = Relu(n) s = Mul(minus, q) y = Add(r, s)", "LeakyRelu"),
    "PRelu by Keras": ("r = Relu(x) n = Neg(x) q = Relu(n) s = Mul(negative, q) y = Add(r, s)", "PRelu"),
    "PRelu by a difference": ("r = Relu(x) n = Neg(x) q = Relu(n) s = Mul(slope, q) y = Sub(r, s)", "PRelu"),
    "PRelu by MXNet": (
        "r = Relu(x) a = Abs(x) d = Sub(x, a) s = Mul(slope, d) h = Mul(s, half) y = Add(h, r)",
        "PRelu",
    ),
}


@pytest.mark.parametrize(("nodes", "op"), CHAINS.values(), ids=CHAINS.keys())
def test_recognises(nodes: str, op: str) -> None:
    text = f"g (float[2,3,4,4] x) => (float[2,3,4,4] y) <{CONSTANTS}> {{ {nodes} }}"
    assert ops_of(rewritten(text, "recognise-activations,eliminate-dead-code")) == [op]


OTHERS = {
    "another slope": "h = HardSigmoid<alpha = 0.2, beta = 0.5>(x) y = Mul(h, x)",
    "another operand": "n = Neg(x) s = Softplus(x) t = Tanh(s) y = Mul(t, n)",
    "another divisor": f"{RELU6} d = Div(r, two) y = Mul(x, d)",
    "another half": f"{ERF} m = Mul(x, p) y = Mul(m, tenth)",
    "a steep Max": "s = Mul(two, x) y = Max(x, s)",
    "crossed bounds": "r = Max(x, six) y = Min(r, zero)",
    "a Clip below zero": "r = Relu(x) y = Min(r, minus)",
}


@pytest.mark.parametrize("nodes", OTHERS.values(), ids=OTHERS.keys())
def test_leaves_alone(nodes: str) -> None:
    text = f"g (float[2,3,4,4] x) => (float[2,3,4,4] y) <{CONSTANTS}> {{ {nodes} }}"
    found = ops_of(rewritten(text, "recognise-activations"))
    assert not {"HardSwish", "Mish", "Gelu", "LeakyRelu"} & set(found)


def test_a_constant_of_higher_rank_keeps_the_shape() -> None:
    text = "g (float[3] x) => (float[1,1,3] y) <float[1,1,1] z = {0}> { y = Max(x, z) }"
    assert ops_of(rewritten(text, "recognise-activations")) == ["Max"]


def test_keeps_intermediate_results_that_others_use() -> None:
    text = f"g (float[3] x) => (float[3] y, float[3] r) <{CONSTANTS}> {{ {RELU6} d = Div(r, six) y = Mul(x, d) }}"
    assert ops_of(rewritten(text, "recognise-activations")) == ["Add", "Clip", "HardSwish"]


def test_names_every_source_node() -> None:
    text = f"g (float[3] x) => (float[3] y) <{CONSTANTS}> {{ s = Softplus(x) t = Tanh(s) y = Mul(t, x) }}"
    model = rewritten(text, "recognise-activations")
    assert node_of(model, "Mish").sources == ("Softplus_0", "Tanh_1", "Mul_2")
