"""Operators that move or reduce elements, of rank 1 to 8: computed as in ONNX Runtime, or refused at lowering."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

TYPES = (np.float32, np.float32, np.float32, np.float16, np.int32, np.int64, np.uint8, np.int8, np.bool_)

OPERATORS = ("Transpose", "Transpose", "Slice", "Slice", "Pad", "Pad", "Tile", "Expand", "Concat", "Split", "Gather")


def movement(draw: st.DrawFn, b: ModelBuilder, op: str, dims: list[int], number: Any) -> str:
    """One operator that moves elements."""
    rank = len(dims)
    x = b.input(dims, number)
    axis = draw(st.integers(0, rank - 1))
    if op == "Transpose":
        return b.add(op, x, perm=draw(st.permutations(range(rank))))
    if op == "Slice":
        axes = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
        starts, ends, steps = [], [], []
        for number_of in axes:
            step = draw(st.sampled_from([1, 1, 2, -1]))
            first = draw(st.integers(0, dims[number_of] - 1))
            last = draw(st.integers(first + 1, dims[number_of] + 1))
            starts.append(first if step > 0 else dims[number_of] - 1 - first)
            ends.append(last if step > 0 else -last - 9)
            steps.append(step)
        return b.add(op, x, *(b.constant(values, np.int64) for values in (starts, ends, axes, steps)))
    if op == "Pad":
        mode = draw(st.sampled_from(["constant", "constant", "reflect", "edge", "wrap"]))
        limit = 2 if mode == "constant" else 1
        pads = [draw(st.integers(0, min(limit, dim - 1))) for _ in range(2) for dim in dims]
        value = [b.constant(1, number)] if mode == "constant" and draw(st.booleans()) else []
        return b.add(op, x, b.constant(pads, np.int64), *value, mode=mode)
    if op == "Tile":
        return b.add(op, x, b.constant([draw(st.integers(1, 2)) for _ in dims], np.int64))
    if op == "Expand":
        shape = [draw(st.integers(1, 3)) if dim == 1 else draw(st.sampled_from([1, dim])) for dim in dims]
        return b.add(op, x, b.constant([*[2] * draw(st.integers(0, 1)), *shape], np.int64))
    if op == "Concat":
        return b.add(op, x, b.input(dims, number), x, axis=axis - rank)
    if op == "Split":
        parts = draw(st.integers(1, dims[axis]))
        cut = b.random.multinomial(dims[axis] - parts, [1 / parts] * parts) + 1
        return b.add(op, x, b.constant(cut, np.int64), axis=axis, outputs=parts)
    indices = b.random.integers(-dims[axis], dims[axis], [2] * draw(st.integers(0, 2)))
    return b.add(op, x, b.constant(indices, np.int64), axis=axis)


@st.composite
def movements(draw: st.DrawFn) -> onnx.ModelProto:
    """One operator that moves elements, ranks up to 8."""
    b = ModelBuilder(draw(st.integers(0, 99)))
    rank = draw(st.sampled_from([1, 2, 3, 4, 5, 5, 6, 6, 7, 8]))
    dims = [draw(st.integers(1, 3 if rank > 5 else 4)) for _ in range(rank)]
    return b.build(movement(draw, b, draw(st.sampled_from(OPERATORS)), dims, draw(st.sampled_from(TYPES))))


@examples(60)
@given(movements(), st.sampled_from(["ONNX", "NHWC"]))
def test_movements(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout)


REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")


@st.composite
def reductions(draw: st.DrawFn) -> onnx.ModelProto:
    """Reductions and arguments of extrema over any axes, ranks up to 8."""
    b = ModelBuilder(draw(st.integers(0, 99)))
    dims = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 8)))]
    rank = len(dims)
    kind = draw(st.sampled_from(["reduce", "reduce", "reduce", "extremum", "cumulate", "top"]))
    axis = draw(st.integers(-rank, rank - 1))
    keep = draw(st.integers(0, 1))
    if kind == "extremum":
        x = b.input(dims, draw(st.sampled_from([np.float32, np.int32, np.int8, np.uint8])))
        last = {"select_last_index": 1} if draw(st.booleans()) else {}
        return b.build(b.add(draw(st.sampled_from(["ArgMax", "ArgMin"])), x, axis=axis, keepdims=keep, **last))
    if kind == "cumulate":
        x = b.input(dims, draw(st.sampled_from([np.float32, np.int32, np.int64])))
        flags = {"exclusive": draw(st.integers(0, 1)), "reverse": draw(st.integers(0, 1))}
        return b.build(b.add("CumSum", x, b.constant(axis, np.int64), **flags))
    if kind == "top":
        x = b.input(dims, np.float32)
        count = b.constant([draw(st.integers(1, dims[axis]))], np.int64)
        y = b.add("TopK", x, count, outputs=2, axis=axis, largest=draw(st.integers(0, 1)))
        return b.build(y, f"{y}_1")
    op = "Reduce" + draw(st.sampled_from(REDUCTIONS))
    x = b.input(dims, draw(st.sampled_from([np.float32, np.float32, np.int32])))
    if op in ("ReduceLogSum", "ReduceLogSumExp"):
        x = b.add("Abs", x)
    axes = draw(st.lists(st.integers(0, rank - 1), max_size=rank, unique=True))
    return b.build(b.add(op, x, b.constant(axes, np.int64), keepdims=keep))


@examples(60)
@given(reductions(), st.sampled_from(["ONNX", "NHWC"]))
def test_reductions(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)
