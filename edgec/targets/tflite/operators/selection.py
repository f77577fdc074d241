"""Orders and extrema along an axis, and running sums and products.

LiteRT's TOPK_V2, ARG_MAX and ARG_MIN put the lower index first where elements are equal, as ONNX does.

Source: ONNX TopK-24, ArgMax-13, Hardmax-13, Unique-11, CumSum-14, CumProd-26; LiteRT kernels topk_v2.cc,
arg_min_max.cc, cumsum.cc.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Node
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import FIXED, LayoutRule
from edgec.targets.tflite.layout.rules import Along, DropsAxes
from edgec.targets.tflite.operators.activation import AXIS_LAST
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


def descending(call: Call, x: T) -> T:
    """The elements with their order turned round, exactly: -x for floats, -1 - x for integers."""
    b = call.b
    return b.unary("NEG", x) if x.dtype is DataType.FLOAT else b.sub(b.scalar(-1, x), x)


def top(call: Call, x: T, count: int) -> tuple[T, T]:
    """The ``count`` largest elements along the last axis in falling order, and their positions, int32."""
    shape = (*x.shape[:-1], count)
    k = call.b.constant(np.array(count, np.int32))
    made = call.b.emit("TOPK_V2", [x, k], [(x.dtype, shape), (DataType.INT32, shape)], options("TopKV2Options"))
    return made[0], made[1]


@lowers("TopK", layout=AXIS_LAST)
def top_k(call: Call) -> list[T]:
    """TOPK_V2 along the last stored axis; the smallest are the largest of the reversed order."""
    b, node = call.b, call.node
    x = call.x(0)
    axis = node.attr_int("axis", -1)
    count = int(call.const(1, "k").reshape(())) if call.is_const(1) else call.out_dims()[axis]
    if x.rank == 0 or call.axis(axis) != x.rank - 1:
        refuse("the top elements of a scalar", rule="EDG404")
    dtype = x.dtype
    if dtype in SMALL_INTEGERS:
        x = b.cast(x, DataType.INT32)
    smallest = not node.attr_int("largest", 1)
    values, places = top(call, descending(call, x) if smallest else x, count)
    if smallest:
        values = descending(call, values)
    return [b.cast(values, dtype), b.cast(places, DataType.INT64)][: len(node.outputs)]


def _extremum_rule(node: Node) -> LayoutRule:
    value = node.operand(0)
    if value.shape is None or node.attr_int("select_last_index", 0) or value.dtype is DataType.INT64:
        return FIXED
    if node.attr_int("keepdims", 1):
        return Along(operands=(0,))
    axis = node.attr_int("axis", 0) % max(len(value.shape), 1)
    return DropsAxes(lambda _: frozenset((axis,)))


def extremum_position(call: Call, x: T, axis: int, largest: bool) -> T:
    """The first position of the extremum along a stored axis, int64, the axis gone."""
    b = call.b
    shape = [dim for a, dim in enumerate(x.shape) if a != axis]
    if x.dtype is DataType.INT64:
        moved = b.transpose(x, [*(a for a in range(x.rank) if a != axis), axis])
        _, places = top(call, moved if largest else descending(call, moved), 1)
        return b.cast(b.reshape(places, shape), DataType.INT64)
    kind = "ArgMaxOptions" if largest else "ArgMinOptions"
    table = options(kind, outputType=schema.TensorType.INT64)
    return b.one("ARG_MAX" if largest else "ARG_MIN", [x, b.ints([axis])], DataType.INT64, shape, table)


@lowers("ArgMax", "ArgMin", layout=_extremum_rule)
def extremum(call: Call) -> T:
    """ARG_MAX or ARG_MIN; the last of equal elements is the first of the reversed axis."""
    b, node = call.b, call.node
    x, axis = call.x(0), call.axis(node.attr_int("axis", 0))
    last = bool(node.attr_int("select_last_index", 0))
    if last:
        x = b.one("REVERSE_V2", [x, b.ints([axis])], x.dtype, x.shape, options("ReverseV2Options"))
    result = extremum_position(call, x, axis, node.op == "ArgMax")
    if last:
        result = b.sub(b.scalar(x.shape[axis] - 1, result), result)
    return b.reshape(result, call.out_shape())


@lowers("Hardmax", layout=Along(operands=(0,)))
def hardmax(call: Call) -> T:
    """One at the first maximum, zero elsewhere."""
    b = call.b
    x, axis = call.x(0), call.axis(call.node.attr_int("axis", -1))
    if x.dtype is not DataType.FLOAT:
        refuse(f"a hardmax of {x.dtype.name.lower()}", rule="EDG403")
    place = extremum_position(call, x, axis, largest=True)
    depth = b.constant(np.array(x.shape[axis], np.int32))
    table = options("OneHotOptions", axis=-1 if axis == x.rank - 1 else axis)
    return b.one("ONE_HOT", [place, depth, b.scalar(1, x), b.scalar(0, x)], x.dtype, x.shape, table)


@lowers("Unique")
def unique(call: Call) -> list[T]:
    """UNIQUE of the flattened elements, which are sorted first where the result must be; its length is dynamic."""
    b, node = call.b, call.node
    if node.has("axis") and len(call.dims(0)) > 1:
        refuse("distinct slices along an axis", "LiteRT's UNIQUE tells single elements apart", rule="EDG406")
    x = call.raw(0)
    count, dtype = x.size, x.dtype
    x = b.reshape(b.cast(x, DataType.INT32) if dtype in SMALL_INTEGERS else x, (count,))
    places: T | None = None
    if node.attr_int("sorted", 1):
        values, places = top(call, descending(call, x), count)
        x = descending(call, values)
    table = options("UniqueOptions", idxOutType=schema.TensorType.INT32)
    found, owner = b.emit("UNIQUE", [x], [(x.dtype, (-1,)), (DataType.INT32, (count,))], table)
    results = [b.cast(found, dtype)]
    own = b.constant(np.arange(count, dtype=np.int32)) if places is None else places
    if len(node.outputs) > 1:
        groups = b.reshape(
            b.one("SHAPE", [found], DataType.INT32, (1,), options("ShapeOptions", outType=schema.TensorType.INT32)), ()
        )
        first = b.one(
            "UNSORTED_SEGMENT_MIN", [own, owner, groups], DataType.INT32, (-1,), options("UnsortedSegmentMinOptions")
        )
        ones = b.constant(np.ones(count, np.int32))
        counts = b.one(
            "UNSORTED_SEGMENT_SUM", [ones, owner, groups], DataType.INT32, (-1,), options("UnsortedSegmentSumOptions")
        )
        inverse = owner
        if places is not None:
            column = b.reshape(places, (count, 1))
            inverse = b.one("SCATTER_ND", [column, owner, b.ints((count,))], DataType.INT32, (count,))
        results += [b.cast(tensor, DataType.INT64) for tensor in (first, inverse, counts)]
    return results[: len(node.outputs)]


def _running_rule(node: Node) -> LayoutRule:
    axis = node.input(1)
    return Along(operands=(0,)) if axis is not None and axis.const is not None else FIXED


@lowers("CumSum", layout=_running_rule)
def running_sum(call: Call) -> T:
    """CUMSUM; the axis may be computed at run time."""
    b, node = call.b, call.node
    x = call.x(0)
    dtype = x.dtype
    wide = b.cast(x, DataType.INT32) if dtype in SMALL_INTEGERS else x
    if call.is_const(1):
        axis = b.constant(np.array(call.axis(int(call.const(1, "the axis").reshape(()))), np.int32))
    else:
        axis = b.reshape(b.cast(call.raw(1), DataType.INT32), ())
    table = options(
        "CumsumOptions", exclusive=bool(node.attr_int("exclusive", 0)), reverse=bool(node.attr_int("reverse", 0))
    )
    return b.cast(b.one("CUMSUM", [wide, axis], wide.dtype, wide.shape, table), dtype)


@lowers("CumProd", layout=_running_rule)
def running_product(call: Call) -> T:
    """Products of neighbours at distances 1, 2, 4, ...: a logarithmic number of multiplications.

    Source: Hillis and Steele, Data parallel algorithms, 1986.
    """
    b, node = call.b, call.node
    axis = call.axis(int(call.const(1, "the axis").reshape(())))
    x = call.x(0)
    dtype = x.dtype
    x = b.cast(x, DataType.INT32) if dtype in SMALL_INTEGERS else x
    extent = x.shape[axis]
    reverse = bool(node.attr_int("reverse", 0))

    def shifted(y: T, distance: int) -> T:
        begin, size = [0] * y.rank, list(y.shape)
        begin[axis], size[axis] = (distance if reverse else 0), extent - distance
        pads = [(0, 0)] * y.rank
        pads[axis] = (0, distance) if reverse else (distance, 0)
        return b.pad(b.slice(y, begin, size), pads, 1)

    if node.attr_int("exclusive", 0):
        x = shifted(x, 1) if extent > 1 else b.constant(np.ones(x.shape, x.dtype.numpy))
    distance = 1
    while distance < extent:
        x = b.mul(x, shifted(x, distance))
        distance *= 2
    return b.cast(b.copy(x) if x.producer is None else x, dtype)
