"""Shapes and sequences of numbers.

Source: LiteRT kernels shape.cc, rank.cc, fill.cc, range.cc, broadcast_args.cc.
"""

from __future__ import annotations

import numpy as np

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.types import DataType


@reads("SHAPE")
def shape(call: Call) -> None:
    """Shape."""
    dtype = call.result().dtype
    call.stored = True
    call.give_plain(call.e.cast(call.e.lengths(call.raw(0)), DataType.INT32 if dtype is None else dtype))


@reads("RANK")
def rank(call: Call) -> None:
    """A constant."""
    call.give_plain(call.e.constant(np.array(len(call.tensor(0).shape), np.int32)))


@reads("FILL", moves=True)
def fill(call: Call) -> None:
    """A number repeated."""
    call.give_plain(call.e.one("Expand", call.plain(1), call.longs(0)))


@reads("RANGE")
def sequence(call: Call) -> None:
    """Range."""
    call.give_plain(call.e.one("Range", *(call.e.reshape(call.raw(position), []) for position in range(3))))


@reads("BITCAST")
def bitcast(call: Call) -> None:
    """Refused: ONNX's BitCast, of opset 26, has no kernels."""
    call.refuse("ONNX Runtime has no operator that reads the bits of one type as another")
