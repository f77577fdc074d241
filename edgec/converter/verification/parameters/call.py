"""A node with run-time parameters, and the table of what draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.ir.graph import Node, Value

Draw = Callable[[np.random.Generator], dict[int, Any]]
"""Draws operand position to value; only positions that are free are used."""

Handler = Callable[["Call"], "Draw | None"]

HANDLERS: dict[str, Handler] = {}


class Call:
    """A node, and which of its operands come unchanged from graph inputs."""

    def __init__(self, node: Node, free: dict[int, Value]):
        self.node = node
        self.free = free

    def dims(self, position: int) -> tuple[int, ...] | None:
        """The static extents of an operand."""
        value = self.node.input(position)
        return value.dims if value is not None and value.is_static else None

    @property
    def result(self) -> tuple[int, ...] | None:
        """The static extents of the first output, or of what is computed from it element by element."""
        value = self.node.output
        for _ in range(8):
            if value.is_static:
                return value.dims
            following = next((node for node in value.users if _keeps_shape(node, value)), None)
            if following is None:
                return None
            value = following.output
        return None

    def length(self, position: int) -> int:
        """Number of elements of an operand; 1 where unknown."""
        dims = self.dims(position)
        return math.prod(dims) if dims is not None else 1

    def constant(self, position: int) -> list[int] | None:
        """The elements of a constant operand."""
        value = self.node.input(position)
        return [int(item) for item in value.numpy().ravel()] if value is not None and value.const is not None else None

    def has(self, position: int) -> bool:
        """Whether the operand is given."""
        return self.node.input(position) is not None


_ELEMENTWISE = frozenset("Identity Cast Log Exp Sqrt Neg Abs Sin Cos Floor Ceil Round Sigmoid Relu".split())
_ARITHMETIC = frozenset("Add Sub Mul Div Pow".split())


def _keeps_shape(node: Node, value: Value) -> bool:
    if node.op in _ELEMENTWISE:
        return True
    others = [item for item in node.inputs if item is not None and item is not value]
    return node.op in _ARITHMETIC and all(item.is_static and math.prod(item.dims) == 1 for item in others)


def handles(*ops: str) -> Callable[[Handler], Handler]:
    def enter(function: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = function
        return function

    return enter


def fixed(values: dict[int, Any]) -> Draw:
    return lambda rng: values
