"""Gathers and scatters in every form equal ONNX Runtime's, with constant and with run-time indices."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same

DTYPES = [np.float32, np.int32, np.int64, np.int8, np.uint8, np.bool_]
BOUND = [(), (1,)]


def data(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    values = np.random.default_rng(len(shape)).standard_normal(shape) * 10
    if dtype is np.bool_:
        return values > 0
    return (np.abs(values) if dtype is np.uint8 else values).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", BOUND)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(dtype: type, constant: tuple[int, ...], axis: int) -> None:
    x = data((3, 4, 5), dtype)
    for indices in (np.array(-2), np.array([0, -1, 2]), np.array([[1, 2], [-3, 0]]), np.array([1, 2], np.int32)):
        assert_same("Gather", [x, indices], constant=constant, axis=axis)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constant", BOUND)
@pytest.mark.parametrize("axis", [0, -1])
def test_gather_elements(dtype: type, constant: tuple[int, ...], axis: int) -> None:
    indices = np.array([[[0, -1], [1, 0]], [[2, -2], [-3, 1]]])
    assert_same("GatherElements", [data((3, 4, 3), dtype), indices], constant=constant, axis=axis)


@pytest.mark.parametrize("constant", BOUND)
def test_gather_nd(constant: tuple[int, ...]) -> None:
    x = data((3, 4, 5))
    assert_same("GatherND", [x, np.array([[0, -1], [2, 3]])], constant=constant)
    assert_same("GatherND", [x, np.array([[[0, 1, -5]], [[2, -4, 3]]])], constant=constant)
    assert_same("GatherND", [x, np.array([[0], [-1], [2]])], constant=constant, batch_dims=1)
    assert_same("GatherND", [x, np.array([[[0], [-1], [2], [4]]] * 3)], constant=constant, batch_dims=2)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("constant", BOUND)
def test_scatter_elements(reduction: str, dtype: type, constant: tuple[int, ...]) -> None:
    x, updates = data((3, 4), dtype), data((2, 2), dtype)
    indices = np.array([[0, -1], [0, 2]])  # with one place named twice along either axis
    assert_same("ScatterElements", [x, indices, updates], constant=constant, reduction=reduction)
    assert_same("ScatterElements", [x, indices, updates], constant=constant, reduction=reduction, axis=1)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("constant", BOUND)
def test_scatter_nd(reduction: str, constant: tuple[int, ...]) -> None:
    x = data((4, 3, 2))
    assert_same("ScatterND", [x, np.array([[0], [0]]), data((2, 3, 2))], constant=constant, reduction=reduction)
    points = np.array([[[0, 1], [2, -1]]])
    assert_same("ScatterND", [x, points, data((1, 2, 2))], constant=constant, reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_of_every_type(dtype: type) -> None:
    assert_same("ScatterND", [data((4, 3), dtype), np.array([[2], [0]]), data((2, 3), dtype)])


def test_compress_and_non_zero() -> None:
    x, condition = data((3, 4)), np.array([True, False, True])
    for constant in BOUND:
        assert_same("Compress", [x, condition], constant=constant, axis=0)
        assert_same("Compress", [x, np.array([False, True, True])], constant=constant)
    sparse = np.array([[0, 2, 0], [1, 0, 3]], np.float32)
    assert_same("NonZero", [sparse])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("constant", [(1, 2), (1,)])
def test_one_hot(dtype: type, axis: int, constant: tuple[int, ...]) -> None:
    indices = np.array([[0, -1, 7], [2, 1, -5]])  # two of them out of range
    off, on = np.array([0, 1], dtype)
    hit = ((indices % 4)[..., None] == np.arange(4)) & (np.abs(indices[..., None] + 0.5) < 4)
    expected = np.moveaxis(np.where(hit, on, off), -1, axis).astype(dtype)
    operands = [indices, np.array(4), np.array([off, on], dtype)]
    assert_same("OneHot", operands, constant=constant, axis=axis, expected=[expected])


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_reverse_sequence(dtype: type) -> None:
    x, lengths = data((4, 3, 2), dtype), np.array([4, 1, 2])
    assert_same("ReverseSequence", [x, lengths])
    assert_same("ReverseSequence", [x, np.array([1, 2, 3, 3])], time_axis=1, batch_axis=0)
