"""Slices, pads, shapes and repetitions whose parameters are computed at run time.

LiteRT reads these parameters at run time too, but under narrower rules: int32, one entry per axis, no negative pads.
Small operators on vectors of the rank's length bring ONNX's parameters there.

Source: ONNX Slice-13, Pad-25, Expand-13, Reshape-25, Tile-13; LiteRT kernels strided_slice.cc, pad.cc, broadcast_to.cc.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Value
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.indexing import known_dims
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse

FAR = 1 << 30
"""Beyond every extent, and far enough from the limits of int32 that an extent can be added."""


def all_constant(*values: Value | None) -> bool:
    """Whether every operand that is there is constant."""
    return all(value is None or value.const is not None for value in values)


def vector(call: Call, position: int) -> T:
    """An operand of integers as int32, limited to what an int32 can hold with room for an extent."""
    b, x = call.b, call.raw(position)
    if x.const is not None:
        limited = np.clip(x.const.numpy().astype(np.int64), -FAR, FAR)
        return b.constant(limited.reshape(-1).astype(np.int32))
    if x.dtype is DataType.INT64:
        x = b.maximum(b.minimum(x, b.scalar(FAR, x)), b.scalar(-FAR, x))
    return b.reshape(b.cast(x, DataType.INT32), (x.size,))


def shape_of(call: Call, x: T) -> T:
    """The extents of a tensor, int32: a constant where they are known."""
    if -1 not in x.shape:
        return call.b.ints(x.shape)
    return call.b.one("SHAPE", [x], DataType.INT32, (x.rank,), options("ShapeOptions", outType=schema.TensorType.INT32))


def _axes(call: Call, position: int, rank: int) -> T:
    """An operand of axes as a column [n, 1] of axes that are not negative."""
    b = call.b
    axes = vector(call, position)
    if axes.const is not None:
        return b.constant((axes.const.numpy() % rank).astype(np.int32).reshape(-1, 1))
    return b.reshape(b.binary("FLOOR_MOD", axes, b.scalar(rank, axes)), (axes.size, 1))


def runtime_slice(call: Call) -> T:
    """STRIDED_SLICE: LiteRT counts and limits positions exactly as ONNX does."""
    b = call.b
    x = call.raw(0)
    rank = x.rank
    begin, end = vector(call, 1), vector(call, 2)
    step = vector(call, 4) if call.has(4) else b.constant(np.ones(begin.size, np.int32))
    if call.has(3):
        column = _axes(call, 3, rank)
    else:
        column = b.constant(np.arange(begin.size, dtype=np.int32).reshape(-1, 1))

    def spread(values: T, default: int) -> T:
        placed = b.one("SCATTER_ND", [column, values, b.ints((rank,))], DataType.INT32, (rank,))
        return placed if default == 0 else b.select(given, placed, b.constant(np.full(rank, default, np.int32)))

    ones = b.constant(np.ones(begin.size, np.bool_))
    given = b.one("SCATTER_ND", [column, ones, b.ints((rank,))], DataType.BOOL, (rank,))
    operands = [x, spread(begin, 0), spread(end, FAR), spread(step, 1)]
    return b.one("STRIDED_SLICE", operands, x.dtype, known_dims(call.node.output), options("StridedSliceOptions"))


def runtime_pad(call: Call) -> T:
    """SLICE for what negative pads crop, then PADV2; other modes by a GATHER along every axis."""
    b = call.b
    x = call.raw(0)
    rank = x.rank
    pads = vector(call, 1)
    pairs = b.transpose(b.reshape(pads, (2, pads.size // 2)), (1, 0))
    if call.has(3):
        pairs = b.one("SCATTER_ND", [_axes(call, 3, rank), pairs, b.ints((rank, 2))], DataType.INT32, (rank, 2))
    mode = call.node.attr_str("mode", "constant")
    if mode != "constant":
        return _mirrored(call, x, pairs, mode)
    nothing = b.scalar(0, pairs)
    crops = b.maximum(b.unary("NEG", pairs), nothing)
    size = b.sub(shape_of(call, x), b.reduce("SUM", crops, [1], keep=False))
    first = b.reshape(b.slice(crops, (0, 0), (rank, 1)), (rank,))
    cropped = b.one("SLICE", [x, first, size], x.dtype, (-1,) * rank, options("SliceOptions"))
    dtype = x.dtype
    if dtype is DataType.BOOL:
        cropped = b.cast(cropped, DataType.INT32)
    value = b.reshape(b.cast(call.raw(2), cropped.dtype), (1,)) if call.has(2) else None
    fill = value if value is not None else b.constant(np.zeros(1, cropped.dtype.numpy))
    operands = [cropped, b.maximum(pairs, nothing), fill]
    return b.cast(b.one("PADV2", operands, cropped.dtype, known_dims(call.node.output), options("PadV2Options")), dtype)


def _mirrored(call: Call, x: T, pairs: T, mode: str) -> T:
    """Edge, wrap and reflect padding: the position every element comes from, axis by axis."""
    b = call.b
    dims, out = call.dims(0), call.out_dims()
    for axis, (extent, count) in enumerate(zip(dims, out)):
        before = b.reshape(b.slice(pairs, (axis, 0), (1, 1)), ())
        place = b.sub(b.constant(np.arange(count, dtype=np.int32)), before)
        last = b.scalar(extent - 1, place)
        if mode == "edge":
            place = b.minimum(b.maximum(place, b.scalar(0, place)), last)
        elif mode == "wrap":
            place = b.binary("FLOOR_MOD", place, b.scalar(extent, place))
        elif mode == "reflect":
            period = max(2 * (extent - 1), 1)
            place = b.binary("FLOOR_MOD", place, b.scalar(period, place))
            place = b.sub(last, b.unary("ABS", b.sub(place, last)))
        else:
            refuse(f"the padding mode '{mode}'", rule="EDG406")
        x = b.gather(x, place, axis)
    return x


def runtime_tile(call: Call) -> T:
    """TILE reads its multiples at run time."""
    x = call.raw(0)
    return call.b.one("TILE", [x, vector(call, 1)], x.dtype, known_dims(call.node.output), options("TileOptions"))


def runtime_expand(call: Call) -> T:
    """BROADCAST_TO the larger of the operand's own extents and those asked for."""
    b = call.b
    x, wanted = call.raw(0), vector(call, 1)
    rank = max(x.rank, wanted.size)
    own = shape_of(call, x)
    if x.rank < rank:
        own = b.concat([b.constant(np.ones(rank - x.rank, np.int32)), own], 0)
    if wanted.size < rank:
        wanted = b.concat([b.constant(np.ones(rank - wanted.size, np.int32)), wanted], 0)
    shape = b.maximum(own, wanted)
    return b.one("BROADCAST_TO", [x, shape], x.dtype, known_dims(call.node.output), options("BroadcastToOptions"))


