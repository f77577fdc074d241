"""Shapes, axes, starts and pads that arrive at run time mean the same as constants."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from ..lowered import run
from .single import lower, node_model, reference

X = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
FAR = np.iinfo(np.int64)


def assert_same_at_run_time(op: str, operands: list[np.ndarray | None], **attributes: object) -> None:
    """All operands are inputs; the result's shape is declared, as exporters do."""
    model = node_model(op, operands, **attributes)
    feeds = {f"x{position}": array for position, array in enumerate(operands) if array is not None}
    wanted = reference(model, feeds)["y0"]
    element = helper.np_dtype_to_tensor_dtype(wanted.dtype)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", element, wanted.shape))
    actual = run(lower(model), feeds)["y0"]
    assert actual.dtype == wanted.dtype
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "starts, ends, axes, steps",
    [
        ([1], [3], None, None),
        ([1, -4], [FAR.max, -1], [0, 2], None),
        ([-1, 0], [FAR.min, FAR.max], [0, 1], [-1, 2]),
        ([FAR.max], [FAR.min], [-1], [-2]),
        ([-100, 3], [100, 0], [2, 1], [3, -1]),
    ],
)
def test_slices(starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> None:
    operands = [X, ints(*starts), ints(*ends), None if axes is None else ints(*axes)]
    operands.append(None if steps is None else ints(*steps))
    while operands[-1] is None:
        operands.pop()
    assert_same_at_run_time("Slice", operands)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pads(mode: str) -> None:
    assert_same_at_run_time("Pad", [X, ints(1, 0, 2, 0, 3, 1)], mode=mode)
    assert_same_at_run_time("Pad", [X, ints(1, 2, 0, 1), None, ints(-1, 0)], mode=mode)


def test_pads_that_crop_and_other_types() -> None:
    assert_same_at_run_time("Pad", [X, ints(-1, 0, 2, 1, -2, -3), np.array(7, np.float32)])
    assert_same_at_run_time("Pad", [X > 0, ints(1, 0, 2, 0, 3, 1)])
    assert_same_at_run_time("Pad", [(X * 9).astype(np.int64), ints(1, 0, 2, 0, 3, 1), np.array(5)])


def test_tiles_and_expansions() -> None:
    assert_same_at_run_time("Tile", [X, ints(2, 1, 3)])
    assert_same_at_run_time("Expand", [X[:, :1], ints(2, 1, 5, 1)])
    assert_same_at_run_time("Reshape", [X, ints(0, -1, 3)])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMean", "ReduceLogSumExp", "ReduceL2", "ReduceProd"])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(op: str, keep: int) -> None:
    for axes in ([1], [-1, 0], [0, 1, 2]):
        assert_same_at_run_time(op, [X, ints(*axes)], keepdims=keep)
    empty = np.zeros(0, np.int64)
    assert_same_at_run_time(op, [X, empty], keepdims=keep)
    assert_same_at_run_time(op, [X, empty], keepdims=keep, noop_with_empty_axes=1)


def test_a_slice_of_what_has_no_static_shape() -> None:
    graph = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 22]> g (float[3,4] x) => (int64[2,m] y) {
        found = NonZero (x)
        one = Constant <value_ints = [1]> ()
        last = Constant <value_ints = [-1]> ()
        y = Slice (found, one, last, one)
    }""")
    x = np.array([[0, 1, 0, 2], [3, 0, 0, 4], [0, 5, 6, 0]], np.float32)
    np.testing.assert_array_equal(run(lower(graph), {"x": x})["y"], np.stack(np.nonzero(x))[:, 1:-1])
