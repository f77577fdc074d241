"""The ONNX graph while it is being made: nodes are typed as they are appended, small constants are computed at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgec.ir.evaluate import evaluate, is_cheap
from edgec.ir.graph import Graph, Node, Tensor, Value
from edgec.ir.inference import infer_node
from edgec.ir.types import Array, DataType, Dim, Shape

FOLDED = 4096
"""Results up to this many elements are computed at once when all operands are constant."""

_GROWING = frozenset("Range ConstantOfShape Expand Tile".split())


class Emitter:
    """Appends nodes to a graph.

    Attributes:
        source: name of the operator at hand, which nodes remember as their origin.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.source = ""

    def node(
        self, op: str, inputs: Iterable[Value | None], outputs: int = 1, hint: str = "", **attributes: Any
    ) -> list[Value]:
        """Append an operator of the default domain; its results are typed by inference.

        Raises:
            ModelError: EDG111 when the operands do not fit the operator.
        """
        name = hint or f"{self.source}_{op.lower()}"
        results = [self.graph.value(name) for _ in range(outputs)]
        made = Node(op, inputs, results, attributes, name=self.source, sources=(self.source,) if self.source else ())
        self.graph.append(made)
        infer_node(made)
        return self._folded(made) or results

    def one(self, op: str, *inputs: Value | None, hint: str = "", **attributes: Any) -> Value:
        """The same for an operator with one result."""
        return self.node(op, inputs, hint=hint, **attributes)[0]

    def _folded(self, node: Node) -> list[Value] | None:
        """The results as constants where they are small and known."""
        if node.op == "Shape" and node.operand(0).is_static and not node.attributes:
            tensors = [Tensor.of(np.array(node.operand(0).dims, np.int64))]
        else:
            sizes = [value.const.size for value in node.outputs if value.const is not None]
            known = all(value is not None and value.const is not None for value in node.inputs) and node.inputs
            small = all(value.is_static and _size(value.dims) <= FOLDED for value in node.outputs)
            fits = all(value is None or value.const is None or value.const.size <= FOLDED for value in node.inputs)
            if sizes or not known or not small or not fits or not is_cheap(node) or node.op in _GROWING:
                return None
            tensors = evaluate(node)
        self.graph.remove(node)
        return [self.graph.constant(tensor, value.name) for tensor, value in zip(tensors, node.outputs)]

    # constants

    def constant(self, array: Array, hint: str = "const") -> Value:
        """A constant."""
        return self.graph.constant(np.ascontiguousarray(array).reshape(array.shape), hint)

    def ints(self, values: Sequence[int]) -> Value:
        """A vector of int64, as ONNX takes axes and extents."""
        return self.constant(np.array(list(values), np.int64).reshape(len(values)), "ints")

    def scalar(self, value: float, like: Value) -> Value:
        """A number of another value's element type."""
        return self.constant(np.array(value, like.dtype.numpy), "scalar")

    # moves

    def transpose(self, x: Value, permutation: Sequence[int], hint: str = "") -> Value:
        """Axes in another order; undoes a transposition rather than adding one, reshapes where nothing moves."""
        wanted = list(permutation)
        if wanted == list(range(len(wanted))):
            return x
        if x.const is not None:
            const = x.const
            shape = tuple(const.shape[axis] for axis in wanted)
            held = Tensor(const.dtype, shape, lambda: np.ascontiguousarray(const.numpy().transpose(wanted)))
            return self.graph.constant(held, x.name)
        producer = x.producer
        if producer is not None and producer.op == "Transpose":
            first = producer.attr_ints("perm")
            return self.transpose(producer.operand(0), [first[axis] for axis in wanted], hint)
        if x.is_static:
            moved = [axis for axis in wanted if x.dims[axis] != 1]
            if moved == sorted(moved):
                return self.reshape(x, [x.dims[axis] for axis in wanted], hint)
        return self.one("Transpose", x, hint=hint, perm=wanted)

    def reshape(self, x: Value, shape: Sequence[int], hint: str = "") -> Value:
        """The same elements under another shape, which may hold one -1."""
        if x.is_static and x.dims == tuple(shape):
            return x
        if x.const is not None:
            const = x.const
            if -1 not in shape:
                held = Tensor(const.dtype, tuple(shape), lambda: const.numpy().reshape(shape))
                return self.graph.constant(held, x.name)
        return self.one("Reshape", x, self.ints(shape), hint=hint, allowzero=1 if 0 in shape else 0)

    def unsqueeze(self, x: Value, axes: Sequence[int], hint: str = "") -> Value:
        """New axes of extent 1 at these places of the result."""
        return self.one("Unsqueeze", x, self.ints(axes), hint=hint) if axes else x

    def squeeze(self, x: Value, axes: Sequence[int], hint: str = "") -> Value:
        """Without these axes of extent 1."""
        return self.one("Squeeze", x, self.ints(axes), hint=hint) if axes else x

    def cast(self, x: Value, dtype: DataType, hint: str = "") -> Value:
        """Elements of another type; large constants are converted when they are used."""
        if x.dtype is dtype:
            return x
        const = x.const
        if const is not None and const.size > FOLDED and dtype.is_float and const.dtype.is_float:
            held = Tensor(dtype, const.shape, lambda: const.numpy().astype(dtype.numpy))
            return self.graph.constant(held, x.name)
        return self.one("Cast", x, hint=hint, to=int(dtype))

    def lengths(self, x: Value, axes: Sequence[int] | None = None) -> Value:
        """The extents of some axes as int64, known or computed at run time."""
        shape = self.one("Shape", x)
        return shape if axes is None else self.one("Gather", shape, self.ints(axes), axis=0)


def _size(dims: Sequence[int]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count


def channels_first(rank: int) -> list[int]:
    """The permutation from channels-last to channels-first."""
    return [0, rank - 1, *range(1, rank - 1)]


def channels_last(rank: int) -> list[int]:
    """The permutation from channels-first to channels-last."""
    return [0, *range(2, rank), 1]


def as_shape(signature: Sequence[int], names: Sequence[str]) -> Shape:
    """Extents with a name in place of -1."""
    shape: list[Dim] = [name if extent < 0 else extent for extent, name in zip(signature, names)]
    return tuple(shape)
