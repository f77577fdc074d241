"""Say of integers that are only moved what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

ALONE = frozenset(MOVES) - {"Concat", "Max", "Min", "Pad"}
"""Those with one operand whose results hold nothing else."""

POSITIONS = frozenset({"ArgMax", "ArgMin"})
"""Operators that compare elements and say where they are: the same for the integers and for what they stand for."""

UPWARDS = 2.0**-16
"""By what part the integers that are averaged are too large, so that a tie is rounded away from zero."""

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

    Float inputs that are moved and then quantized are quantized first, and float outputs that were dequantized and then
    moved are dequantized last, so that inputs and outputs can be integers.

    Averages of plain integers whose ties are rounded away from zero, as edgec imports them from LiteRT, count as moves;
    there the targets' own rounding of ties takes the place of LiteRT's.

    Source: ONNX operator specification, QuantizeLinear-25, DequantizeLinear-25.
    """

    name: ClassVar[str] = "wrap-moves"
    ops: tuple[str, ...] = (*MOVES, "AveragePool")

    def apply(self, model: Model) -> bool:
        return _Work(model.graph, frozenset(self.ops)).run()


@dataclass(frozen=True)
class _Move:
    """A node that moves integers; or one that averages them, between two that convert integers to floats and back."""

    node: Node
    around: tuple[Node, ...] = ()

    def nodes(self) -> tuple[Node, ...]:
        return (self.node, *self.around)

    def operands(self) -> Iterator[Value]:
        """The integers that are moved."""
        if self.around:
            yield self.around[0].operand(0)
            return
        chosen = MOVES[self.node.op]
        for position, value in enumerate(self.node.inputs):
            if value is not None and (not chosen or position in chosen):
                yield value

    def values(self) -> Iterator[Value]:
        """The operands, and where the integers go."""
        yield from self.operands()
        yield from self.around[1].outputs if self.around else self.node.outputs


class _Work:
    def __init__(self, graph: Graph, ops: frozenset[str]):
        self.graph, self.ops = graph, ops
        self.real: dict[Value, Value] = {}

    def run(self) -> bool:
        moves = [move for node in self.graph.nodes if node.op in self.ops and (move := _as_move(node)) is not None]
        changed = False
        for group, values in _groups(moves):
            meaning = _meaning(self.graph, group, values)
            if meaning is None:
                continue
            readers = [user for value in values for user in value.users if user.op in POSITIONS]
            for move in group:
                self._wrap(move, meaning)
            for node in dict.fromkeys(readers):
                self._read(node, (0,), meaning)
            changed = True
        for value in self.graph.inputs:
            changed = self._quantize_first(value) or changed
        for position in range(len(self.graph.outputs)):
            changed = self._dequantize_last(position) or changed
        return changed

    def _quantize_first(self, value: Value) -> bool:
        """Quantize a float input before it is moved."""
        node = _only_user(value)
        first = node
        while node is not None and _moves_alone(node, self.ops):
            node = _only_user(node.output)
        if node is None or node is first or first is None or node.op != "QuantizeLinear":
            return False
        meaning = _parameters(node)
        if meaning is None or node.output.dtype not in INTEGERS:
            return False
        parameters = self._parameters(node.output, meaning)
        whole = self.graph.build(first, "QuantizeLinear", [value, *parameters], sources=node.sources).output
        real = self.graph.build(first, "DequantizeLinear", [whole, *self._parameters(whole, meaning)]).output
        first.set_input(0, real)
        return True

    def _dequantize_last(self, position: int) -> bool:
        """Quantize a float output again that was moved behind its DequantizeLinear."""
        value = self.graph.outputs[position]
        last = node = value.producer
        while node is not None and _moves_alone(node, self.ops) and len(node.outputs) == 1:
            node = node.operand(0).producer
        if node is None or node is last or last is None or node.op != "DequantizeLinear":
            return False
        meaning, whole = _parameters(node), node.operand(0)
        if meaning is None or whole.dtype not in INTEGERS or whole.const is not None:
            return False
        again = self.graph.value(f"{value.name}_quantized", whole.dtype, value.shape)
        real = self.graph.value(f"{value.name}_dequantized", value.dtype, value.shape)
        for op, operand, result in (("DequantizeLinear", again, real), ("QuantizeLinear", value, again)):
            operands = [operand, *self._parameters(whole, meaning)]
            self.graph.insert_after(last, Node(op, operands, [result], name=last.name, sources=last.sources))
        self.graph.set_output(position, real)
        return True

    def _wrap(self, move: _Move, meaning: Meaning) -> None:
        node, (scale, zero) = move.node, meaning
        if move.around:
            for linear in move.around:
                whole = linear.operand(0) if linear.op == "DequantizeLinear" else linear.output
                for position, value in enumerate(self._parameters(whole, meaning), 1):
                    linear.set_input(position, value)
            return
        self._read(node, MOVES[node.op], meaning)
        if node.op == "Pad" and node.attr_str("mode", "constant") == "constant":
            fill = node.input(2)
            stored = 0 if fill is None else int(fill.numpy().reshape(()))
            real = np.array((stored - zero) * np.float32(scale), np.float32)
            node.set_input(2, self.graph.constant(real, "fill"))
        for position, whole in enumerate(node.outputs):
            if not whole.use_count:
                whole.dtype = DataType.FLOAT
                continue
            moved = self.graph.value(f"{whole.name}_real", DataType.FLOAT, whole.shape)
            node.outputs[position] = moved
            moved.producer, moved.index = node, position
            operands = [moved, *self._parameters(whole, meaning)]
            made = Node("QuantizeLinear", operands, [whole], name=f"{node.name}_quantize", sources=node.sources)
            self.graph.insert_after(node, made)

    def _read(self, node: Node, chosen: tuple[int, ...], meaning: Meaning) -> None:
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


