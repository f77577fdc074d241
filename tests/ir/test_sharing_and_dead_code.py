"""Equal expressions are computed once, unused ones not at all."""

from __future__ import annotations

from tests.ir.equivalence import apply, model_of, ops_of, rewritten

CSE = "eliminate-common-subexpressions"


def test_equal_nodes_share_one_result() -> None:
    text = (
        "g (float[3] x) => (float[3] y, float[3] z) <float a = {2}, float b = {2}> "
        "{ p = Mul(x, a) q = Mul(x, b) y = Relu(p) z = Relu(q) }"
    )
    assert ops_of(rewritten(text, CSE, exact=True)) == ["Mul", "Relu"]


def test_other_attributes_types_or_shapes_of_constants_are_not_equal() -> None:
    text = (
        "g (float[3] x) => (float[3] y, float[3] z, float[1,3] v) <float a = {2}, float b = {3}, float[1,1] c = {2}> "
        "{ y = Mul(x, a) z = Mul(x, b) v = Mul(x, c) }"
    )
    assert ops_of(rewritten(text, CSE, exact=True)) == ["Mul"] * 3
    text = "g (float[3] x) => (float[3] y, float[3] z) { y = Elu<alpha = 1.0>(x) z = Elu<alpha = 0.5>(x) }"
    assert ops_of(rewritten(text, CSE, exact=True)) == ["Elu"] * 2


def test_random_operators_are_never_shared() -> None:
    text = "g (float[3] x) => (float[3] y, float[3] z) { y = RandomNormalLike(x) z = RandomNormalLike(x) }"
    assert ops_of(apply(model_of(text), f"fold-constants,{CSE}")) == ["RandomNormalLike"] * 2


def test_dead_code_goes_with_all_that_only_it_used() -> None:
    text = "g (float[3] x) => (float[3] y) { a = Neg(x) b = Exp(a) c = Add(a, b) y = Relu(x) }"
    assert ops_of(rewritten(text, "eliminate-dead-code", exact=True)) == ["Relu"]


def test_a_node_with_one_used_output_stays() -> None:
    text = "g (float[4] x) => (int64[2] i) <int64[1] k = {2}> { v, i = TopK(x, k) d = Relu(v) }"
    assert ops_of(rewritten(text, "eliminate-dead-code", exact=True)) == ["TopK"]


def test_dead_code_in_and_around_bodies() -> None:
    text = (
        "g (float[3] x, bool c) => (float[3] y) { u = Neg(x) y = If(c) <"
        "then_branch = t () => (float[3] a) { d = Exp(u) a = Relu(x) }, "
        "else_branch = e () => (float[3] b) { b = Abs(x) }> }"
    )
    assert ops_of(rewritten(text, "eliminate-dead-code", exact=True)) == ["If", "Relu", "Abs"]
