"""Reshapes merge, transpositions cancel, and both keep the values where they were."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import node_of, ops_of, rewritten

SHAPES = "int64[2] flat = {6, 4}, int64[3] three = {2, 3, 4}, int64[1] zero = {0}, int64[1] one = {1}"


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("a = Reshape(x, flat) y = Reshape(a, three)", []),
        ("a = Unsqueeze(x, zero) y = Squeeze(a, zero)", []),
        ("a = Unsqueeze(x, one) b = Reshape(a, flat) y = Reshape(b, three)", []),
    ],
)
def test_a_chain_back_to_the_same_shape_goes(nodes: str, left: list[str]) -> None:
    text = f"g (float[2,3,4] x) => (float[2,3,4] y) <{SHAPES}> {{ {nodes} }}"
    assert ops_of(rewritten(text, "merge-reshapes", exact=True)) == left


def test_a_chain_becomes_one_reshape() -> None:
    text = (
        f"g (float[2,3,4] x) => (float[6,4] y) <{SHAPES}> "
        "{ a = Unsqueeze(x, zero) b = Flatten<axis = 3>(a) y = Identity(b) }"
    )
    model = rewritten(text, "eliminate-identity,merge-reshapes", exact=True)
    assert ops_of(model) == ["Reshape"]
    assert node_of(model, "Reshape").sources == ("Unsqueeze_0", "Flatten_1", "Identity_2")


def test_an_empty_tensor_keeps_its_shape() -> None:
    text = (
        "g (float[0,3] x) => (float[1,1,0,3] y) <int64[1] zero = {0}, int64[1] one = {1}> "
        "{ a = Unsqueeze(x, zero) y = Unsqueeze(a, one) }"
    )
    assert ops_of(rewritten(text, "merge-reshapes", exact=True)) == ["Reshape"]


TRANSPOSES = {
    "undone": ("a = Transpose<perm = [1,2,0]>(x) y = Transpose<perm = [2,0,1]>(a)", []),
    "around elementwise operators": (
        "a = Transpose<perm = [1,2,0]>(x) b = Relu(a) c = Mul(k, b) y = Transpose<perm = [2,0,1]>(c)",
        ["Relu", "Mul"],
    ),
    "around a constant of full shape": (
        "a = Transpose<perm = [1,2,0]>(x) c = Sub(l, a) y = Transpose<perm = [2,0,1]>(c)",
        ["Sub"],
    ),
    "around a join": (
        "a = Transpose<perm = [1,2,0]>(x) b = Transpose<perm = [1,2,0]>(z) c = Add(a, b) "
        "y = Transpose<perm = [2,0,1]>(c)",
        ["Add"],
    ),
}


@pytest.mark.parametrize(("nodes", "left"), TRANSPOSES.values(), ids=TRANSPOSES.keys())
def test_transpositions_cancel(nodes: str, left: list[str]) -> None:
    constants = "float[4,1] k = {1,2,3,4}, float[3,4,2] l = {" + ",".join(str(item) for item in range(24)) + "}"
    text = f"g (float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y) <{constants}> {{ {nodes} }}"
    assert ops_of(rewritten(text, "simplify-transposes", exact=True)) == left


def test_transpositions_merge() -> None:
    text = (
        "g (float[2,3,4] x) => (float[3,2,4] y) "
        "{ a = Transpose<perm = [1,2,0]>(x) r = Relu(a) y = Transpose<perm = [0,2,1]>(r) }"
    )
    model = rewritten(text, "simplify-transposes", exact=True)
    assert ops_of(model) == ["Transpose", "Relu"]
    assert node_of(model, "Transpose").attr_ints("perm") == [1, 0, 2]


def test_a_transposition_that_others_use_stays() -> None:
    text = (
        "g (float[2,3] x) => (float[2,3] y, float[3,2] r) "
        "{ a = Transpose<perm = [1,0]>(x) r = Relu(a) y = Transpose<perm = [1,0]>(r) }"
    )
    assert ops_of(rewritten(text, "simplify-transposes", exact=True)) == ["Transpose", "Relu", "Transpose"]