def _only_user(value: Value) -> Node | None:
    users = value.users
    return users[0] if len(users) == 1 and value.use_count == 1 and not value.is_output else None


def _moves_alone(node: Node, ops: frozenset[str]) -> bool:
    """Whether a node only moves the real numbers of one operand."""
    if node.domain or node.op not in ALONE or node.op not in ops or not node.operand(0).dtype.is_float:
        return False
    if node.op == "Resize" and node.attr_str("mode", "nearest") != "nearest":
        return False
    return sum(bool(value.use_count) for value in node.outputs) == 1 and bool(node.output.use_count)


def _as_move(node: Node) -> _Move | None:
    if node.domain:
        return None
    if node.op == "AveragePool":
        return _average(node)
    if node.op not in MOVES:
        return None
    move = _Move(node)
    values = list(move.values())
    if values[0].dtype not in INTEGERS or any(value.dtype is not values[0].dtype for value in values):
        return None
    if node.op == "Resize" and node.attr_str("mode", "nearest") != "nearest":
        return None
    fill = node.input(2) if node.op == "Pad" else None
    return move if fill is None or fill.const is not None else None


def _average(node: Node) -> _Move | None:
    """The average of plain integers, one unit of theirs being 1 + :data:`UPWARDS` before and 1 behind."""
    before = node.operand(0).producer
    users = node.output.users
    behind = users[0] if len(users) == 1 else None
    if before is None or behind is None or node.operand(0).use_count != 1 or node.output.use_count != 1:
        return None
    if before.op != "DequantizeLinear" or behind.op != "QuantizeLinear" or before.operand(0).const is not None:
        return None
    if _parameters(before) != (1 + UPWARDS, 0) or _parameters(behind) != (1.0, 0):
        return None
    return _Move(node, (before, behind)) if before.operand(0).dtype is behind.output.dtype else None


def _meaning(graph: Graph, group: Sequence[_Move], values: Iterable[Value]) -> Meaning | None:
    """Scale and zero point of integers that are moved into each other, or None."""
    inside = {node for move in group for node in move.nodes()}
    found: set[Meaning | None] = set()
    for value in values:
        producer = value.producer
        if producer is not None and producer not in inside:
            found.add(_parameters(producer) if producer.op == "QuantizeLinear" else None)
        for user in value.users:
            if user in inside or _ignores_meaning(user):
                continue
            alone = user.op == "DequantizeLinear" and user.input(0) is value and user.graph is graph
            found.add(_parameters(user) if alone else None)
    if not found and any(move.around for move in group):
        return 1.0, 0  # averages of integers that stand for nothing else
    return found.pop() if len(found) == 1 else None


def _ignores_meaning(node: Node) -> bool:
    return not node.domain and (node.op in POSITIONS or node.op in ("Shape", "Size"))


def _groups(moves: Sequence[_Move]) -> list[tuple[list[_Move], list[Value]]]:
    """The moves whose integers end up in one another's results, and the values that hold those; constants apart."""
    parent: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        parent.setdefault(value, value)
        while parent[value] is not value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    for move in moves:
        first, *others = (value for value in move.values() if value.const is None)
        for value in others:
            parent[find(value)] = find(first)
    groups: dict[Value, tuple[list[_Move], dict[Value, None]]] = {}
    for move in moves:
        held = [value for value in move.values() if value.const is None]
        members, values = groups.setdefault(find(held[0]), ([], {}))
        members.append(move)
        values.update(dict.fromkeys(held))
    return [(members, list(values)) for members, values in groups.values()]


def _parameters(node: Node) -> Meaning | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear with one of each, known beforehand."""
    scale, zero = node.input(1), node.input(2)
    if node.domain or scale is None or scale.const is None or scale.const.size != 1 or node.attr_int("block_size", 0):
        return None
    if zero is not None and (zero.const is None or zero.const.size != 1):
        return None
    number = float(scale.numpy().astype(np.float32).reshape(()))
    return (number, 0 if zero is None else int(zero.numpy().reshape(()))) if number > 0 else None
