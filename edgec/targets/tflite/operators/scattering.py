"""Operators that write elements by position.

Writing is a choice between the data and the last update for a place, found by UNSORTED_SEGMENT_MAX over the updates'
numbers.  Sums go through SCATTER_ND, which adds updates onto zeros, products and extrema through the UNSORTED_SEGMENT
operators, which combine updates for the same place.

Source: ONNX ScatterND-18, ScatterElements-18, TensorScatter-24; LiteRT kernels scatter_nd.cc, unsorted_segment.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.operators.indexing import coordinate, flat_positions, wrapped
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

SEGMENTS = {
    "mul": ("UNSORTED_SEGMENT_PROD", "UnsortedSegmentProdOptions", "MUL"),
    "max": ("UNSORTED_SEGMENT_MAX", "UnsortedSegmentMaxOptions", "MAXIMUM"),
    "min": ("UNSORTED_SEGMENT_MIN", "UnsortedSegmentMinOptions", "MINIMUM"),
}


def scattered(call: Call, data: T, rows: T, updates: T, reduction: str) -> T:
    """Combine updates [M, ...] into data [N, ...] at rows [M], int32 and not negative.

    Args:
        reduction: none, add, mul, max or min, as in ONNX ScatterND-18.  Under ``none`` the last of several updates
            for a row wins, as in ONNX Runtime; ONNX leaves that open.
    """
    b, dtype = call.b, data.dtype
    if reduction != "none" and dtype in SMALL_INTEGERS:
        wide = scattered(call, b.cast(data, DataType.INT32), rows, b.cast(updates, DataType.INT32), reduction)
        return b.cast(wide, dtype)
    count = data.shape[0]
    if reduction == "none":
        return _overwritten(call, data, rows, updates)
    if reduction == "add":
        column = b.reshape(rows, (rows.size, 1))
        return b.add(data, b.one("SCATTER_ND", [column, updates, b.ints(data.shape)], dtype, data.shape))
    if reduction not in SEGMENTS:
        refuse(f"the reduction '{reduction}'", rule="EDG406")
    if dtype not in (DataType.FLOAT, DataType.INT32):
        refuse(
            f"the reduction '{reduction}' of {dtype.name.lower()}; LiteRT's segment operators take float32 and int32",
            rule="EDG403",
        )
    code, table, combine = SEGMENTS[reduction]
    segments = b.constant(np.array(count, np.int32))
    return b.binary(combine, data, b.one(code, [updates, rows, segments], dtype, data.shape, options(table)))


def _overwritten(call: Call, data: T, rows: T, updates: T) -> T:
    """Every row of the data, or the last update that names it."""
    b, count = call.b, data.shape[0]
    if rows.const is not None:
        last = np.full(count, -1, np.int64)
        np.maximum.at(last, rows.const.numpy().reshape(-1), np.arange(rows.size))
        written = b.gather(updates, b.constant(np.maximum(last, 0).astype(np.int32)), 0)
        if np.all(last >= 0):
            return written
        mask = b.constant(last >= 0)
    else:
        order, segments = b.constant(np.arange(rows.size, dtype=np.int32)), b.constant(np.array(count, np.int32))
        # rows that no update names get the lowest int32
        winner = b.one(
            "UNSORTED_SEGMENT_MAX",
            [order, rows, segments],
            DataType.INT32,
            (count,),
            options("UnsortedSegmentMaxOptions"),
        )
        written = b.gather(updates, b.maximum(winner, b.scalar(0, winner)), 0)
        mask = b.compare("GREATER_EQUAL", winner, b.scalar(0, winner))
    return b.select(b.reshape(mask, (count, *(1,) * (data.rank - 1))), written, data)


@lowers("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> T:
    """A scatter into the flattened data."""
    b, dims = call.b, call.dims(0)
    axis = call.node.attr_int("axis", 0) % len(dims)
    data, updates = call.x(0), call.raw(2)
    if updates.size == 0:
        return b.copy(data)
    rows = flat_positions(call, 1, axis, dims)
    result = scattered(
        call,
        b.reshape(data, (data.size,)),
        b.reshape(rows, (rows.size,)),
        b.reshape(updates, (updates.size,)),
        call.node.attr_str("reduction", "none"),
    )
    return b.reshape(result, data.shape)


@lowers("ScatterND")
def scatter_nd(call: Call) -> T:
    """A scatter of slices into the data, whose indexed axes are merged into one."""
    b, dims, shape = call.b, call.dims(0), call.dims(1)
    depth = shape[-1]
    data, updates = call.x(0), call.raw(2)
    if updates.size == 0:
        return b.copy(data)
    indexed, rest = dims[:depth], dims[depth:]
    count = int(np.prod(indexed, dtype=np.int64))
    rows = _rows(call, wrapped(call, 1, indexed), indexed)
    result = scattered(
        call,
        b.reshape(data, (count, *rest)),
        rows,
        b.reshape(updates, (rows.size, *rest)),
        call.node.attr_str("reduction", "none"),
    )
    return b.reshape(result, data.shape)


def _rows(call: Call, indices: T, extents: Sequence[int]) -> T:
    """Coordinates [..., depth] as positions [M] in the flattened leading axes, int32."""
    b = call.b
    strides = np.array([np.prod(extents[a + 1 :], dtype=np.int64) for a in range(len(extents))], np.int32)
    if indices.const is not None:
        return b.constant((indices.const.numpy() * strides).sum(axis=-1).astype(np.int32).reshape(-1))
    narrow = b.cast(indices, DataType.INT32)
    if len(extents) > 1:
        narrow = b.reduce("SUM", b.mul(narrow, b.constant(strides)), [narrow.rank - 1], keep=False)
    return b.reshape(narrow, (int(np.prod(indices.shape[:-1], dtype=np.int64)),))


@lowers("TensorScatter")
def tensor_scatter(call: Call) -> T:
    """Write an update [B, ..., S, ...] into a cache [B, ..., L, ...] from a position per batch on.

    Circular writing wraps positions by FLOOR_MOD.
    """
    b, dims, update_dims = call.b, call.dims(0), call.dims(1)
    axis = call.node.attr_int("axis", -2) % len(dims)
    circular = call.node.attr_str("mode", "linear") == "circular"
    data, updates = call.x(0), call.raw(1)
    inner = coordinate(update_dims, axis).astype(np.int64)
    strides = [int(np.prod(dims[a + 1 :], dtype=np.int64)) for a in range(len(dims))]
    others = sum(
        (coordinate(update_dims, a).astype(np.int64) * strides[a] for a in range(len(dims)) if a != axis),
        np.zeros((1,) * len(dims), np.int64),
    )
    if call.has(2):
        start = b.cast(call.raw(2), DataType.INT32)
        start = b.reshape(start, (dims[0], *(1,) * (len(dims) - 1)))
    else:
        start = b.constant(np.zeros((1,) * len(dims), np.int32))
    place = b.add(start, b.constant(inner.astype(np.int32)))
    if circular:
        place = b.binary("FLOOR_MOD", place, b.scalar(dims[axis], place))
    flat = b.add(b.mul(place, b.scalar(strides[axis], place)), b.constant(others.astype(np.int32)))
    flat = b.broadcast_to(flat, update_dims)
    result = scattered(
        call,
        b.reshape(data, (data.size,)),
        b.reshape(flat, (flat.size,)),
        b.reshape(updates, (updates.size,)),
        "none",
    )
    return b.reshape(result, data.shape)
