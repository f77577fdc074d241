"""Operators that pick elements by position: Gather and its relatives, masks, reversals.

LiteRT's kernels refuse negative indices, so those are brought to zero and up first: constants here, run-time indices by
three small operators.

Source: ONNX Gather-13, GatherND-13, GatherElements-13, Compress-11, ReverseSequence-10, Trilu-14; LiteRT kernels
gather.cc, gather_nd.cc, where.cc, reverse_sequence.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.graph import Node, Value
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import FIXED, LayoutRule
from edgec.targets.tflite.layout.rules import Along, DropsAxes
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

NEVER_NEGATIVE = frozenset({"ArgMax", "ArgMin", "NonZero", "TopK", "Shape", "Size"})
"""Operators whose integer results cannot be negative."""


def integer_indices(call: Call, position: int) -> T:
    """An operand of indices as int32 or int64."""
    indices = call.raw(position)
    return indices if indices.dtype in (DataType.INT32, DataType.INT64) else call.b.cast(indices, DataType.INT32)


def wrapped(call: Call, position: int, extents: int | Sequence[int]) -> T:
    """Indices with negative ones counted from the end; indices out of range stay so, and LiteRT reports them.

    Args:
        extents: the extent that all indices refer to, or one per element of their last axis.
    """
    b, value = call.b, call.node.operand(position)
    limit = np.asarray(extents)
    if value.const is not None:
        indices = value.const.numpy().astype(np.int64)
        return b.constant(np.where(indices < 0, indices + limit, indices).astype(np.int32))
    indices_tensor = integer_indices(call, position)
    producer = value.producer
    never = producer is not None and producer.op in NEVER_NEGATIVE
    if never or value.dtype is DataType.UINT8:
        return indices_tensor
    added = b.add(indices_tensor, b.constant(limit.astype(indices_tensor.dtype.numpy)))
    return b.select(b.compare("LESS", indices_tensor, b.scalar(0, indices_tensor)), added, indices_tensor)


def known_dims(value: Value) -> tuple[int, ...]:
    """The ONNX shape of a value, -1 where an extent is known only at run time."""
    return tuple(dim if isinstance(dim, int) else -1 for dim in value.shape or ())


def coordinate(shape: Sequence[int], axis: int) -> Array:
    """The position along an axis, int32, with extent 1 along all others."""
    extents = [1] * len(shape)
    extents[axis] = shape[axis]
    return np.arange(shape[axis], dtype=np.int32).reshape(extents)


def flat_positions(call: Call, position: int, axis: int, dims: Sequence[int]) -> T:
    """Where the elements that GatherElements or ScatterElements name lie in the flattened data, int32.

    Args:
        position: the operand of indices, of the rank of the data.
        axis: the axis along which the indices count, not negative.
        dims: the shape of the data.
    """
    b, shape = call.b, call.dims(position)
    strides = [int(np.prod(dims[a + 1 :], dtype=np.int64)) for a in range(len(dims))]
    others = np.zeros((1,) * len(shape), np.int64)
    for a in range(len(shape)):
        if a != axis:
            others = others + coordinate(shape, a).astype(np.int64) * strides[a]
    indices = wrapped(call, position, dims[axis])
    if indices.const is not None:
        return b.constant((indices.const.numpy() * strides[axis] + others).astype(np.int32).reshape(shape))
    scaled = b.cast(indices, DataType.INT32)
    if strides[axis] != 1:
        scaled = b.mul(scaled, b.scalar(strides[axis], scaled))
    return b.add(scaled, b.constant(others.astype(np.int32))) if others.any() else scaled


def _gather_rule(node: Node) -> LayoutRule:
    value, indices = node.operand(0), node.operand(1)
    if value.shape is None or indices.shape is None:
        return FIXED
    if len(indices.shape) == 1:
        return Along(operands=(0,))
    if len(indices.shape) == 0:
        axis = node.attr_int("axis", 0) % max(len(value.shape), 1)
        return DropsAxes(lambda _: frozenset((axis,)))
    return FIXED


@lowers("Gather", layout=_gather_rule)
def gather(call: Call) -> T:
    """GATHER; SLICE for constant neighbours, which XNNPACK can run with what is around it."""
    b, node = call.b, call.node
    axis = node.attr_int("axis", 0)
    x, stored = call.x(0), call.axis(axis)
    extent = x.shape[stored]
    if extent < 0:
        if not call.is_const(1) or np.any(call.const(1, "the indices") < 0):
            refuse(f"indices may be negative, and the extent of axis {axis} is known only at run time", rule="EDG402")
        return b.gather(x, b.constant(call.const(1, "the indices").astype(np.int32)), stored)
    indices = wrapped(call, 1, extent)
    if indices.const is None or indices.rank > 1 or -1 in x.shape or indices.size == 0:
        return b.gather(x, indices, stored)
    places = indices.const.numpy().reshape(-1)
    if np.any(places < 0) or np.any(places >= extent):
        refuse(f"an index is outside of axis {axis}, which has {extent} elements")
    if np.any(np.diff(places) != 1):
        return b.gather(x, indices, stored)
    begin, size = [0] * x.rank, list(x.shape)
    begin[stored], size[stored] = int(places[0]), len(places)
    piece = b.slice(x, begin, size)
    if indices.rank == 1:
        return b.copy(piece) if piece is x else piece
    return b.reshape(piece, [dim for a, dim in enumerate(x.shape) if a != stored])


@lowers("GatherND")
def gather_nd(call: Call) -> T:
    """GATHER_ND; batch axes become leading coordinates."""
    b = call.b
    x, dims = call.x(0), call.dims(0)
    batch = call.node.attr_int("batch_dims", 0)
    shape = known_dims(call.node.operand(1))
    if shape[-1] < 0:
        refuse("how many axes the indices refer to is known only at run time", rule="EDG402")
    indices = wrapped(call, 1, dims[batch : batch + shape[-1]])
    if batch:
        shape = call.dims(1)
        lead = np.stack([np.broadcast_to(coordinate(shape[:-1], a), shape[:-1]) for a in range(batch)], axis=-1)
        indices = b.concat([b.constant(lead.astype(indices.dtype.numpy)), indices], len(shape) - 1)
    result = known_dims(call.node.output)
    return b.one("GATHER_ND", [x, indices], x.dtype, result, options("GatherNdOptions"))


@lowers("GatherElements")
def gather_elements(call: Call) -> T:
    """A GATHER from the flattened data."""
    b = call.b
    x, dims = call.x(0), call.dims(0)
    positions = flat_positions(call, 1, call.node.attr_int("axis", 0) % len(dims), dims)
    return b.gather(b.reshape(x, (x.size,)), positions, 0)


@lowers("ArrayFeatureExtractor")
def array_feature_extractor(call: Call) -> T:
    """GATHER along the last axis."""
    x = call.x(0)
    indices = integer_indices(call, 1)
    return call.b.gather(x, call.b.reshape(indices, (indices.size,)), x.rank - 1)


@lowers("Compress")
def compress(call: Call) -> T:
    """GATHER of the positions where the condition holds; how many is known only at run time unless it is constant."""
    b, node = call.b, call.node
    x = call.x(0)
    if node.has("axis"):
        axis = call.axis(node.attr_int("axis"))
    else:
        x, axis = b.reshape(x, (x.size,)), 0
    if call.is_const(1):
        places = np.flatnonzero(call.const(1, "the condition")).astype(np.int32)
        return b.gather(x, b.constant(places), axis)
    return b.gather(x, true_positions(call, call.raw(1)), axis)


def true_positions(call: Call, condition: T) -> T:
    """The positions [N], int64, at which a 1-D bool tensor is true; N is known only at run time."""
    found = call.b.one("WHERE", [condition], DataType.INT64, (-1, 1), options("WhereOptions"))
    return call.b.reshape(found, (-1,))


@lowers("NonZero")
def non_zero(call: Call) -> T:
    """WHERE, transposed; the number of columns is known only at run time."""
    b, x = call.b, call.x(0)
    if x.rank == 0:
        x = b.reshape(x, (1,))
    found = b.one("WHERE", [x], DataType.INT64, (-1, x.rank), options("WhereOptions"))
    return b.one("TRANSPOSE", [found, b.ints((1, 0))], DataType.INT64, (x.rank, -1))


@lowers("ReverseSequence")
def reverse_sequence(call: Call) -> T:
    """REVERSE_SEQUENCE."""
    b, node = call.b, call.node
    x = call.x(0)
    dtype = x.dtype
    if dtype in (DataType.INT8, DataType.BOOL):
        x = b.cast(x, DataType.UINT8 if dtype is DataType.BOOL else DataType.INT32)
    table = options(
        "ReverseSequenceOptions", seqDim=node.attr_int("time_axis", 0), batchDim=node.attr_int("batch_axis", 1)
    )
    return b.cast(b.one("REVERSE_SEQUENCE", [x, integer_indices(call, 1)], x.dtype, x.shape, table), dtype)


@lowers("Trilu", layout=Along(operands=(0,)))
def trilu(call: Call) -> T:
    """A choice between the elements and zero by a constant triangle (or one computed from a run-time diagonal)."""
    b = call.b
    x, dims = call.x(0), call.dims(0)
    permutation = call.choice.inputs[0] or tuple(range(len(dims)))
    diagonal = coordinate(dims[-2:], 1).astype(np.int64) - coordinate(dims[-2:], 0)
    stored = diagonal.reshape((1,) * (len(dims) - 2) + diagonal.shape).transpose(permutation)
    upper = bool(call.node.attr_int("upper", 1))
    if not call.has(1) or call.is_const(1):
        k = int(call.const(1, "k").reshape(())) if call.has(1) else 0
        mask = b.constant(stored >= k if upper else stored <= k)
    else:
        threshold = b.reshape(b.cast(call.raw(1), DataType.INT64), ())
        mask = b.compare("GREATER_EQUAL" if upper else "LESS_EQUAL", b.constant(stored), threshold)
    return b.select(mask, x, b.scalar(0, x))
