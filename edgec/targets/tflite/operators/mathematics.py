"""Elementary functions that LiteRT has no operator for, composed so that they stay accurate over their whole domain.

Source: the ONNX operator specifications; the formulas are named where they are used.
"""

from __future__ import annotations

import math

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import ELEMENTWISE
from edgec.targets.tflite.operators.elementwise import widened
from edgec.targets.tflite.operators.integers import absolute
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

LARGE = float(2**28)
"""From here on sqrt(x * x + 1) is x in float32."""


def real(call: Call, position: int = 0) -> T:
    """An operand that must be float."""
    x = call.x(position)
    if x.dtype is not DataType.FLOAT:
        refuse(f"{call.node.op} of {x.dtype.name.lower()}", rule="EDG403")
    return x


def log1p(call: Call, u: T) -> T:
    """log(1 + u) for u from 0 on: below 1/2 by 2 artanh(s) with s = u / (u + 2), since LOG is inaccurate just above 1.

    The series 2 (s + s^3 / 3 + s^5 / 5 + ...) is cut behind s^11, where the rest is below 1e-9 of the sum.
    """
    b = call.b
    near = b.minimum(u, b.scalar(0.5, u))
    s = b.div(near, b.add(near, b.scalar(2.0, u)))
    square = b.mul(s, s)
    series = b.scalar(1 / 11, u)
    for power in (9, 7, 5, 3, 1):
        series = b.add(b.mul(series, square), b.scalar(1 / power, u))
    small = b.mul(b.mul(s, b.scalar(2.0, u)), series)
    large = b.unary("LOG", b.add(u, b.scalar(1.0, u)))
    # below -1, where arguments lie outside of the domain, the logarithm is no number
    return b.select(b.compare("LESS", b.unary("ABS", u), b.scalar(0.5, u)), small, large)


def filled(call: Call, like: T, value: float) -> T:
    """A tensor of one value in the shape of another, not stored in the file."""
    fill = call.b.scalar(value, like)
    return call.b.one("FILL", [call.b.ints(like.shape), fill], like.dtype, like.shape, options("FillOptions"))


def atan2(call: Call, y: T, x: T) -> T:
    """The angle of (x, y)."""
    return call.b.one("ATAN2", [y, x], y.dtype, y.shape)


@lowers("Atan", layout=ELEMENTWISE)
def arctangent(call: Call) -> T:
    """ATAN2 of x and 1."""
    x = real(call)
    return atan2(call, x, filled(call, x, 1.0))


@lowers("Asin", "Acos", layout=ELEMENTWISE)
def arcsine(call: Call) -> T:
    """ATAN2 of x and sqrt((1 - x) (1 + x)), one way round or the other."""
    b, x = call.b, real(call)
    one = b.scalar(1.0, x)
    other = b.unary("SQRT", b.mul(b.sub(one, x), b.add(x, one)))
    return atan2(call, x, other) if call.node.op == "Asin" else atan2(call, other, x)


@lowers("Tan", layout=ELEMENTWISE)
def tangent(call: Call) -> T:
    """sin(x) / cos(x)."""
    x = real(call)
    return call.b.div(call.b.unary("SIN", x), call.b.unary("COS", x))


@lowers("Sinh", "Cosh", layout=ELEMENTWISE)
def hyperbolic(call: Call) -> T:
    """By h = exp(|x| / 2), whose square overflows only where the result does; sinh(|x|) = h (1 - exp(-2 |x|)) h / 2."""
    b, x = call.b, real(call)
    size = b.unary("ABS", x)
    h = b.unary("EXP", b.mul(size, b.scalar(0.5, x)))
    half = b.scalar(0.5, x)
    if call.node.op == "Cosh":
        return b.add(b.mul(b.mul(h, half), h), b.div(b.div(half, h), h))
    # ELU is exp(v) - 1 below zero, without cancellation
    small = b.unary("ELU", b.mul(size, b.scalar(-2.0, x)))
    return b.mul(b.mul(b.mul(b.mul(small, b.scalar(-0.5, x)), b.unary("SIGN", x)), h), h)


@lowers("Asinh", "Acosh", "Atanh", layout=ELEMENTWISE)
def inverse_hyperbolic(call: Call) -> T:
    """Logarithms of 1 + u with a u that does not cancel; for very large arguments log(x) + log(2)."""
    b, x = call.b, real(call)
    one = b.scalar(1.0, x)
    size = x if call.node.op == "Acosh" else b.unary("ABS", x)
    largest = b.scalar(float(np.finfo(np.float32).max), x)  # with AVX2, LOG makes finite numbers of infinity and NaN
    if call.node.op == "Atanh":
        u = b.div(b.mul(size, b.scalar(2.0, x)), b.sub(one, size))
        finite = b.select(b.compare("LESS_EQUAL", u, largest), log1p(call, u), u)
        return b.mul(b.mul(finite, b.scalar(0.5, x)), b.unary("SIGN", x))
    limited = b.minimum(size, b.scalar(LARGE, x))
    if call.node.op == "Acosh":
        v = b.sub(limited, one)
        root = b.mul(b.unary("SQRT", v), b.unary("SQRT", b.add(v, b.scalar(2.0, x))))  # not a number below 1
        near = log1p(call, b.add(v, root))
    else:
        square = b.mul(limited, limited)
        root = b.unary("SQRT", b.add(square, one))
        near = log1p(call, b.add(limited, b.div(square, b.add(root, one))))
    far = b.add(b.unary("LOG", size), b.scalar(math.log(2.0), x))
    far = b.select(b.compare("LESS_EQUAL", size, largest), far, size)
    result = b.select(b.compare("LESS_EQUAL", size, b.scalar(LARGE, x)), near, far)
    return result if call.node.op == "Acosh" else b.mul(result, b.unary("SIGN", x))