def runtime_reshape(call: Call) -> T:
    """RESHAPE to extents of which one is left open, or which are all computed."""
    b, node = call.b, call.node
    x = call.raw(0)
    known = known_dims(call.node.output)
    if known.count(-1) == 1:
        return b.one("RESHAPE", [x, b.ints(known)], x.dtype, known, options("ReshapeOptions", newShape=list(known)))
    if node.op in ("Squeeze", "Unsqueeze"):
        # every extent of the result is one of the operand's or, with the number behind them, one
        extents = b.concat([shape_of(call, x), b.ints((1,))], 0)
        wanted = b.gather(extents, b.ints(_kept_axes(call, x.rank)), 0)
        return b.one("RESHAPE", [x, wanted], x.dtype, known, options("ReshapeOptions"))
    if node.op != "Reshape":
        refuse("more than one extent of the result is known only at run time", rule="EDG402")
    wanted = vector(call, 1)
    if not node.attr_int("allowzero", 0):
        own = shape_of(call, x)
        count = min(wanted.size, x.rank)
        kept = b.slice(own, (0,), (count,))
        if count < wanted.size:
            kept = b.concat([kept, b.constant(np.zeros(wanted.size - count, np.int32))], 0)
        wanted = b.select(b.compare("EQUAL", wanted, b.scalar(0, wanted)), kept, wanted)
    return b.one("RESHAPE", [x, wanted], x.dtype, known, options("ReshapeOptions"))


def _kept_axes(call: Call, rank: int) -> list[int]:
    """Per axis of the result of Squeeze or Unsqueeze the operand's axis, or the operand's rank for a new axis."""
    node = call.node
    if node.op == "Squeeze":
        if not call.has(1):
            refuse("the axes to take away are not given, and extents are known only at run time", rule="EDG402")
        gone = {int(axis) % rank for axis in call.const(1, "the axes").reshape(-1)}
        return [axis for axis in range(rank) if axis not in gone]
    made = len(node.output.shape or ())
    fresh = {int(axis) % made for axis in call.const(1, "the axes").reshape(-1)}
    own = iter(range(rank))
    return [rank if axis in fresh else next(own) for axis in range(made)]
