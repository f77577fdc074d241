"""Integer arithmetic that LiteRT's kernels lack, composed exactly from what they have.

Source: ONNX Div-14, Pow-15, Mod-13; LiteRT kernels div.cc (no int64), pow.cc (int32 and float32), floor_mod.cc.
"""

from __future__ import annotations

from edgec.ir.types import DataType
from edgec.targets.tflite.builder import Builder
from edgec.targets.tflite.program import T

REFINEMENTS = 3
"""Float32 quotients carry 24 bits, so three of them cover an int64."""


def absolute(b: Builder, x: T) -> T:
    """|x| for any signed type."""
    return b.maximum(x, b.unary("NEG", x)) if x.dtype is DataType.INT64 else b.unary("ABS", x)


def divide_int64(b: Builder, x: T, y: T) -> T:
    """x / y in int64, truncated toward zero: float quotients of what is left over, then one exact correction."""
    divisor = absolute(b, y)
    rest = absolute(b, x)
    rough = b.cast(divisor, DataType.FLOAT)
    quotient: T | None = None
    for _ in range(REFINEMENTS):
        step = b.cast(b.div(b.cast(rest, DataType.FLOAT), rough), DataType.INT64)
        quotient = step if quotient is None else b.add(quotient, step)
        rest = b.sub(rest, b.mul(step, divisor))
    assert quotient is not None
    above = b.cast(b.compare("GREATER_EQUAL", rest, divisor), DataType.INT64)
    below = b.cast(b.compare("LESS", rest, b.scalar(0, rest)), DataType.INT64)
    quotient = b.add(quotient, b.sub(above, below))
    differ = b.compare("NOT_EQUAL", b.compare("LESS", x, b.scalar(0, x)), b.compare("LESS", y, b.scalar(0, y)))
    return b.select(differ, b.unary("NEG", quotient), quotient)


def integer_power(b: Builder, x: T, exponent: int) -> T:
    """x to a constant power that is not negative, by squaring; wraps as machine arithmetic does."""
    result: T | None = None
    square = x
    while exponent:
        if exponent & 1:
            result = square if result is None else b.mul(result, square)
        exponent >>= 1
        if exponent:
            square = b.mul(square, square)
    return b.add(b.mul(x, b.scalar(0, x)), b.scalar(1, x)) if result is None else result


def integer_power_of(b: Builder, x: T, exponent: T) -> T:
    """x to powers computed at run time, int32 or int64, by squaring over the bits of |exponent|.

    Negative powers give what truncating 1 / x ** |exponent| gives: 0, or 1 and -1 for those bases.  Powers of 64 and up
    only matter for the bases 0, 1 and -1, and keep their parity.
    """
    size = absolute(b, exponent)
    parity = b.add(b.binary("FLOOR_MOD", size, b.scalar(2, size)), b.scalar(64, size))
    bits = b.cast(b.select(b.compare("LESS", size, b.scalar(64, size)), size, parity), DataType.INT32)
    one = b.scalar(1, x)
    result: T | None = None
    square = x
    for place in range(7):
        shifted = b.binary("RIGHT_SHIFT", bits, b.scalar(place, bits)) if place else bits
        odd = b.compare("EQUAL", b.binary("FLOOR_MOD", shifted, b.scalar(2, bits)), b.scalar(1, bits))
        factor = b.select(odd, square, one)
        result = factor if result is None else b.mul(result, factor)
        square = b.mul(square, square)
    assert result is not None
    unit = b.compare("EQUAL", b.mul(result, result), one)
    inverse = b.select(unit, result, b.scalar(0, x))
    return b.select(b.compare("LESS", exponent, b.scalar(0, exponent)), inverse, result)
