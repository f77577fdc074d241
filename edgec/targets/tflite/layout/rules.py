"""Which layouts an operator can work in.

A rule answers three questions about a node: what it does by default, and what it would do if one operand or one result
were stored under a given permutation.  The solver combines the answers; the lowerings then find their operands in the
chosen layout and only map axes through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgec.ir.graph import Node, Value
from edgec.targets.tflite.layout.permutation import Permutation, channels_last, identity, invert, through_reshape


@dataclass(frozen=True)
class Choice:
    """The permutation each operand must have (None: constant or left out, any will do) and each result will have."""

    inputs: tuple[Permutation | None, ...]
    outputs: tuple[Permutation, ...]

    def with_input(self, position: int, permutation: Permutation) -> Choice:
        """The same choice but for one operand."""
        inputs = list(self.inputs)
        inputs[position] = permutation
        return Choice(tuple(inputs), self.outputs)

    def with_output(self, position: int, permutation: Permutation) -> Choice:
        """The same choice but for one result."""
        outputs = list(self.outputs)
        outputs[position] = permutation
        return Choice(self.inputs, tuple(outputs))


def natural(value: Value | None) -> Permutation | None:
    """The identity for a value, None for a left-out operand or one of unknown rank."""
    return None if value is None or value.shape is None else identity(len(value.shape))


def as_onnx(node: Node) -> Choice:
    """Every operand and result as ONNX has it."""
    return Choice(
        tuple(natural(value) for value in node.inputs),
        tuple(natural(value) or () for value in node.outputs),
    )


class LayoutRule:
    """An operator that works on ONNX's own layout only; the base of all other rules."""

    def default(self, node: Node) -> Choice:
        """The layout taken when nothing speaks for another."""
        return as_onnx(node)

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        """The choice in which an operand is stored under ``permutation``, or None."""
        return None

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        """The choice in which a result is stored under ``permutation``, or None."""
        return None


class ChannelsLast(LayoutRule):
    """Convolution-like operators: the image operand and the result are channels-last, everything else as in ONNX."""

    def __init__(self, images: tuple[int, ...] = (0,)):
        self.images = images

    def default(self, node: Node) -> Choice:
        plain = as_onnx(node)
        inputs = list(plain.inputs)
        for position in self.images:
            value = node.input(position)
            if value is not None and value.shape is not None:
                inputs[position] = channels_last(len(value.shape))
        return Choice(tuple(inputs), tuple(channels_last(len(permutation)) for permutation in plain.outputs))


class Elementwise(LayoutRule):
    """Operators that broadcast: any common permutation of the result's axes will do.

    An operand of lower rank is stored under the restriction of that permutation to its own axes; the lowering then
    inserts axes of extent 1.
    """

    def _choice(self, node: Node, permutation: Permutation) -> Choice | None:
        rank = len(permutation)
        inputs: list[Permutation | None] = []
        for value in node.inputs:
            if value is None or value.shape is None:
                inputs.append(None)
                continue
            missing = rank - len(value.shape)
            if missing < 0:
                return None
            inputs.append(tuple(axis - missing for axis in permutation if axis >= missing))
        return Choice(tuple(inputs), tuple(permutation for _ in node.outputs))

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        rank = len(current.outputs[0])
        missing = rank - len(permutation)
        if missing == 0:
            return self._choice(node, permutation)
        if missing < 0:
            return None
        return self._choice(node, (*range(missing), *(axis + missing for axis in permutation)))

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        return self._choice(node, permutation)


class Along(LayoutRule):
    """Operators whose operands of full rank and results share one permutation; axes are mapped by the lowering.

    Args:
        allowed: may refuse permutations (an operator that needs its axis last, say).
        operands: positions of the operands that are laid out; by default all with the rank of the first.
    """

    def __init__(
        self,
        allowed: Callable[[Node, Permutation], bool] | None = None,
        operands: tuple[int, ...] | None = None,
        default: Callable[[Node], Permutation] | None = None,
    ):
        self.allowed = allowed
        self.operands = operands
        self.preferred = default

    def _choice(self, node: Node, permutation: Permutation) -> Choice | None:
        if self.allowed is not None and not self.allowed(node, permutation):
            return None
        plain = as_onnx(node)
        rank = len(permutation)
        inputs = list(plain.inputs)
        for position, value in enumerate(node.inputs):
            laid_out = position in self.operands if self.operands is not None else True
            if laid_out and value is not None and value.shape is not None and len(value.shape) == rank:
                inputs[position] = permutation
        outputs = tuple(permutation if len(natural) == rank else natural for natural in plain.outputs)
        return Choice(tuple(inputs), outputs)

    def default(self, node: Node) -> Choice:
        plain = as_onnx(node)
        if self.preferred is not None:
            return self._choice(node, self.preferred(node)) or plain
        return self._choice(node, plain.outputs[0]) or plain

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        if (self.operands is not None and position not in self.operands) or len(permutation) != len(current.outputs[0]):
            return None
        return self._choice(node, permutation)

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        if len(permutation) != len(current.outputs[0]):
            return None
        return self._choice(node, permutation)


