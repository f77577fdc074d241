"""Operators of two or more operands that broadcast.

Source: LiteRT kernels add.cc, sub.cc, mul.cc, div.cc, floor_div.cc, floor_mod.cc, comparisons.cc, select.cc.
"""

from __future__ import annotations

import math

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value
from edgec.ir.types import DataType

ARITHMETIC = {
    "ADD": ("Add", schema.AddOptions),
    "SUB": ("Sub", schema.SubOptions),
    "MUL": ("Mul", schema.MulOptions),
    "DIV": ("Div", schema.DivOptions),
}

PLAIN = {
    "BITWISE_XOR": "BitwiseXor",
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
}


def both(call: Call) -> tuple[Value, Value]:
    """The two operands, laid out alike."""
    rank = max(len(call.tensor(0).shape), len(call.tensor(1).shape))
    return call.aligned(0, rank), call.aligned(1, rank)


@reads(*ARITHMETIC, layouts=True)
def arithmetic(call: Call) -> None:
    """The four operations with their fused activation."""
    op, kind = ARITHMETIC[call.op.code]
    options = call.op.options_or_none(kind)
    y = call.e.one(op, *both(call))
    call.give(call.activated(y, options.FusedActivationFunction()) if options is not None else y)


@reads(*PLAIN, layouts=True)
def plain(call: Call) -> None:
    """The operator of the same meaning."""
    call.give(call.e.one(PLAIN[call.op.code], *both(call)))


@reads("NOT_EQUAL", layouts=True)
def not_equal(call: Call) -> None:
    """Not(Equal)."""
    call.give(call.e.one("Not", call.e.one("Equal", *both(call))))


@reads("SQUARED_DIFFERENCE", layouts=True)
def squared_difference(call: Call) -> None:
    """(a - b)^2."""
    difference = call.e.one("Sub", *both(call))
    call.give(call.e.one("Mul", difference, difference))


def floor_mod(call: Call, a: Value, b: Value) -> Value:
    """The remainder that has the divisor's sign."""
    if a.dtype.is_integer:
        return call.e.one("Mod", a, b)
    remainder = call.e.one("Mod", a, b, fmod=1)
    zero = call.e.scalar(0, a)
    wrong = call.e.one("Less", call.e.one("Mul", remainder, call.e.one("Sign", b)), zero)
    return call.e.one("Where", wrong, call.e.one("Add", remainder, b), remainder)


def floor_div(call: Call, a: Value, b: Value) -> Value:
    """The quotient rounded down."""
    if not a.dtype.is_integer:
        return call.e.one("Floor", call.e.one("Div", a, b))
    return call.e.one("Div", call.e.one("Sub", a, floor_mod(call, a, b)), b)


@reads("FLOOR_MOD", layouts=True)
def read_floor_mod(call: Call) -> None:
    """The remainder that has the divisor's sign."""
    call.give(floor_mod(call, *both(call)))


@reads("FLOOR_DIV", layouts=True)
def read_floor_div(call: Call) -> None:
    """The quotient rounded down."""
    call.give(floor_div(call, *both(call)))


@reads("RIGHT_SHIFT", layouts=True)
def right_shift(call: Call) -> None:
    """BitShift; signed integers keep their sign, which is a division rounded down."""
    a, b = both(call)
    if a.dtype.name.startswith("U"):
        call.give(call.e.one("BitShift", a, b, direction="RIGHT"))
        return
    call.give(floor_div(call, a, call.e.one("Pow", call.e.scalar(2, a), b)))


@reads("ATAN2", layouts=True)
def atan2(call: Call) -> None:
    """The angle of the point (x, y) from y and x: Atan of the quotient, moved into the right half plane."""
    y, x = both(call)
    e = call.e
    zero = e.scalar(0, x)
    angle = e.one("Atan", e.one("Div", y, x))
    half = e.one("Where", e.one("Less", y, zero), e.scalar(-math.pi, x), e.scalar(math.pi, x))
    turned = e.one("Where", e.one("Less", x, zero), e.one("Add", angle, half), angle)
    origin = e.one("And", e.one("Equal", x, zero), e.one("Equal", y, zero))
    call.give(e.one("Where", origin, zero, turned))


@reads("ADD_N", layouts=True)
def add_n(call: Call) -> None:
    """Sum of any number of operands."""
    call.give(call.e.one("Sum", *(call.x(position) for position in range(call.count))))


@reads("SELECT_V2", moves=True, layouts=True)
def select_v2(call: Call) -> None:
    """Where; all three operands broadcast."""
    rank = max(len(call.tensor(position).shape) for position in range(3))
    condition, a, b = (call.aligned(position, rank) for position in range(3))
    call.give(call.e.one("Where", call.e.cast(condition, DataType.BOOL), a, b))


@reads("SELECT", moves=True)
def select(call: Call) -> None:
    """Where; a condition of one axis chooses whole rows."""
    condition = call.plain(0)
    rank, own = len(call.tensor(1).shape), len(call.tensor(0).shape)
    if own == 1 and rank > 1:
        condition = call.e.unsqueeze(condition, list(range(1, rank)))
    call.give_plain(call.e.one("Where", condition, call.plain(1), call.plain(2)))
