"""Writing elements to computed places.

Source: LiteRT kernels scatter_nd.cc, unsorted_segment.cc; ONNX ScatterND-18.
"""

from __future__ import annotations

import numpy as np

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Tensor, Value
from edgec.ir.types import Array, DataType

SEGMENTS = {
    "UNSORTED_SEGMENT_MAX": "max",
    "UNSORTED_SEGMENT_MIN": "min",
    "UNSORTED_SEGMENT_PROD": "mul",
    "UNSORTED_SEGMENT_SUM": "add",
}


def _filled(call: Call, shape: Value, fill: Array) -> Value:
    return call.e.one("ConstantOfShape", shape, value=Tensor.of(fill.reshape(1)))


@reads("SCATTER_ND")
def scatter_nd(call: Call) -> None:
    """Zeros with updates added."""
    updates = call.plain(1)
    zeros = _filled(call, call.longs(2), np.zeros((), updates.dtype.numpy))
    call.give_plain(call.e.one("ScatterND", zeros, call.longs(0), updates, reduction="add"))


def _neutral(dtype: DataType, reduction: str) -> Array:
    if reduction in ("add", "mul"):
        return np.array(0 if reduction == "add" else 1, dtype.numpy)
    about = np.finfo(dtype.numpy) if dtype.is_float else np.iinfo(dtype.numpy)
    return np.array(about.min if reduction == "max" else about.max, dtype.numpy)


@reads(*SEGMENTS)
def unsorted_segment(call: Call) -> None:
    """The reduction of all rows with the same number; numbers must not be negative."""
    e, data, reduction = call.e, call.plain(0), SEGMENTS[call.op.code]
    rank, own = len(call.tensor(0).shape), len(call.tensor(1).shape)
    count = e.reshape(call.longs(2), [1])
    shape = count
    if rank > own:
        shape = e.one("Concat", count, e.lengths(data, list(range(own, rank))), axis=0)
    start = _filled(call, shape, _neutral(data.dtype, reduction))
    places = e.unsqueeze(call.longs(1), [own])
    call.give_plain(e.one("ScatterND", start, places, data, reduction=reduction))
