"""eliminate-identity removes what changes nothing, and nothing else."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import ops_of, rewritten

X = "float[2,3,4,4] x"
GONE = {
    "Identity": "y = Identity(x)",
    "Dropout without training": "y = Dropout(x)",
    "Dropout with training off": (
        "r = Constant<value = float {0.5}>() t = Constant<value = bool {0}>() y = Dropout(x, r, t)"
    ),
    "Cast to the same type": "y = Cast<to = 1>(x)",
    "Cast there and back": "d = Cast<to = 11>(x) y = Cast<to = 1>(d)",
    "Reshape to the same shape": "s = Constant<value = int64[4] {2,3,4,4}>() y = Reshape(x, s)",
    "Reshape that copies extents": "s = Constant<value = int64[4] {0,0,0,-1}>() y = Reshape(x, s)",
    "Transpose by the identity": "y = Transpose<perm = [0,1,2,3]>(x)",
    "Pad by zero": "p = Constant<value = int64[8] {0,0,0,0,0,0,0,0}>() y = Pad(x, p)",
    "Slice of everything": (
        "a = Constant<value = int64[1] {0}>() b = Constant<value = int64[1] {9999}>() "
        "c = Constant<value = int64[1] {2}>() y = Slice(x, a, b, c)"
    ),
    "Expand to the same shape": "s = Constant<value = int64[3] {3,1,4}>() y = Expand(x, s)",
    "Tile once": "s = Constant<value = int64[4] {1,1,1,1}>() y = Tile(x, s)",
    "Concat of one": "y = Concat<axis = 1>(x)",
    "Sum of one": "y = Sum(x)",
    "Max of one": "y = Max(x)",
    "Split into one": "y = Split<axis = 1, num_outputs = 1>(x)",
    "Add zero": "z = Constant<value = float {0.0}>() y = Add(x, z)",
    "zero plus": "z = Constant<value = float[3,1,1] {0.0,0.0,0.0}>() y = Add(z, x)",
    "Sub zero": "z = Constant<value = float {0.0}>() y = Sub(x, z)",
    "Mul one": "o = Constant<value = float[1] {1.0}>() y = Mul(o, x)",
    "Div one": "o = Constant<value = float {1.0}>() y = Div(x, o)",
    "Pow one": "o = Constant<value = float {1.0}>() y = Pow(x, o)",
    "Clip without bounds": "y = Clip(x)",
    "Neg twice": "n = Neg(x) y = Neg(n)",
    "pool of one": "y = MaxPool<kernel_shape = [1,1]>(x)",
    "Resize to the same size": (
        "s = Constant<value = float[4] {1.0,1.0,1.0,1.0}>() "
        'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , s)'
    ),
    "Where with a constant condition": "c = Constant<value = bool {1}>() n = Neg(x) y = Where(c, x, n)",
}


@pytest.mark.parametrize("nodes", GONE.values(), ids=GONE.keys())
def test_removes(nodes: str) -> None:
    model = rewritten(
        f"g ({X}) => (float[2,3,4,4] y) {{ {nodes} }}", "eliminate-identity,eliminate-dead-code", exact=True
    )
    assert ops_of(model) == []


KEPT = {
    "Transpose": "y = Transpose<perm = [0,1,3,2]>(x)",
    "reversing Slice": (
        "a = Constant<value = int64[1] {-1}>() b = Constant<value = int64[1] {-99}>() "
        "c = Constant<value = int64[1] {2}>() d = Constant<value = int64[1] {-1}>() y = Slice(x, a, b, c, d)"
    ),
    "Clip with bounds": "z = Constant<value = float {0.0}>() y = Clip(x, z)",
    "Add one": "o = Constant<value = float {1.0}>() y = Add(x, o)",
    "one minus": "o = Constant<value = float {0.0}>() y = Sub(o, x)",
    "one over": "o = Constant<value = float {1.0}>() y = Div(o, x)",
}


@pytest.mark.parametrize("nodes", KEPT.values(), ids=KEPT.keys())
def test_keeps(nodes: str) -> None:
    model = rewritten(f"g ({X}) => (float[2,3,4,4] y) {{ {nodes} }}", "eliminate-identity", exact=True)
    assert len(ops_of(model)) == 1


def test_keeps_an_addition_of_zeros_that_broadcasts() -> None:
    text = "g (float[4] x) => (float[3,4] y) <float[3,1] z = {0.0, 0.0, 0.0}> { y = Add(x, z) }"
    assert ops_of(rewritten(text, "eliminate-identity", exact=True)) == ["Add"]


def test_keeps_a_cast_that_loses_digits() -> None:
    text = "g (float[4] x) => (float[4] y) { h = Cast<to = 10>(x) y = Cast<to = 1>(h) }"
    assert ops_of(rewritten(text, "eliminate-identity", exact=True)) == ["Cast", "Cast"]


def test_merges_casts_whose_first_loses_nothing() -> None:
    text = "g (bool[4] x) => (float[4] y) { i = Cast<to = 7>(x) y = Cast<to = 1>(i) }"
    assert ops_of(rewritten(text, "eliminate-identity", exact=True)) == ["Cast"]


def test_keeps_dropout_in_training_mode() -> None:
    from tests.ir.equivalence import apply, model_of

    text = "g (float[4] x) => (float[4] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }"
    assert ops_of(apply(model_of(text), "fold-constants,eliminate-identity")) == ["Dropout"]


def test_a_chain_between_input_and_output_leaves_the_interface_alone() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] z) { a = Identity(x) y = Identity(a) z = Identity(y) }"
    assert ops_of(rewritten(text, "eliminate-identity", exact=True)) == []


def test_keeps_dropout_for_its_mask() -> None:
    text = "g (float[4] x) => (float[4] y, bool[4] m) { d, m = Dropout(x) y = Relu(d) }"
    model = rewritten(text, "eliminate-identity", exact=True)
    assert ops_of(model) == ["Dropout", "Relu"]
