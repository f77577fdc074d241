"""Operators without integer kernels are written as ones that have them."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, ops_of, random_feeds, run


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("y = HardSigmoid (x)", ["Mul", "Add", "Clip"]),
        ("y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)", ["Add", "Clip", "Mul"]),
        ("y = Div (x, c)", ["Mul"]),
    ],
)
def test_the_parts_compute_the_same(call: str, expected: list[str]) -> None:
    body = f"g (float[2,3,4] x) => (float[2,3,4] y) <float[4] c = {{0.5, -2.0, 3.0, 7.0}}> {{ {call} }}"
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline("fold-constants,decompose"):
        item.apply(after)
    assert ops_of(after) == expected
    feeds = random_feeds(before)
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)


def test_a_division_by_zero_is_left_as_it_is() -> None:
    after = model_of("g (float[2] x) => (float[2] y) <float[2] c = {0.0, 1.0}> { y = Div (x, c) }")
    for item in parse_pipeline("fold-constants,decompose"):
        item.apply(after)
    assert ops_of(after) == ["Div"]


def test_an_average_over_the_whole_image_becomes_a_global_one() -> None:
    """Its result then has a scale of its own; smaller windows stay."""
    for window, expected in (("4, 5", "GlobalAveragePool"), ("2, 5", "AveragePool")):
        call = f"y = AveragePool <kernel_shape = [{window}]> (x)"
        body = f"g (float[2,3,4,5] x) => (float[2,3,N,1] y) {{ {call} }}"
        before, after = model_of(body), model_of(body)
        for item in parse_pipeline("decompose"):
            item.apply(after)
        assert ops_of(after) == [expected]
        feeds = random_feeds(before, 0)
        np.testing.assert_allclose(run(before, feeds)[0], run(after, feeds)[0], rtol=1e-6)
