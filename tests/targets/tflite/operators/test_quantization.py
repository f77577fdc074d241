"""Integer arithmetic is exact for sums of any length; quantization rounds and saturates as in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same

SIGNED, UNSIGNED = np.int8, np.uint8


def whole(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("dtype", [SIGNED, UNSIGNED])
@pytest.mark.parametrize("bound", [(1, 2), ()])
def test_quantizing_rounds_half_to_even_and_saturates(dtype: type, bound: tuple[int, ...]) -> None:
    x = np.concatenate([np.arange(-300, 300) / 2, [1e9, -1e9]]).astype(np.float32)
    zero = np.array(3, dtype)
    assert_same("QuantizeLinear", [x, scale(1.0), zero], constant=bound)


def test_quantizing_along_an_axis_and_in_blocks() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 6)).astype(np.float32) * 50
    scales = np.array([0.5, 1.0, 2.0, 0.1], np.float32)
    assert_same("QuantizeLinear", [x, scales, np.array([1, 2, 3, 4], np.int8)], constant=(1, 2), axis=1)
    blocks = np.random.default_rng(1).uniform(0.1, 2, (2, 2, 6)).astype(np.float32)
    zeros = whole((2, 2, 6), UNSIGNED)
    assert_same("QuantizeLinear", [x, blocks, zeros], constant=(1, 2), axis=1, block_size=2)
    assert_same("DequantizeLinear", [whole((2, 4, 6), UNSIGNED), blocks, zeros], axis=1, block_size=2)


@pytest.mark.parametrize("dtype", [SIGNED, UNSIGNED])
def test_dequantizing(dtype: type) -> None:
    assert_same("DequantizeLinear", [whole((3, 5), dtype), scale(0.25), np.array(7, dtype)], constant=(1, 2))


@pytest.mark.parametrize("depth", [8, 700, 3000])
@pytest.mark.parametrize("bound", [(1, 2, 3), (2, 3), ()])
def test_integer_products_are_exact(depth: int, bound: tuple[int, ...]) -> None:
    a, w = np.full((3, depth), 255, np.uint8), whole((depth, 4), SIGNED)
    w[:, 0] = 127
    w[:, 1] = -128
    assert_same("MatMulInteger", [a, w, np.array(0, np.uint8), np.array(5, np.int8)], constant=bound)


def test_integer_products_of_batches() -> None:
    a, w = whole((2, 3, 8), UNSIGNED), whole((2, 8, 4), SIGNED)
    assert_same("MatMulInteger", [a, w, np.array(100, np.uint8)])


@pytest.mark.parametrize("bound", [(1, 2, 3, 4, 5, 6, 7), ()])
@pytest.mark.parametrize("columns", [False, True])
def test_quantized_products(bound: tuple[int, ...], columns: bool) -> None:
    second = np.array([0.01, 0.02, 0.005, 0.03], np.float32) if columns else scale(0.02)
    zeros = np.zeros(4, np.int8) if columns else np.array(0, np.int8)
    operands = [whole((3, 8), UNSIGNED), scale(0.03), np.array(120, np.uint8), whole((8, 4), SIGNED), second, zeros]
    assert_same("QLinearMatMul", [*operands, scale(0.1), np.array(128, np.uint8)], constant=bound)


@pytest.mark.parametrize("group, outs", [(1, 6), (4, 4), (4, 8), (2, 6)])
@pytest.mark.parametrize("bound", [(1, 2, 3, 4, 5, 6, 7, 8), ()])
def test_quantized_convolutions(group: int, outs: int, bound: tuple[int, ...]) -> None:
    rng = np.random.default_rng(group)
    operands = [
        whole((1, 4, 7, 6), UNSIGNED),
        scale(0.02),
        np.array(128, np.uint8),
        whole((outs, 4 // group, 3, 3), SIGNED),
        rng.uniform(0.001, 0.02, outs).astype(np.float32),
        np.zeros(outs, np.int8),
        scale(0.2),
        np.array(100, np.uint8),
        rng.integers(-30000, 30000, outs).astype(np.int32),
    ]
    assert_same("QLinearConv", operands, constant=bound, group=group, pads=[1, 1, 1, 1], strides=[2, 1])


@pytest.mark.parametrize("channels", [3, 200])
def test_integer_convolutions_of_any_depth(channels: int) -> None:
    x = np.full((1, channels, 5, 5), 255, np.uint8)
    w = np.full((2, channels, 3, 3), 255, np.uint8)
    w[1] = 3
    assert_same("ConvInteger", [x, w], constant=(1,), pads=[1, 1, 1, 1])
    assert_same("ConvInteger", [x, w])
