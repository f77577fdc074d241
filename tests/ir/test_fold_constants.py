"""One sweep types every value, computes what is constant and removes constant control flow."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.errors import ModelError
from tests.ir.equivalence import apply, model_of, node_of, ops_of, rewritten


def test_shape_arithmetic_goes() -> None:
    text = (
        "g (float[2,3,4] x) => (float[2,12] y) <int64 zero = {0}, int64[1] first = {0}, int64[1] rest = {-1}> "
        "{ s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, first) c = Concat<axis = 0>(u, rest) y = Reshape(x, c) }"
    )
    model = rewritten(text, "fold-constants", exact=True)
    assert ops_of(model) == ["Reshape"]
    assert node_of(model, "Reshape").operand(1).numpy().tolist() == [2, -1]


def test_part_of_a_shape_folds_before_all_of_it_is_known() -> None:
    text = "g (float[N,3] x) => (int64[1] y) { y = Shape<start = 1>(x) }"
    assert ops_of(rewritten(text, "fold-constants", exact=True)) == []


def test_results_over_the_limit_stay() -> None:
    text = (
        "g (float[1] x) => (float[100,300] y) <int64[2] s = {100, 300}, float[1] c = {1}> "
        "{ e = Expand(c, s) y = Add(x, e) }"
    )
    assert ops_of(rewritten(text, "fold-constants", exact=True)) == ["Expand", "Add"]
    assert ops_of(rewritten(text, "fold-constants{limit=30000}", exact=True)) == ["Add"]


def test_a_filled_weight_becomes_constant_whatever_its_size() -> None:
    text = (
        "g (float[1,300] x) => (float[1,300] y) <int64[2] s = {300, 300}> "
        "{ w = ConstantOfShape<value = float[1] {0.5}>(s) y = MatMul(x, w) }"
    )
    assert ops_of(rewritten(text, "fold-constants")) == ["MatMul"]


def test_random_operators_stay() -> None:
    text = "g () => (float[3] y) { y = RandomNormal<shape = [3]>() }"
    assert ops_of(apply(model_of(text), "fold-constants")) == ["RandomNormal"]


def test_cast_like_becomes_cast() -> None:
    text = "g (float[3] x, int32[1] t) => (int32[3] y) { y = CastLike(x, t) }"
    assert ops_of(rewritten(text, "fold-constants", exact=True)) == ["Cast"]


@pytest.mark.parametrize(("condition", "op"), [(1, "Relu"), (0, "Abs")])
def test_an_if_with_a_constant_condition_is_its_branch(condition: int, op: str) -> None:
    text = (
        f"g (float[3] x) => (float[3] y) <bool c = {{{condition}}}> {{ y = If(c) <"
        "then_branch = t () => (float[3] a) { a = Relu(x) }, else_branch = e () => (float[3] b) { b = Abs(x) }> }"
    )
    assert ops_of(rewritten(text, "fold-constants", exact=True)) == [op]


def _loop(trips: int) -> str:
    return (
        f"g (float[3] x) => (float[3] y, float[{trips},3] z) <int64 n = {{{trips}}}, bool c = {{1}}> "
        "{ y, z = Loop(n, c, x) <body = b (int64 i, bool k, float[3] s) => (bool l, float[3] t, float[3] u) "
        "{ l = Identity(k) t = Add(s, s) u = Neg(t) }> }"
    )


def test_a_loop_of_constant_length_is_unrolled() -> None:
    model = rewritten(_loop(3), "eliminate-identity,eliminate-dead-code", exact=True)
    assert "Loop" not in ops_of(model) and ops_of(model).count("Add") == 3


def test_unrolling_has_a_limit() -> None:
    with pytest.raises(ModelError) as raised:
        apply(model_of(_loop(50)), "fold-constants{unroll=100}")
    assert raised.value.code == "EDG112"


def test_contradicting_shapes_are_named() -> None:
    with pytest.raises(ModelError) as raised:
        apply(model_of("g (float[3] x, float[4] z) => (float[3] y) { y = Add(x, z) }"), "fold-constants")
    assert raised.value.code == "EDG111"


def test_division_by_a_constant_zero_is_refused() -> None:
    text = "g (int64[1] x) => (int64[1] y) <int64 a = {1}, int64 b = {0}> { d = Div(a, b) y = Add(x, d) }"
    with pytest.raises(ModelError):
        apply(model_of(text), "fold-constants")


def test_a_constant_result_is_handed_out() -> None:
    model = rewritten(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { y = Neg(a) }", "fold-constants", exact=True
    )
    assert model.graph.outputs[0].numpy().tolist() == [-1.0, -2.0]
    assert model.graph.outputs[0].numpy().dtype == np.float32


@pytest.mark.parametrize("zeros", ["", ", p", ", p, q"])
def test_products_of_integers_are_exact_on_every_processor(zeros: str) -> None:
    """ONNX Runtime limits sums of two products of uint8 by int8 to 16 bits on x86-64 processors without VNNI."""
    row, column = ", ".join(["255"] * 8), ", ".join(["127"] * 8)
    text = (
        f"g (int32[1,1] x) => (int32[1,1] y) <uint8[1,8] a = {{{row}}}, int8[8,1] b = {{{column}}}, "
        f"uint8 p = {{3}}, int8 q = {{-7}}> {{ c = MatMulInteger(a, b{zeros}) y = Add(x, c) }}"
    )
    model = apply(model_of(text), "fold-constants")
    assert ops_of(model) == ["Add"]
    (found,) = node_of(model, "Add").operand(1).numpy().reshape(-1).tolist()
    assert found == 8 * (255 - (3 if zeros else 0)) * (127 + (7 if "q" in zeros else 0))
