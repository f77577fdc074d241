"""Say of integers that are only moved what they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register
from edgec.ir.types import DataType

INTEGERS = frozenset({DataType.INT8, DataType.UINT8, DataType.INT16})

MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        "Transpose Reshape Flatten Squeeze Unsqueeze Identity Slice Split Gather Pad Expand Tile DepthToSpace "
        "SpaceToDepth MaxPool Resize ReduceMax ReduceMin".split(),
        (0,),
    ),
    **dict.fromkeys("Concat Max Min".split(), ()),
}
"""Operators whose results are elements of their operands, and which operands those are (all for an empty tuple)."""

POSITIONS = frozenset({"ArgMax", "ArgMin"})
"""Operators that compare elements and say where they are: the same for the integers and for what they stand for."""

Meaning = tuple[float, int]


@register
@dataclass(frozen=True)
class WrapMoves(Pass):
    """Operators that move quantized integers become operators that move the real numbers they stand for:
    ``move(q)`` becomes ``QuantizeLinear(move(DequantizeLinear(q)))``.

    Exact: with one scale and one zero point the integers come back as they were.  What integers stand for follows from
    the QuantizeLinear before the moves or the DequantizeLinear behind them; where these disagree, are not constant, or
    where somebody else reads the integers, nothing is rewritten.  Targets that know quantized tensors rather than plain
    integers then see one tensor with one scale.

    Source: ONNX operator specification, QuantizeLinear-25, DequantizeLinear-25.
    """

    name: ClassVar[str] = "wrap-moves"
    ops: tuple[str, ...] = tuple(MOVES)

    def apply(self, model: Model) -> bool:
        return _Work(model.graph, frozenset(self.ops)).run()


class _Work:
    def __init__(self, graph: Graph, ops: frozenset[str]):
        self.graph, self.ops = graph, ops
        self.real: dict[Value, Value] = {}

    def run(self) -> bool:
        moves = [node for node in self.graph.nodes if self._is_move(node)]
        changed = False
        for nodes, values in _groups(moves):
            meaning = self._meaning(values, set(nodes))
            if meaning is None:
                continue
            readers = [user for value in values for user in value.users if user.op in POSITIONS]
            for node in nodes:
                self._wrap(node, meaning)
            for node in dict.fromkeys(readers):
                self._operands(node, (0,), meaning)
            changed = True
        return changed

    def _is_move(self, node: Node) -> bool:
        if node.domain or node.op not in self.ops or node.op not in MOVES:
            return False
        values = list(_moved(node))
        if not values or any(value.dtype is not values[0].dtype for value in values):
            return False
        if values[0].dtype not in INTEGERS:
            return False
        if node.op == "Resize" and node.attr_str("mode", "nearest") != "nearest":
            return False
        if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].use_count:
            return False
        fill = node.input(2) if node.op == "Pad" else None
        return fill is None or fill.const is not None

    def _meaning(self, values: Iterable[Value], nodes: set[Node]) -> Meaning | None:
        """Scale and zero point of integers that are moved into each other, or None."""
        found: set[Meaning | None] = set()
        for value in values:
            producer = value.producer
            if producer is not None and producer not in nodes:
                found.add(_parameters(producer) if producer.op == "QuantizeLinear" else None)
            for user in value.users:
                if user in nodes or _ignores_meaning(user):
                    continue
                alone = user.op == "DequantizeLinear" and user.input(0) is value and user.graph is self.graph
                found.add(_parameters(user) if alone else None)
        return found.pop() if len(found) == 1 else None

    def _wrap(self, node: Node, meaning: Meaning) -> None:
        scale, zero = meaning
        graph = self.graph
        self._operands(node, MOVES[node.op], meaning)
        if node.op == "Pad" and node.attr_str("mode", "constant") == "constant":
            fill = node.input(2)
            stored = 0 if fill is None else int(fill.numpy().reshape(()))
            real = np.array((stored - zero) * np.float32(scale), np.float32)
            node.set_input(2, graph.constant(real, "fill"))
        for position, whole in enumerate(node.outputs):
            if not whole.use_count:
                whole.dtype = DataType.FLOAT
                continue
            moved = graph.value(f"{whole.name}_real", DataType.FLOAT, whole.shape)
            node.outputs[position] = moved
            moved.producer, moved.index = node, position
            operands = [moved, *self._parameters(whole, meaning)]
            made = Node("QuantizeLinear", operands, [whole], name=f"{node.name}_quantize", sources=node.sources)
            graph.insert_after(node, made)

    def _operands(self, node: Node, chosen: tuple[int, ...], meaning: Meaning) -> None:
        """Let a node read real numbers."""
        for position, value in enumerate(node.inputs):
            if value is None or (chosen and position not in chosen):
                continue
            real = self.real.get(value)
            if real is None:
                operands = [value, *self._parameters(value, meaning)]
                real = self.graph.build(node, "DequantizeLinear", operands).output
            if value.const is None:  # which belongs to one group of moves, in the order of the graph
                self.real[value] = real
            node.set_input(position, real)

    def _parameters(self, whole: Value, meaning: Meaning) -> list[Value]:
        scale, zero = meaning
        return [
            self.graph.constant(np.array(scale, np.float32), "scale"),
            self.graph.constant(np.array(zero, whole.dtype.numpy), "zero_point"),
        ]


def _ignores_meaning(node: Node) -> bool:
    return not node.domain and (node.op in POSITIONS or node.op in ("Shape", "Size"))


def _moved(node: Node) -> Iterable[Value]:
    """The operands and results that hold the elements."""
    chosen = MOVES[node.op]
    for position, value in enumerate(node.inputs):
        if value is not None and (not chosen or position in chosen):
            yield value
    yield from node.outputs


def _groups(moves: list[Node]) -> list[tuple[list[Node], list[Value]]]:
    """The nodes whose elements end up in one another's results, and the values that hold those; constants apart."""
    parent: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        parent.setdefault(value, value)
        while parent[value] is not value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    for node in moves:
        first, *others = (value for value in _moved(node) if value.const is None)
        for value in others:
            parent[find(value)] = find(first)
    groups: dict[Value, tuple[list[Node], dict[Value, None]]] = {}
    for node in moves:
        held = [value for value in _moved(node) if value.const is None]
        nodes, values = groups.setdefault(find(held[0]), ([], {}))
        nodes.append(node)
        values.update(dict.fromkeys(held))
    return [(nodes, list(values)) for nodes, values in groups.values()]


def _parameters(node: Node) -> Meaning | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear with one of each, known beforehand."""
    scale, zero = node.input(1), node.input(2)
    if node.domain or scale is None or scale.const is None or scale.const.size != 1 or node.attr_int("block_size", 0):
        return None
    if zero is not None and (zero.const is None or zero.const.size != 1):
        return None
    number = float(scale.numpy().astype(np.float32).reshape(()))
    return (number, 0 if zero is None else int(zero.numpy().reshape(()))) if number > 0 else None
