"""Reductions over any axes, kept or not.

Axes that are computed at run time are no obstacle: either the shapes tell which ones they are, or LiteRT reads them.

Source: ONNX ReduceSum-13, ReduceMean-18, ...; LiteRT kernels reduce.cc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout.rules import DropsAxes
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

Axes = list[int] | T
"""Stored axes, or an int32 tensor of axes computed at run time."""

FLOAT_LIMIT = float(np.finfo(np.float32).max)


def reduced_axes(node: Node) -> list[int] | None:
    """The ONNX axes that a Reduce operator takes, or None if they are known only at run time."""
    value, result = node.operand(0), node.output
    if value.shape is None:
        return None
    rank = len(value.shape)
    everything = [] if node.attr_int("noop_with_empty_axes", 0) else list(range(rank))
    axes = node.input(1)
    if axes is None:
        return everything
    if axes.const is not None:
        listed = [int(axis) % max(rank, 1) for axis in axes.const.numpy().reshape(-1)]
        return sorted(set(listed)) if listed else everything
    if axes.is_static and axes.dims == (0,):
        return everything
    if axes.is_static and axes.dims == (rank,):
        return list(range(rank))  # they must differ
    if node.attr_int("keepdims", 1) and value.is_static and result.is_static:
        # an axis of extent 1 may be reduced or not, the result is the same
        return [axis for axis, (before, after) in enumerate(zip(value.dims, result.dims)) if before != after]
    return None


def _dropped(node: Node) -> frozenset[int] | None:
    axes = reduced_axes(node)
    return None if axes is None or node.attr_int("keepdims", 1) else frozenset(axes)


def reduce(call: Call, code: str, x: T, axes: Axes, keep: bool) -> T:
    """SUM, MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ANY or REDUCE_ALL."""
    if isinstance(axes, list):
        return call.b.reduce(code, x, axes, keep)
    rank = x.rank if keep else x.rank - axes.size
    return call.b.one(code, [x, axes], x.dtype, (-1,) * rank, options("ReducerOptions", keepDims=keep))


def reduction(call: Call, compute: Callable[[T, Axes, bool], T]) -> T:
    """Apply a reduction over the node's axes in stored layout; int8 and uint8 in int32."""
    b = call.b
    listed = reduced_axes(call.node)
    axes: Axes
    if listed is None:
        if not call.node.operand(1).is_static:
            refuse("how many axes are reduced is known only at run time", "make the axes an initializer", rule="EDG401")
        axes = b.cast(call.raw(1), DataType.INT32)
    else:
        axes = [call.axis(axis) for axis in listed]
    x = call.x(0)
    if 0 in x.shape and isinstance(axes, list):
        return _over_nothing(call)
    dtype = x.dtype
    if dtype in SMALL_INTEGERS:
        x = b.cast(x, DataType.INT32)
    result = b.cast(compute(x, axes, bool(call.node.attr_int("keepdims", 1))), dtype)
    return b.copy(result) if result.producer is None else result


def _over_nothing(call: Call) -> T:
    """The reduction of no elements is the operation's neutral element.

    Source: ONNX ReduceMax-20 and ReduceMin-20; NumPy for the others.
    """
    dtype = call.out_dtype()
    whole = np.iinfo(dtype.numpy) if dtype.is_integer else None
    lowest = False if dtype is DataType.BOOL else float("-inf") if whole is None else whole.min
    highest = True if dtype is DataType.BOOL else float("inf") if whole is None else whole.max
    neutral = {
        "ReduceMax": lowest,
        "ReduceMin": highest,
        "ReduceProd": 1,
        "ReduceMean": float("nan"),
        "ReduceLogSum": float("-inf"),
        "ReduceLogSumExp": float("-inf"),
    }.get(call.node.op, 0)
    if isinstance(neutral, float) and not dtype.is_float:
        refuse(f"{call.node.op} of no elements has no {dtype.name.lower()} value", rule="EDG404")
    return call.b.constant(np.full(call.out_shape(), neutral, dtype.numpy))


_DIRECT = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}
_LOGICAL = {"ReduceMax": "REDUCE_ANY", "ReduceMin": "REDUCE_ALL"}


@lowers(*_DIRECT, layout=DropsAxes(_dropped))
def direct(call: Call) -> T:
    """One LiteRT reduction; the maximum of booleans is whether any is true, the minimum whether all are."""
    table = _LOGICAL if call.dtype(0) is DataType.BOOL else _DIRECT
    return reduction(call, lambda x, axes, keep: reduce(call, table[call.node.op], x, axes, keep))


@lowers("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", layout=DropsAxes(_dropped))
def composed(call: Call) -> T:
    """Sums of absolute values, squares, exponentials."""
    b, op = call.b, call.node.op

    def compute(x: T, axes: Axes, keep: bool) -> T:
        if op == "ReduceL1":
            size = b.maximum(x, b.unary("NEG", x)) if x.dtype is DataType.INT64 else b.unary("ABS", x)
            return reduce(call, "SUM", size, axes, keep)
        if op == "ReduceSumSquare":
            return reduce(call, "SUM", b.mul(x, x), axes, keep)
        if op == "ReduceL2":
            return in_float(x, lambda v: b.unary("SQRT", reduce(call, "SUM", b.mul(v, v), axes, keep)))
        if op == "ReduceLogSum":
            return in_float(x, lambda v: b.unary("LOG", reduce(call, "SUM", v, axes, keep)))
        return in_float(x, lambda v: log_sum_exp(v, axes, keep))

    def in_float(x: T, inner: Callable[[T], T]) -> T:
        return b.cast(inner(b.cast(x, DataType.FLOAT)), x.dtype)

    def log_sum_exp(x: T, axes: Axes, keep: bool) -> T:
        # the largest element is taken out so that nothing overflows; limited, so that infinities stay what they are
        peak = reduce(call, "REDUCE_MAX", x, axes, True)
        peak = b.minimum(b.maximum(peak, b.scalar(-FLOAT_LIMIT, x)), b.scalar(FLOAT_LIMIT, x))
        total = b.unary("LOG", reduce(call, "SUM", b.unary("EXP", b.sub(x, peak)), axes, keep))
        if not keep:
            if not isinstance(axes, list):
                return b.add(total, reduce(call, "SUM", peak, axes, False))
            peak = b.reshape(peak, total.shape)
        return b.add(total, peak)

    return reduction(call, compute)
