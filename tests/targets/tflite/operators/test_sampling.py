"""Sampling between pixels equals ONNX Runtime's in every mode."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    grid = np.random.default_rng(0).uniform(-2.2, 2.2, (2, 7, 6, 2)).astype(np.float32)
    if mode == "cubic" and padding == "border":  # ONNX Runtime also moves the coordinate that is inside
        grid = np.clip(grid, -0.9, 0.9)
    assert_same(
        "GridSample",
        [normal(2, 3, 5, 4), grid],
        mode=mode,
        padding_mode=padding,
        align_corners=align,
        relative=1e-4,
        absolute=1e-5,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_volumes(mode: str, padding: str) -> None:
    grid = np.random.default_rng(0).uniform(-1.4, 1.4, (1, 3, 4, 2, 3)).astype(np.float32)
    operands = [normal(1, 2, 4, 3, 5), grid]
    assert_same("GridSample", operands, mode=mode, padding_mode=padding, relative=1e-4, absolute=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, transformation: str) -> None:
    regions = np.array([[0, 0, 9, 9], [2, 3, 12, 18], [-6, -6, 4, 4], [5, 5, 5.2, 5.1]], np.float32)
    assert_same(
        "RoiAlign",
        [np.abs(normal(2, 3, 10, 8)), regions, np.array([0, 1, 1, 0])],
        mode=mode,
        coordinate_transformation_mode=transformation,
        opset=16,  # the newest that ONNX Runtime has
        output_height=3,
        output_width=2,
        sampling_ratio=2,
        spatial_scale=0.7,
        relative=1e-4,
        absolute=1e-5,
    )


@pytest.mark.parametrize("group, offset_group", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("constant", [(1, 3), ()])
def test_deformable_convolution(group: int, offset_group: int, masked: bool, constant: tuple[int, ...]) -> None:
    taps = 6
    operands = [
        normal(2, 4, 7, 6),
        normal(6, 4 // group, 3, 2),
        normal(2, offset_group * taps * 2, 4, 6),
        normal(6),
        np.abs(normal(2, offset_group * taps, 4, 6)) if masked else None,
    ]
    if not masked:
        operands.pop()
    assert_same(
        "DeformConv",
        operands,
        constant=constant,
        group=group,
        offset_group=offset_group,
        pads=[1, 1, 1, 0],
        strides=[2, 1],
        relative=1e-4,
        absolute=1e-4,
    )


@pytest.mark.parametrize("shape, block", [([5, 6], [2, 3]), ([4, 4], [1, 5])])
def test_columns_to_image(shape: list[int], block: list[int]) -> None:
    pads, strides = [1, 2, 1, 1], [2, 1]
    padded = [shape[0] + 2, shape[1] + 3]
    count = ((padded[0] - block[0]) // 2 + 1) * (padded[1] - block[1] + 1)
    operands = [normal(2, 3 * block[0] * block[1], count), np.array(shape), np.array(block)]
    assert_same("Col2Im", operands, constant=(1, 2), pads=pads, strides=strides)
