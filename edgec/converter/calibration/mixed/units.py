"""A graph as the choice sees it: units that are integers or floats, and the values between them.

A :class:`Unit` is a node with the activation that its kernel applies.  Noise comes from two kinds of places: weights,
which are rounded where their unit is an integer one, and values, which are rounded where an integer unit gives them, or
takes them from a float one.  The noise energies at the outputs are taken to add up; real runs check what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Final

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.passes.quantize import WEIGHTED, Quantize
from edgec.ir.quantization import QuantizationRules

ELEMENT_COST: Final = 2.0
"""What computing an element in float instead of integers costs, in multiplications."""
BOUNDARY_COST: Final = 8.0
"""What turning an element into an integer or back costs, in multiplications."""
SLOW_COST: Final = -50.0
"""The same where the integer kernel is the slower one: so much is won."""
WEIGHT_COST: Final = 1.0
"""What the three more bytes of a float weight cost, in multiplications."""


@dataclass(eq=False)
class Unit:
    """Nodes that are integers or floats together.

    Attributes:
        index: position in the graph.
        nodes: one, or two where the second is applied by the kernel of the first.
        moves: whether it only moves its operands' integers, and so adds no noise of its own.
        slow: whether its integer kernel takes longer than the float one.
        fixed: whether it cannot be raised, and stays at 8 bits.
        multiplications, elements, weights: of the first node, its results and its constant weights.
        noise: relative energy at the outputs that rounding its weights or constant operands adds.
        reads, gives: values at its border.
    """

    index: int
    nodes: tuple[Node, ...]
    moves: bool
    slow: bool
    multiplications: int
    elements: int
    weights: int
    noise: float = 0.0
    fixed: bool = False
    reads: list[Edge] = field(default_factory=list)
    gives: list[Edge] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """What float costs more than integers, without the borders."""
        each = SLOW_COST if self.slow else ELEMENT_COST
        return self.multiplications + each * self.elements + WEIGHT_COST * self.weights

    @property
    def source(self) -> str:
        """The name of the node of the user's model that it came from."""
        node = self.nodes[0]
        return node.sources[0] if node.sources else node.name


@dataclass(eq=False)
class Edge:
    """A value that would be rounded.

    Attributes:
        producer: the unit that gives it; None for inputs of the model and nodes that are float in any case.
        consumers: the units that read it.
        outside: whether something else than units reads it.
        noise: relative energy at the outputs that rounding it adds.
    """

    value: Value
    producer: Unit | None
    consumers: list[Unit]
    outside: bool
    elements: int
    noise: float = 0.0

    def rounded(self, raised: Collection[Unit]) -> bool:
        """Whether rounding adds noise here; a unit that only moves integers gives what was rounded before."""
        producer = self.producer
        if producer is not None and producer not in raised:
            return not producer.moves
        return any(unit not in raised for unit in self.consumers)

    def crossed(self, raised: Collection[Unit]) -> bool:
        """Whether integers meet floats here."""
        integer = self.producer is not None and self.producer not in raised
        if integer:
            return self.outside or any(unit in raised for unit in self.consumers)
        return any(unit not in raised for unit in self.consumers)


