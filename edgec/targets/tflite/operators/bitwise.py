"""Bits of integers.  LiteRT has exclusive or and a right shift; the rest follows from a + b = (a ^ b) + 2 (a & b).

Source: ONNX BitwiseAnd-18, BitwiseOr-18, BitwiseXor-18, BitwiseNot-18, BitShift-11; LiteRT kernels bitwise_xor.cc,
right_shift.cc, bitcast.cc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import ELEMENTWISE
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

HALF = 1 << 16


def _conjunction(call: Call, x: T, y: T) -> T:
    """x & y of int32, by halves of 16 bits so that no sum overflows."""
    b = call.b

    def both(left: T, right: T) -> T:
        total = b.sub(b.add(left, right), b.binary("BITWISE_XOR", left, right))
        return b.binary("RIGHT_SHIFT", total, b.scalar(1, total))

    def halves(v: T) -> tuple[T, T]:
        high = b.binary("RIGHT_SHIFT", v, b.scalar(16, v))
        return high, b.sub(v, b.mul(high, b.scalar(HALF, v)))

    (x_high, x_low), (y_high, y_low) = halves(x), halves(y)
    return b.add(b.mul(both(x_high, y_high), b.scalar(HALF, x)), both(x_low, y_low))


def _in_words(call: Call, compute: Callable[[T, T], T]) -> T:
    """Compute on int32: smaller types are widened (which keeps their bits), int64 is seen as pairs of words."""
    b = call.b
    x, y = call.aligned(0), call.aligned(1)
    dtype = x.dtype
    if dtype in SMALL_INTEGERS:
        return b.cast(compute(b.cast(x, DataType.INT32), b.cast(y, DataType.INT32)), dtype)
    if dtype is DataType.INT32:
        return compute(x, y)
    words = [b.one("BITCAST", [v], DataType.INT32, (*v.shape, 2)) for v in (x, y)]
    rank = max(v.rank for v in words)
    left, right = (b.reshape(v, (*(1,) * (rank - v.rank), *v.shape)) for v in words)
    result = compute(left, right)
    return b.one("BITCAST", [result], DataType.INT64, result.shape[:-1])


@lowers("BitwiseAnd", "BitwiseOr", "BitwiseXor", layout=ELEMENTWISE)
def bitwise(call: Call) -> T:
    """And, or, exclusive or: the union is the sum of the difference and the intersection."""
    b, op = call.b, call.node.op

    def compute(x: T, y: T) -> T:
        if op == "BitwiseAnd":
            return _conjunction(call, x, y)
        difference = b.binary("BITWISE_XOR", x, y)
        return difference if op == "BitwiseXor" else b.add(difference, _conjunction(call, x, y))

    return _in_words(call, compute)


@lowers("BitwiseNot", layout=ELEMENTWISE)
def complement(call: Call) -> T:
    """-1 - x in two's complement, 255 - x for uint8."""
    b, x = call.b, call.x(0)
    wide = b.cast(x, DataType.INT32) if x.dtype in SMALL_INTEGERS else x
    most = 255 if x.dtype is DataType.UINT8 else -1
    return b.cast(b.sub(b.scalar(most, wide), wide), x.dtype)


@lowers("BitShift", layout=ELEMENTWISE)
def shift(call: Call) -> T:
    """RIGHT_SHIFT, or a multiplication by a power of two looked up in a table; only uint8 exists in LiteRT."""
    b = call.b
    x, places = call.aligned(0), call.aligned(1)
    if x.dtype is not DataType.UINT8:
        refuse(f"a shift of {x.dtype.name.lower()}", rule="EDG403")
    if call.node.attr_str("direction") == "RIGHT":
        return b.binary("RIGHT_SHIFT", x, places)
    limited = b.minimum(b.cast(places, DataType.INT32), b.constant(np.array(8, np.int32)))
    powers = b.gather(b.constant(np.array([1 << n for n in range(9)], np.int32)), limited, 0)
    return b.cast(b.mul(b.cast(x, DataType.INT32), powers), DataType.UINT8)