# erf(x) = x P(x^2) / Q(x^2) up to 3.92, where float32 cannot tell it from 1; constant terms first
_ERF_LIMIT = 3.92
_ERF_ABOVE = (1.12837915, 0.19040701, 0.0527487612, 0.00376563107, 0.000284881526, 2.05006348e-06)
_ERF_BELOW = (1.0, 0.50207656, 0.114109306, 0.0149692459, 0.0011625361, 3.80914048e-05)


@lowers("Erf", layout=ELEMENTWISE)
def error_function(call: Call) -> T:
    """A rational approximation with a relative error below 5e-7 everywhere in float32.

    Source: fitted to the error function in float64, least squares reweighted until the relative error was level.
    """
    b, x = call.b, real(call)
    limited = b.minimum(b.maximum(x, b.scalar(-_ERF_LIMIT, x)), b.scalar(_ERF_LIMIT, x))
    square = b.mul(limited, limited)

    def polynomial(coefficients: tuple[float, ...]) -> T:
        result = b.mul(square, b.scalar(coefficients[-1], x))
        for coefficient in coefficients[-2:0:-1]:
            result = b.mul(b.add(result, b.scalar(coefficient, x)), square)
        return b.add(result, b.scalar(coefficients[0], x))

    return b.div(b.mul(limited, polynomial(_ERF_ABOVE)), polynomial(_ERF_BELOW))


@lowers("Sign", layout=ELEMENTWISE)
def sign(call: Call) -> T:
    """SIGN, or the difference of two comparisons for int64."""
    b, x = call.b, call.x(0)
    if x.dtype is not DataType.INT64:
        return widened(call, lambda v: b.unary("SIGN", v), x)
    above = b.cast(b.compare("GREATER", x, b.scalar(0, x)), DataType.INT64)
    return b.sub(above, b.cast(b.compare("LESS", x, b.scalar(0, x)), DataType.INT64))


@lowers("Mod", layout=ELEMENTWISE)
def modulo(call: Call) -> T:
    """FLOOR_MOD takes the divisor's sign; with ``fmod`` the remainder of the absolute values takes the dividend's."""
    b = call.b
    fmod = bool(call.node.attr_int("fmod", 0))

    def compute(x: T, y: T) -> T:
        if not fmod:
            return b.binary("FLOOR_MOD", x, y)
        rest = b.binary("FLOOR_MOD", absolute(b, x), absolute(b, y))
        return b.select(b.compare("LESS", x, b.scalar(0, x)), b.unary("NEG", rest), rest)

    return widened(call, compute, call.aligned(0), call.aligned(1))


@lowers("IsNaN", layout=ELEMENTWISE)
def is_nan(call: Call) -> T:
    """NaN differs from itself."""
    x = real(call)
    return call.b.compare("NOT_EQUAL", x, x)


@lowers("IsInf", layout=ELEMENTWISE)
def is_infinite(call: Call) -> T:
    """A comparison with one infinity, or of the absolute value with infinity."""
    b, node = call.b, call.node
    x = real(call)
    positive, negative = bool(node.attr_int("detect_positive", 1)), bool(node.attr_int("detect_negative", 1))
    if not positive and not negative:
        return b.constant(np.zeros(x.shape, np.bool_))
    infinity = b.scalar(math.inf if positive else -math.inf, x)
    return b.compare("EQUAL", b.unary("ABS", x) if positive and negative else x, infinity)


@lowers("Det")
def determinant(call: Call) -> T:
    """Expansion along the first row, for matrices of up to four rows."""
    b, x = call.b, real(call)
    size = x.shape[-1]
    if size > 4:
        refuse(f"a determinant of {size} rows", rule="EDG404")

    def entry(row: int, column: int) -> T:
        lead = x.shape[:-2]
        return b.reshape(b.slice(x, (*(0,) * len(lead), row, column), (*lead, 1, 1)), lead)

    def expand(row: int, columns: tuple[int, ...]) -> T:
        if len(columns) == 1:
            return entry(row, columns[0])
        total: T | None = None
        for place, column in enumerate(columns):
            rest = expand(row + 1, columns[:place] + columns[place + 1 :])
            term = b.mul(entry(row, column), rest)
            if total is None:
                total = term
            else:
                total = b.sub(total, term) if place % 2 else b.add(total, term)
        assert total is not None
        return total

    return expand(0, tuple(range(size)))