@dataclass
class Units:
    """All units and edges of a graph."""

    units: list[Unit]
    edges: list[Edge]

    def cost_of(self, unit: Unit) -> float:
        """What one unit costs in float without its borders; a part is the same for all, so that few are raised."""
        return unit.cost + self._mean

    @cached_property
    def _mean(self) -> float:
        return sum(max(unit.cost, 0) for unit in self.units) / max(len(self.units), 1)

    def noise(self, raised: Collection[Unit]) -> float:
        """Relative energy of the error at the outputs where some units are float."""
        weights = sum(unit.noise for unit in self.units if unit not in raised)
        return weights + sum(edge.noise for edge in self.edges if edge.rounded(raised))

    def cost(self, raised: Collection[Unit]) -> float:
        """What a choice costs over all integers, in multiplications."""
        inside = sum(self.cost_of(unit) for unit in raised)
        return inside + BOUNDARY_COST * sum(edge.elements for edge in self.edges if edge.crossed(raised))

    def boundaries(self, raised: Collection[Unit]) -> int:
        """Values at which integers meet floats, inputs and outputs of the model included."""
        return sum(edge.crossed(raised) for edge in self.edges)

    def settled(self, raised: Iterable[Unit]) -> frozenset[Unit]:
        """A choice with those units added that only cost borders: nothing but floats around them."""
        found = set(raised)
        pending = sorted(found, key=lambda unit: unit.index)
        while pending:
            unit = pending.pop()
            beside = [other for edge in unit.gives for other in edge.consumers]
            beside += [edge.producer for edge in unit.reads if edge.producer is not None]
            for other in beside:
                if other not in found and not (other.weights or other.fixed) and self._surrounded(other, found):
                    found.add(other)
                    pending.append(other)
        return frozenset(found)

    @property
    def raisable(self) -> frozenset[Unit]:
        """All units that can be raised."""
        return frozenset(unit for unit in self.units if not unit.fixed)

    @staticmethod
    def _surrounded(unit: Unit, raised: Collection[Unit]) -> bool:
        before = all(edge.producer is None or edge.producer in raised for edge in unit.reads)
        after = all(not edge.consumers or all(other in raised for other in edge.consumers) for edge in unit.gives)
        return before and after and any(edge.producer in raised for edge in unit.reads)

    def shares(self, raised: Collection[Unit]) -> tuple[float, float]:
        """Shares of the multiplications and of the weights that are integers; 1 where there are none."""
        whole = [unit for unit in self.units if unit not in raised]
        operations = sum(unit.multiplications for unit in self.units)
        weights = sum(unit.weights for unit in self.units)
        return (
            sum(unit.multiplications for unit in whole) / operations if operations else 1.0,
            sum(unit.weights for unit in whole) / weights if weights else 1.0,
        )


def find_units(graph: Graph, quantize: Quantize, wide: QuantizationRules | None = None) -> Units:
    """The units that ``quantize`` would turn into integers, and the values that it would round.

    Args:
        wide: the rules by which nodes are raised, where those without a form in them cannot be.
    """
    owner: dict[Node, Unit] = {}
    units: list[Unit] = []
    for nodes in quantize.units(graph):
        moves, slow = (nodes[0].op in kinds for kinds in (quantize.rules.same, quantize.rules.slow))
        unit = Unit(
            len(units), nodes, moves, slow, _multiplications(nodes[0]), _size(nodes[-1].output), _weights(nodes[0])
        )
        unit.fixed = wide is not None and any(node.op not in (*wide.quantizable, *wide.expanded) for node in nodes)
        units.append(unit)
        owner.update(dict.fromkeys(nodes, unit))
    edges = []
    for value in quantize.pairs(graph):
        readers = [owner[user] for user in value.users if user in owner]
        outside = value.is_output or any(user not in owner for user in value.users)
        producer = None if value.producer is None else owner.get(value.producer)
        edge = Edge(value, producer, list(dict.fromkeys(readers)), outside, _size(value))
        edges.append(edge)
        for unit in edge.consumers:
            unit.reads.append(edge)
        if producer is not None:
            producer.gives.append(edge)
    return Units(units, edges)


def _size(value: Value) -> int:
    return prod(extent if isinstance(extent, int) else 1 for extent in value.shape or ())


def _weights(node: Node) -> int:
    return node.operand(1).const.size if node.op in WEIGHTED and node.operand(1).const is not None else 0  # type: ignore[union-attr]


def _multiplications(node: Node) -> int:
    """How often numbers are multiplied to compute the node's result; 0 for all but convolutions and products."""
    if node.op not in WEIGHTED:
        return 0
    result, right = _size(node.output), node.operand(1)
    if right.shape is None:
        return 0
    dims = [extent if isinstance(extent, int) else 1 for extent in right.shape]
    if node.op == "Conv":
        return result * prod(dims[1:])
    if node.op == "ConvTranspose":
        return _size(node.operand(0)) * prod(dims[1:])
    if node.op == "Gemm" and node.attr_int("transB", 0):
        return result * dims[-1]
    return result * (dims[-2] if len(dims) > 1 else dims[0])
