"""A convolution behind an enlargement is done before it."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, ops_of, random_feeds, run


def graph(factor: int, size: int, outs: int, mode: str, strides: int = 1) -> str:
    pads = [(size - 1) // 2, (size - 1) // 2, size - 1 - (size - 1) // 2, size - 1 - (size - 1) // 2]
    numbers = ", ".join(f"{((i * 13) % 17 - 8) / 10}" for i in range(outs * 2 * size * size))
    biases = ", ".join(f"{i / 10}" for i in range(outs))
    high, wide = 3 * factor // strides, 5 * factor // strides
    return f"""g (float[1,2,3,5] x) => (float[1,{outs},{high},{wide}] y)
      <float[4] s = {{1, 1, {factor}, {factor}}}, float[{outs},2,{size},{size}] w = {{{numbers}}},
       float[{outs}] b = {{{biases}}}> {{
      e = Resize <mode = "nearest", {mode}> (x, , s)
      y = Conv <pads = [{", ".join(map(str, pads))}], strides = [{strides}, {strides}]> (e, w, b)
    }}"""


ASYMMETRIC = 'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'


def fused(body: str) -> list[str]:
    """The operators after the pass, which must not change what is computed."""
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline("fold-constants,fuse-upsample"):
        item.apply(after)
    feeds = random_feeds(before)
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    return ops_of(after)


@pytest.mark.parametrize(("factor", "size", "outs"), [(2, 3, 3), (2, 5, 1), (3, 3, 1), (2, 1, 2), (2, 2, 3), (4, 3, 1)])
def test_every_phase_sums_the_taps_that_fall_on_one_pixel(factor: int, size: int, outs: int) -> None:
    assert fused(graph(factor, size, outs, ASYMMETRIC)) == ["Conv", "DepthToSpace"]


def test_half_pixel_centres_repeat_pixels_at_factor_two() -> None:
    assert fused(graph(2, 3, 2, 'coordinate_transformation_mode = "half_pixel"')) == ["Conv", "DepthToSpace"]


def test_many_channels_and_strides_are_left_alone() -> None:
    assert fused(graph(2, 3, 5, ASYMMETRIC)) == ["Resize", "Conv"]
    assert fused(graph(2, 3, 1, ASYMMETRIC, strides=2)) == ["Resize", "Conv"]


def test_an_activation_goes_along() -> None:
    body = graph(2, 3, 2, ASYMMETRIC).replace("y = Conv", "c = Conv").replace("(e, w, b)", "(e, w, b)\n y = Relu (c)")
    assert fused(body) == ["Conv", "Relu", "DepthToSpace"]
