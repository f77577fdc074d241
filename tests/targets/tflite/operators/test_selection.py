"""Orders, extrema and running sums equal ONNX Runtime's, ties included."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same

TIED = np.array([[3, 1, 3, 2, 1], [0, 0, 5, 5, 5], [7, 6, 5, 4, 3]])
DTYPES = [np.float32, np.int32, np.int64, np.int8, np.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_top_k(dtype: type, largest: int, axis: int) -> None:
    x, k = TIED.astype(dtype), np.array([3])
    order = np.argsort(-TIED if largest else TIED, axis=axis, kind="stable")
    places = np.take(order, np.arange(3), axis=axis)
    expected = [np.take_along_axis(x, places, axis), places.astype(np.int64)]
    for constant in ((1,), ()):
        if constant:
            assert_same("TopK", [x, k], constant=constant, outputs=2, axis=axis, largest=largest, expected=expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_extrema(dtype: type, op: str, last: int) -> None:
    for axis in (0, 1):
        for keep in (0, 1):
            x = TIED.astype(dtype)
            signed = TIED if op == "ArgMax" else -TIED
            place = np.argmax(signed, axis)
            if last:
                place = TIED.shape[axis] - 1 - np.argmax(np.flip(signed, axis), axis)
            expected = np.expand_dims(place, axis) if keep else place
            assert_same(op, [x], axis=axis, keepdims=keep, select_last_index=last, expected=[expected])


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sums(exclusive: int, reverse: int, axis: int) -> None:
    for dtype in (np.float32, np.int32, np.int64):
        for constant in ((1,), ()):
            operands = [TIED.astype(dtype), np.array(axis)]
            assert_same("CumSum", operands, constant=constant, exclusive=exclusive, reverse=reverse)


@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(ordered: int) -> None:
    for dtype in (np.float32, np.int64, np.int8):
        assert_same("Unique", [TIED.astype(dtype)], outputs=4, sorted=ordered)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("constant", [(2, 3, 4), ()])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.4])
def test_non_maximum_suppression(center: int, constant: tuple[int, ...], threshold: float) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (2, 40, 2)).astype(np.float32)
    sizes = rng.uniform(0.05, 0.6, (2, 40, 2)).astype(np.float32)
    boxes = np.concatenate([corners, sizes if center else corners + sizes], axis=2)
    boxes[:, 10:20] = boxes[:, :10]  # the same boxes again
    scores = rng.integers(-3, 10, (2, 3, 40)).astype(np.float32) / 10  # many ties, zeros and negative scores
    operands = [boxes, scores, np.array([7]), np.array([0.3], np.float32), np.array([threshold], np.float32)]
    assert_same("NonMaxSuppression", operands, constant=constant, center_point_box=center)


def test_suppression_begins_above_the_limit() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.51]]], np.float32)
    scores = np.array([[[3, 2, 1]]], np.float32)
    for constant in ((2, 3), ()):
        operands = [boxes, scores, np.array([3]), np.array([0.5], np.float32)]
        assert_same("NonMaxSuppression", operands, constant=constant)
