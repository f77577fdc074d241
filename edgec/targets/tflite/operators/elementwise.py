"""Elementwise arithmetic, comparison and logic with broadcasting.

Source: the ONNX operator specifications; LiteRT kernels add.cc, mul.cc, comparisons.cc, elementwise.cc, ...
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.builder import broadcast, options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import ELEMENTWISE
from edgec.targets.tflite.operators.integers import absolute, divide_int64, integer_power, integer_power_of
from edgec.targets.tflite.program import T
from edgec.targets.tflite.table import lowers

SMALL_INTEGERS = (DataType.INT8, DataType.UINT8)
"""LiteRT's kernels take these for quantized tensors only, so plain ones are computed in int32."""


def widened(call: Call, compute: Callable[..., T], *operands: T) -> T:
    """Compute with int8 and uint8 operands in int32, and convert back (which wraps, as ONNX does)."""
    dtype = operands[0].dtype
    if dtype not in SMALL_INTEGERS or operands[0].scale is not None:
        return compute(*operands)
    result = compute(*(call.b.cast(x, DataType.INT32) for x in operands))
    return call.b.cast(result, dtype) if result.dtype is DataType.INT32 else result


_ARITHMETIC = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV"}


@lowers(*_ARITHMETIC, layout=ELEMENTWISE)
def arithmetic(call: Call) -> T:
    """The four operations; integer division truncates toward zero."""
    code = _ARITHMETIC[call.node.op]
    if code == "DIV" and call.dtype(0) is DataType.INT64:
        return divide_int64(call.b, call.aligned(0), call.aligned(1))
    return widened(call, lambda a, b: call.b.binary(code, a, b), call.aligned(0), call.aligned(1))


@lowers("Max", "Min", "Sum", "Mean", layout=ELEMENTWISE)
def variadic(call: Call) -> T:
    """Any number of operands, combined one after the other."""
    b, node = call.b, call.node
    code = {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD", "Mean": "ADD"}[node.op]

    def combine(*operands: T) -> T:
        result = operands[0]
        for operand in operands[1:]:
            result = b.binary(code, result, operand)
        return b.mul(result, b.scalar(1 / len(operands), result)) if node.op == "Mean" else result

    result = widened(call, combine, *(call.aligned(position) for position in range(len(node.inputs))))
    return b.copy(result) if len(node.inputs) == 1 else result


_COMPARISONS = {
    "Equal": "EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
}


@lowers(*_COMPARISONS, layout=ELEMENTWISE)
def comparison(call: Call) -> T:
    """Comparisons give bool."""
    code = _COMPARISONS[call.node.op]
    return widened(call, lambda a, b: call.b.compare(code, a, b), call.aligned(0), call.aligned(1))


@lowers("And", "Or", layout=ELEMENTWISE)
def logic(call: Call) -> T:
    """Logic on bool."""
    return call.b.binary("LOGICAL_AND" if call.node.op == "And" else "LOGICAL_OR", call.aligned(0), call.aligned(1))


@lowers("Xor", layout=ELEMENTWISE)
def exclusive_or(call: Call) -> T:
    """For bool, exclusive or is inequality."""
    return call.b.compare("NOT_EQUAL", call.aligned(0), call.aligned(1))


_UNARY = {
    "Abs": "ABS",
    "Ceil": "CEIL",
    "Cos": "COS",
    "Exp": "EXP",
    "Floor": "FLOOR",
    "Log": "LOG",
    "Neg": "NEG",
    "Not": "LOGICAL_NOT",
    "Round": "ROUND",
    "Sigmoid": "LOGISTIC",
    "Sin": "SIN",
    "Sqrt": "SQRT",
    "Tanh": "TANH",
}


@lowers(*_UNARY, layout=ELEMENTWISE)
def unary(call: Call) -> T:
    """Operators that LiteRT has under the same definition (ROUND rounds half to even, as ONNX's does)."""
    if call.node.op == "Abs":
        return widened(call, lambda x: absolute(call.b, x), call.x(0))
    return widened(call, lambda x: call.b.unary(_UNARY[call.node.op], x), call.x(0))


@lowers("Reciprocal", layout=ELEMENTWISE)
def reciprocal(call: Call) -> T:
    """1 / x."""
    x = call.x(0)
    return call.b.div(call.b.scalar(1.0, x), x)


@lowers("Pow", layout=ELEMENTWISE)
def power(call: Call) -> T:
    """POW; squares and square roots by their own operators, which are faster and exact."""
    b = call.b
    x, y = call.aligned(0), call.aligned(1)
    if call.is_const(1):
        exponent = call.const(1, "the exponent")
        if exponent.size == 1 and x.dtype is DataType.FLOAT and exponent.ndim <= call.node.operand(0).rank:
            if float(exponent.reshape(())) == 2.0:
                return b.mul(x, x)
            if float(exponent.reshape(())) == 0.5:
                return b.unary("SQRT", x)
    if x.dtype is not DataType.FLOAT:
        return widened(call, lambda base: _integer_power(call, base, y), x)
    y = b.cast(y, DataType.FLOAT)
    return b.one("POW", [x, y], x.dtype, broadcast(x.shape, y.shape), options("PowOptions"))


def _integer_power(call: Call, x: T, y: T) -> T:
    """Integers to integer powers exactly; to powers that are floats exactly where these are whole numbers.

    Elsewhere the power is taken in float32 and cut to an integer, which is off by one at most below 2^24; the notes say
    so.
    """
    b = call.b
    if call.is_const(1):
        exponent = call.const(1, "the exponent").astype(np.float64)
        if exponent.size == 1 and exponent.ndim <= x.rank and exponent >= 0 and exponent == np.floor(exponent):
            return integer_power(b, x, int(exponent.reshape(())))
    if y.dtype is DataType.FLOAT:
        zero = b.scalar(0.0, y)
        whole = b.binary("LOGICAL_AND", b.compare("EQUAL", y, b.unary("FLOOR", y)), b.compare("GREATER_EQUAL", y, zero))
        exact = integer_power_of(b, x, b.cast(b.select(whole, y, zero), DataType.INT32))
        base = b.cast(x, DataType.FLOAT)
        real = b.one("POW", [base, y], DataType.FLOAT, broadcast(x.shape, y.shape), options("PowOptions"))
        call.lowerer.notes.append(f"'{call.node.name}' (Pow): fractional powers of integers are taken in float32")
        return b.select(whole, exact, b.cast(real, x.dtype))
    return integer_power_of(b, x, b.cast(y, DataType.INT32) if y.dtype in SMALL_INTEGERS else y)


@lowers("Where", layout=ELEMENTWISE)
def where(call: Call) -> T:
    """SELECT_V2."""
    return call.b.select(call.aligned(0), call.aligned(1), call.aligned(2))


@lowers("Cast", layout=ELEMENTWISE)
def cast(call: Call) -> T:
    """CAST; to bool it is a comparison with zero, to float16 a rounding that is kept in float32."""
    b, node = call.b, call.node
    x = call.x(0)
    wanted = node.output.dtype
    if wanted is DataType.FLOAT16 and node.operand(0).dtype is not DataType.FLOAT16:
        return b.cast(b.cast(b.cast(x, DataType.FLOAT), DataType.FLOAT16), DataType.FLOAT)
    if wanted is DataType.BOOL and x.dtype is not DataType.BOOL:
        wide = b.cast(x, DataType.INT32) if x.dtype in SMALL_INTEGERS else x
        return b.compare("NOT_EQUAL", wide, b.scalar(0, wide))
    made = b.cast(x, call.out_dtype())
    return b.copy(made) if made is x else made
