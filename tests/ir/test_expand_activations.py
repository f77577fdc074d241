"""Activations are written as sums, products and maxima that compute the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, ops_of, random_feeds, run


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("HardSwish (x)", ["Add", "Clip", "Mul", "Mul"]),
        ("HardSigmoid (x)", ["Mul", "Add", "Clip", "Mul"]),
        ("HardSigmoid <alpha = 0.16666667> (x)", ["Add", "Clip", "Mul"]),
        ("LeakyRelu <alpha = 0.1> (x)", ["Mul", "Max"]),
        ("LeakyRelu <alpha = 1.5> (x)", ["LeakyRelu"]),
        ("LeakyRelu <alpha = -0.5> (x)", ["LeakyRelu"]),
    ],
)
def test_the_parts_compute_the_same(call: str, expected: list[str]) -> None:
    body = f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {call} }}"
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline("expand-activations"):
        item.apply(after)
    assert ops_of(after) == expected
    feeds = {name: 4 * array for name, array in random_feeds(before).items()}
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)


def test_only_those_asked_for_are_expanded() -> None:
    after = model_of("g (float[2] x) => (float[2] t, float[2] y) { t = HardSwish (x) y = LeakyRelu (x) }")
    for item in parse_pipeline("expand-activations{ops=LeakyRelu}"):
        item.apply(after)
    assert ops_of(after) == ["HardSwish", "Mul", "Max"]
