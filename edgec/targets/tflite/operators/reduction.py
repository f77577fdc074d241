"""Reductions over any axes, kept or not.

Source: ONNX ReduceSum-13, ReduceMean-18, ...; LiteRT kernels reduce.cc.
"""

from __future__ import annotations

from collections.abc import Callable

from edgec.ir.graph import Node
from edgec.ir.types import DataType
from edgec.targets.tflite.layout.rules import DropsAxes
from edgec.targets.tflite.lowering import Call, lowers, refuse
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.program import T


def reduced_axes(node: Node) -> list[int] | None:
    """The ONNX axes that a Reduce operator takes, or None if they are known only at run time."""
    value = node.operand(0)
    if value.shape is None:
        return None
    axes = node.input(1)
    if axes is None:
        return [] if node.attr_int("noop_with_empty_axes", 0) else list(range(len(value.shape)))
    if axes.const is None:
        return None
    listed = [int(axis) % max(len(value.shape), 1) for axis in axes.const.numpy().reshape(-1)]
    if not listed:
        return [] if node.attr_int("noop_with_empty_axes", 0) else list(range(len(value.shape)))
    return sorted(set(listed))


def _dropped(node: Node) -> frozenset[int] | None:
    axes = reduced_axes(node)
    return None if axes is None or node.attr_int("keepdims", 1) else frozenset(axes)


def reduction(call: Call, compute: Callable[[T, list[int], bool], T]) -> T:
    """Apply a reduction over the node's axes in stored layout; int8 and uint8 in int32."""
    axes = reduced_axes(call.node)
    if axes is None:
        refuse("the axes are computed at run time", "make the axes an initializer")
    x = call.x(0)
    dtype = x.dtype
    if dtype in SMALL_INTEGERS:
        x = call.b.cast(x, DataType.INT32)
    keep = bool(call.node.attr_int("keepdims", 1))
    result = compute(x, [call.axis(axis) for axis in axes], keep)
    return call.b.cast(result, dtype)


_DIRECT = {"ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN", "ReduceProd": "REDUCE_PROD"}


@lowers(*_DIRECT, layout=DropsAxes(_dropped))
def direct(call: Call) -> T:
    """One LiteRT reduction."""
    return reduction(call, lambda x, axes, keep: call.b.reduce(_DIRECT[call.node.op], x, axes, keep))


@lowers("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", layout=DropsAxes(_dropped))
def composed(call: Call) -> T:
    """Sums of absolute values, squares, exponentials."""
    b, op = call.b, call.node.op

    def compute(x: T, axes: list[int], keep: bool) -> T:
        if op == "ReduceL1":
            return b.reduce("SUM", b.unary("ABS", x), axes, keep)
        if op == "ReduceSumSquare":
            return b.reduce("SUM", b.mul(x, x), axes, keep)
        if op == "ReduceL2":
            return b.unary("SQRT", b.reduce("SUM", b.mul(x, x), axes, keep))
        if op == "ReduceLogSum":
            return b.unary("LOG", b.reduce("SUM", x, axes, keep))
        peak = b.reduce("REDUCE_MAX", x, axes, True)
        total = b.reduce("SUM", b.unary("EXP", b.sub(x, peak)), axes, True)
        result = b.add(b.unary("LOG", total), peak)
        kept = [dim for axis, dim in enumerate(result.shape) if axis not in axes]
        return result if keep else b.reshape(result, kept)

    return reduction(call, compute)