class DropsAxes(LayoutRule):
    """Operators that take axes away (reductions without keepdims, Gather of one element).

    Args:
        dropped: the axes that go, as non-negative numbers; None when the operator keeps its rank.
    """

    def __init__(self, dropped: Callable[[Node], frozenset[int] | None]):
        self.dropped = dropped

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        if position != 0:
            return None
        dropped = self.dropped(node)
        inputs = (permutation, *as_onnx(node).inputs[1:])
        if dropped is None and any(len(natural) != len(permutation) for natural in current.outputs):
            return None
        if dropped is None:
            return Choice(inputs, tuple(permutation for _ in node.outputs))
        kept = [axis for axis in range(len(permutation)) if axis not in dropped]
        renumbered = {axis: number for number, axis in enumerate(kept)}
        result = tuple(renumbered[axis] for axis in permutation if axis in renumbered)
        return Choice(inputs, tuple(result for _ in node.outputs))

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        dropped = self.dropped(node)
        if dropped is None:
            return self.from_input(node, current, 0, permutation)
        value = node.operand(0)
        kept = [axis for axis in range(value.rank) if axis not in dropped]
        wanted = [kept[axis] for axis in permutation]
        # put every dropped axis back where ONNX has it: before the kept axis that follows it
        result: list[int] = []
        for axis in wanted:
            before = [
                d for d in sorted(dropped) if d < axis and d not in result and all(k in wanted or k > d for k in kept)
            ]
            result.extend(d for d in before if all(k >= axis or k < d for k in kept))
            result.append(axis)
        result.extend(d for d in sorted(dropped) if d not in result)
        return self.from_input(node, current, 0, tuple(result))


class Transposes(LayoutRule):
    """Transpose: the result is the operand's bytes under another name, whatever the layout."""

    @staticmethod
    def _axes(node: Node) -> list[int]:
        return node.attr_ints("perm", list(range(node.operand(0).rank))[::-1])

    def default(self, node: Node) -> Choice:
        plain = as_onnx(node)
        chosen = self.from_input(node, plain, 0, identity(node.operand(0).rank))
        assert chosen is not None
        return chosen

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        inverse = invert(tuple(self._axes(node)))
        return Choice((permutation,), (tuple(inverse[axis] for axis in permutation),))

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        axes = self._axes(node)
        return Choice((tuple(axes[axis] for axis in permutation),), (permutation,))


class Reshapes(LayoutRule):
    """Reshape, Flatten, Squeeze, Unsqueeze: bytes stay where they are, as far as the groups of axes allow."""

    def _shapes(self, node: Node) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        source, result = node.operand(0), node.output
        if not source.is_static or not result.is_static:
            return None
        return source.dims, result.dims

    def _choice(self, node: Node, operand: Permutation, result: Permutation) -> Choice:
        return Choice((operand, *as_onnx(node).inputs[1:]), (result,))

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        shapes = self._shapes(node)
        if position != 0 or shapes is None:
            return None
        result = through_reshape(shapes[0], shapes[1], permutation)
        return None if result is None else self._choice(node, permutation, result)

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        shapes = self._shapes(node)
        if shapes is None:
            return None
        operand = through_reshape(shapes[1], shapes[0], permutation)
        return None if operand is None else self._choice(node, operand, permutation)


class MatrixProducts(LayoutRule):
    """MatMul: the last two axes of operands and result may each be stored swapped, at no cost."""

    @staticmethod
    def _swaps(permutation: Permutation) -> bool:
        rank = len(permutation)
        return rank >= 2 and permutation in (identity(rank), (*range(rank - 2), rank - 1, rank - 2))

    def from_input(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        return current.with_input(position, permutation) if position < 2 and self._swaps(permutation) else None

    def from_output(self, node: Node, current: Choice, position: int, permutation: Permutation) -> Choice | None:
        return current.with_output(0, permutation) if self._swaps(permutation) else None


FIXED = LayoutRule()
CHANNELS_LAST = ChannelsLast()
ELEMENTWISE = Elementwise()
ALONG = Along()
TRANSPOSES = Transposes()
RESHAPES = Reshapes()
MATRIX_PRODUCTS = MatrixProducts()
