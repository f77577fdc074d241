"""A small language for shapes of expressions, so that recognising operators is a table and not code.

A pattern is matched against a value and walks up through its producers.  Matching never changes the graph; it fills a
:class:`Match` with the values and numbers that the pattern names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.passes.constants import scalar_of
from edgec.ir.types import DataType

TOLERANCE = 5e-6
"""How far a constant may be from the number it stands for, relative; exporters print six or seven digits."""

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min"})


@dataclass
class Match:
    """What a pattern found: values and numbers by name, the nodes it covers (operands first), all in one graph."""

    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    nodes: dict[Node, None] = field(default_factory=dict)

    def copy(self) -> Match:
        return Match(self.graph, dict(self.values), dict(self.numbers), dict(self.nodes))

    def take(self, other: Match) -> None:
        self.values, self.numbers, self.nodes = other.values, other.numbers, other.nodes

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the source nodes behind all covered nodes."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.sources))


class Pattern(ABC):
    """Something that a value can look like."""

    @abstractmethod
    def match(self, value: Value, found: Match) -> bool:
        """Whether the value looks like this; ``found`` may hold rubbish if not."""


def close(number: float, wanted: float, dtype: DataType) -> bool:
    """Whether a constant of this type stands for the wanted number."""
    tolerance = TOLERANCE
    if dtype in (DataType.FLOAT16, DataType.BFLOAT16):
        tolerance = 1e-3 if dtype is DataType.FLOAT16 else 8e-3
    return abs(number - wanted) <= tolerance * abs(wanted)


@dataclass(frozen=True)
class Var(Pattern):
    """Any value; the same one wherever the name occurs."""

    name: str

    def match(self, value: Value, found: Match) -> bool:
        return found.values.setdefault(self.name, value) is value


@dataclass(frozen=True)
class Number(Pattern):
    """A constant of one element with this number."""

    wanted: float

    def match(self, value: Value, found: Match) -> bool:
        number = scalar_of(value)
        return number is not None and close(float(number), self.wanted, value.dtype)


@dataclass(frozen=True)
class Scalar(Pattern):
    """A constant of one element, remembered by name."""

    name: str

    def match(self, value: Value, found: Match) -> bool:
        number = scalar_of(value)
        if number is None:
            return False
        return found.numbers.setdefault(self.name, float(number)) == float(number)


@dataclass(frozen=True)
class Constant(Pattern):
    """Any constant, remembered by name."""

    name: str

    def match(self, value: Value, found: Match) -> bool:
        return value.const is not None and found.values.setdefault(self.name, value) is value


class Op(Pattern):
    """An operator of the default domain with these operands, in any order if it is commutative.

    Attributes given as a number must be close to the node's, given as text are the name to remember it by.
    """

    def __init__(
        self, op: str, *operands: Pattern, defaults: dict[str, float] | None = None, **attributes: float | str
    ):
        self.op, self.operands, self.attributes, self.defaults = op, operands, attributes, defaults or {}

    def match(self, value: Value, found: Match) -> bool:
        node = value.producer
        if node is None or node.op != self.op or node.domain or node.graph is not found.graph:
            return False
        if value.index or len(node.inputs) != len(self.operands):
            return False
        for name, wanted in self.attributes.items():
            given = node.attr_float(name, self.defaults.get(name))
            if isinstance(wanted, str):
                found.numbers[wanted] = given
            elif not close(given, wanted, DataType.FLOAT):
                return False
        orders = permutations(node.inputs) if self.op in COMMUTATIVE else (node.inputs,)
        for order in orders:
            attempt = found.copy()
            if all(item is not None and pattern.match(item, attempt) for pattern, item in zip(self.operands, order)):
                attempt.nodes.setdefault(node)
                found.take(attempt)
                return True
        return False


@dataclass(frozen=True)
class Once(Pattern):
    """A value that is used once only."""

    inner: Pattern

    def match(self, value: Value, found: Match) -> bool:
        return value.use_count == 1 and self.inner.match(value, found)


class OneOf(Pattern):
    """The first of several patterns that matches."""

    def __init__(self, *choices: Pattern):
        self.choices = choices

    def match(self, value: Value, found: Match) -> bool:
        for choice in self.choices:
            attempt = found.copy()
            if choice.match(value, attempt):
                found.take(attempt)
                return True
        return False


class Product(Pattern):
    """A number times factors, in whatever order and grouping Mul, Div by a constant and Neg write it.

    The number is remembered if it is given as text.
    """

    def __init__(self, coefficient: float | str, *factors: Pattern):
        self.coefficient, self.factors = coefficient, factors

    def match(self, value: Value, found: Match) -> bool:
        if value.producer is None or value.producer.op not in ("Mul", "Div", "Neg"):
            return False
        coefficient, factors, nodes = factors_of(value, found.graph)
        if len(factors) != len(self.factors):
            return False
        if isinstance(self.coefficient, str):
            found.numbers[self.coefficient] = coefficient
        elif not close(coefficient, self.coefficient, value.dtype):
            return False
        for order in permutations(factors):
            attempt = found.copy()
            if all(pattern.match(item, attempt) for pattern, item in zip(self.factors, order)):
                attempt.nodes.update(dict.fromkeys(reversed(nodes)))
                found.take(attempt)
                return True
        return False


def factors_of(value: Value, graph: Graph) -> tuple[float, list[Value], list[Node]]:
    """A value as a number times factors, and the nodes that multiply them.

    A product that is used more than once counts as one factor.
    """
    coefficient, factors = 1.0, []
    nodes: list[Node] = []
    pending: list[Value] = [value]
    while pending:
        item = pending.pop()
        number = scalar_of(item)
        if number is not None and item is not value:
            coefficient *= float(number)
            continue
        node = item.producer
        inside = node is not None and not node.domain and node.graph is graph and (item is value or item.use_count == 1)
        divisor = scalar_of(node.operand(1)) if node is not None and node.op == "Div" else None
        if node is None or not inside or (node.op not in ("Mul", "Neg") and not divisor):
            factors.append(item)
            continue
        nodes.append(node)
        pending.append(node.operand(0))
        if node.op == "Mul":
            pending.append(node.operand(1))
        else:
            coefficient = coefficient / float(divisor) if divisor else -coefficient
    return coefficient, factors, nodes


def keeps_type(result: Value, value: Value) -> bool:
    """Whether replacing ``result`` by an elementwise function of ``value`` changes neither shape nor type."""
    return (
        value.dtype is result.dtype and value.dtype.is_float and value.shape is not None and value.shape == result.shape
    )


def scalar_constant(graph: Graph, number: float, like: Value, hint: str) -> Value:
    """A constant of rank 0 with the element type of another value."""
    return graph.constant(np.array(number, like.dtype.numpy), hint, like.dtype)


def find(node: Node, pattern: Pattern) -> Match | None:
    """The match of a pattern against a node's first output."""
    assert node.graph is not None
    found = Match(node.graph)
    return found if pattern.match(node.output, found) else None
