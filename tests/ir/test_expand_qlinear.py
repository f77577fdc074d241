"""Quantized convolutions and products become float ones between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.equivalence import apply, model_of, ops_of, random_feeds, run

WEIGHTS = ", ".join(str((i * 37) % 255 - 127) for i in range(72))
BYTES = ", ".join(str((i * 37) % 256) for i in range(72))


def within_one_step(body: str) -> list[str]:
    """The operators after the pass; its result is within one step of the graph as written."""
    before, after = model_of(body), apply(model_of(body), "fold-constants,expand-qlinear")
    feeds = random_feeds(before)
    for value in before.graph.inputs:
        limits = np.iinfo(value.dtype.numpy)
        shape = feeds[value.name].shape
        feeds[value.name] = (
            np.random.default_rng(1).integers(limits.min, limits.max + 1, shape).astype(value.dtype.numpy)
        )
    for wanted, found in zip(run(before, feeds), run(after, feeds), strict=True):
        assert wanted.dtype == found.dtype
        assert np.abs(wanted.astype(np.int64) - found).max() <= 1
    return ops_of(after)


@pytest.mark.parametrize(
    "scales", ["float ws = {0.01}, int8 wz = {0}", "float[4] ws = {0.01, 0.02, 0.005, 0.03}, int8[4] wz = {0, 0, 0, 0}"]
)
@pytest.mark.parametrize("bias", ["", ", b"])
def test_convolutions(scales: str, bias: str) -> None:
    found = within_one_step(f"""g (uint8[1,2,6,6] x) => (uint8[1,4,4,4] y)
      <float xs = {{0.05}}, uint8 xz = {{130}}, int8[4,2,3,3] w = {{{WEIGHTS}}}, {scales}, float ys = {{0.3}},
       uint8 yz = {{120}}, int32[4] b = {{100, -2000, 300, 4000}}> {{
      y = QLinearConv (x, xs, xz, w, ws, wz, ys, yz{bias})
    }}""")
    assert found == ["DequantizeLinear"] * (3 if bias else 2) + ["Conv", "QuantizeLinear"]


def test_unsigned_weights_of_one_scale() -> None:
    assert "Conv" in within_one_step(f"""g (uint8[1,2,6,6] x) => (uint8[1,4,4,4] y)
      <float[1] xs = {{0.05}}, uint8[1] xz = {{130}}, uint8[4,2,3,3] w = {{{BYTES}}}, float ws = {{0.01}},
       uint8 wz = {{117}}, float ys = {{0.3}}, uint8 yz = {{120}}> {{
      y = QLinearConv (x, xs, xz, w, ws, wz, ys, yz)
    }}""")


@pytest.mark.parametrize("zero", [0, 3])
def test_products(zero: int) -> None:
    found = within_one_step(f"""g (int8[3,8] x) => (int8[3,9] y)
      <float xs = {{0.05}}, int8 xz = {{3}}, int8[8,9] w = {{{WEIGHTS}}}, float ws = {{0.01}}, int8 wz = {{{zero}}},
       float ys = {{0.5}}, int8 yz = {{-20}}> {{
      y = QLinearMatMul (x, xs, xz, w, ws, wz, ys, yz)
    }}""")
    assert found == (
        ["QLinearMatMul"] if zero else ["DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear"]
    )


def test_products_of_two_computed_operands() -> None:
    found = within_one_step("""g (uint8[2,3,8] x, uint8[2,8,4] z) => (uint8[2,3,4] y)
      <float xs = {0.05}, uint8 xz = {130}, float ws = {0.01}, uint8 wz = {100}, float ys = {0.5}, uint8 yz = {128}> {
      y = QLinearMatMul (x, xs, xz, z, ws, wz, ys, yz)
    }""")
    assert found[2:] == ["MatMul", "QuantizeLinear"]


def test_scales_that_are_known_only_at_run_time_are_left_alone() -> None:
    model = model_of("""g (uint8[3,8] x, float xs, uint8[8,4] z) => (uint8[3,4] y)
      <uint8 xz = {130}, float ws = {0.01}, uint8 wz = {100}, float ys = {0.5}, uint8 yz = {128}> {
      y = QLinearMatMul (x, xs, xz, z, ws, wz, ys, yz)
    }""")
    assert ops_of(apply(model, "fold-constants,expand-qlinear")) == ["QLinearMatMul"]
