"""Large means and large enlargements are taken in steps; the numbers stay what they are."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, ops_of, random_feeds, run


def rewritten(body: str, pipeline: str) -> list[str]:
    """Operators after the passes; the outputs are compared."""
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline(pipeline):
        item.apply(after)
    feeds = random_feeds(before)
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)
    return ops_of(after)


@pytest.mark.parametrize(
    ("height", "width", "parts"), [(80, 80, 2), (96, 44, 2), (64, 64, 1), (4099, 1, 1), (83, 89, 2), (256, 128, 2)]
)
def test_means(height: int, width: int, parts: int) -> None:
    body = f"g (float[1,2,{height},{width}] x) => (float[1,2,1,1] y) {{ y = GlobalAveragePool (x) }}"
    found = rewritten(body, "split-means")
    assert found == ["AveragePool", "GlobalAveragePool"][-parts:]


def test_the_limit_is_an_option() -> None:
    body = "g (float[1,2,8,8] x) => (float[1,2,1,1] y) { y = GlobalAveragePool (x) }"
    assert rewritten(body, "split-means{limit=16}") == ["AveragePool", "GlobalAveragePool"]


@pytest.mark.parametrize(
    ("factor", "coordinates", "rounding", "count"),
    [
        (4, "asymmetric", "floor", 2),
        (8, "asymmetric", "floor", 3),
        (8, "half_pixel", "round_prefer_floor", 3),
        (4, "pytorch_half_pixel", "round_prefer_floor", 2),
        (2, "asymmetric", "floor", 1),
        (3, "asymmetric", "floor", 1),
        (6, "asymmetric", "floor", 1),
        (4, "asymmetric", "round_prefer_floor", 1),
        (4, "align_corners", "floor", 1),
    ],
)
def test_resizes(factor: int, coordinates: str, rounding: str, count: int) -> None:
    large = 5 * factor
    modes = f'coordinate_transformation_mode = "{coordinates}", nearest_mode = "{rounding}", mode = "nearest"'
    body = (
        f"g (float[1,2,5,5] x) => (float[1,2,{large},{large}] y) "
        f"<float[4] s = {{1.0, 1.0, {factor}.0, {factor}.0}}> {{ y = Resize <{modes}> (x, , s) }}"
    )
    assert rewritten(body, "split-resizes") == ["Resize"] * count


def test_linear_resizes_and_uneven_ones_are_left_alone() -> None:
    body = (
        "g (float[1,2,5,5] x) => (float[1,2,20,20] y) <float[4] s = {1.0, 1.0, 4.0, 4.0}> "
        '{ y = Resize <mode = "linear"> (x, , s) }'
    )
    assert rewritten(body, "split-resizes") == ["Resize"]
    body = (
        "g (float[1,2,5,5] x) => (float[1,2,20,10] y) <float[4] s = {1.0, 1.0, 4.0, 2.0}> "
        '{ y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s) }'
    )
    assert rewritten(body, "split-resizes") == ["Resize"]
