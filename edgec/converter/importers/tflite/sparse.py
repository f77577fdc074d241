"""Sparse constants as dense arrays.

Source: ``SparsityParameters`` in LiteRT's schema.fbs; FormatConverter in LiteRT's sparsity_format_converter.h.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.types import Array

MAX_ELEMENTS = 1 << 31


def densify(table: Any, shape: tuple[int, ...], values: Array) -> Array:
    """The dense array of a sparse constant.

    Args:
        table: a reader of ``SparsityParameters``.
        shape: of the dense array.
        values: the stored elements, one axis.

    Raises:
        ValueError: the description contradicts itself.
    """
    order = [int(item) for item in _numbers(table.TraversalOrderAsNumpy())]
    blocked = [int(item) for item in _numbers(table.BlockMapAsNumpy())]
    levels = table.DimMetadataLength()
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocked))) or levels != len(order):
        raise ValueError(f"a sparse tensor of rank {rank} with the traversal order {order} and {levels} levels")
    if any(not 0 <= axis < rank for axis in blocked) or len(set(blocked)) != len(blocked):
        raise ValueError(f"a sparse tensor of rank {rank} with the blocks {blocked}")
    # extents of the array whose axes are the original ones, in blocks, and then those inside a block
    block = {axis: table.DimMetadata(order.index(rank + place)).DenseSize() for place, axis in enumerate(blocked)}
    if any(size < 1 or shape[axis] % size for axis, size in block.items()):
        raise ValueError(f"blocks of {block} in the shape {list(shape)}")
    extents = [extent // block.get(axis, 1) for axis, extent in enumerate(shape)] + [block[axis] for axis in blocked]
    total = math.prod(shape)
    if total > MAX_ELEMENTS:
        raise ValueError(f"a sparse tensor of shape {list(shape)}")
    # level by level: where every stored entry lies on the axes that were walked so far
    places = np.zeros((1, 0), np.int64)
    for level, axis in enumerate(order):
        entry = table.DimMetadata(level)
        if entry.Format() == schema.DimensionType.DENSE:
            size = entry.DenseSize()
            if size != extents[axis]:
                raise ValueError(f"level {level} has {size} entries, axis {axis} {extents[axis]}")
            if len(places) * size > total:
                raise ValueError("the description has more entries than the tensor has elements")
            own = np.tile(np.arange(size), len(places))
            places = np.repeat(places, size, axis=0)
        else:
            segments = _indices(entry.ArraySegmentsType(), entry.ArraySegments())
            own = _indices(entry.ArrayIndicesType(), entry.ArrayIndices())
            counts = np.diff(segments)
            if len(segments) != len(places) + 1 or segments[0] or segments[-1] != own.size or (counts < 0).any():
                raise ValueError(f"the segments of level {level} do not fit")
            if own.size and (own.min() < 0 or own.max() >= extents[axis]):
                raise ValueError(f"level {level} has indices outside of {extents[axis]}")
            places = np.repeat(places, counts, axis=0)
        places = np.concatenate([places, own[:, None]], axis=1)
    if len(places) != values.size:
        raise ValueError(f"{values.size} elements for {len(places)} places")
    by_axis = {axis: places[:, level] for level, axis in enumerate(order)}
    dense = np.zeros(shape, values.dtype)
    index = []
    for axis in range(rank):
        place = by_axis[axis]
        if axis in block:
            place = place * block[axis] + by_axis[rank + blocked.index(axis)]
        index.append(place)
    dense[tuple(index)] = values
    return dense


def _numbers(vector: Any) -> Array:
    return np.zeros(0, np.int64) if isinstance(vector, int) else np.asarray(vector, np.int64)


def _indices(kind: int, table: Any) -> Array:
    readers = {
        schema.SparseIndexVector.Int32Vector: schema.Int32Vector,
        schema.SparseIndexVector.Uint16Vector: schema.Uint16Vector,
        schema.SparseIndexVector.Uint8Vector: schema.Uint8Vector,
    }
    if kind not in readers or table is None:
        raise ValueError(f"sparse indices of the type {kind}")
    reader = readers[kind]()
    reader.Init(table.Bytes, table.Pos)
    return _numbers(reader.ValuesAsNumpy())
