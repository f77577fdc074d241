"""Merge transpositions that follow each other, directly or with elementwise operators between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.base import Pass, register, remove_dead, replace_node, rewrite_each

UNARY = frozenset(
    "Relu LeakyRelu Elu Selu Celu ThresholdedRelu HardSigmoid HardSwish Sigmoid Tanh Softplus Softsign Mish Gelu Erf "
    "Exp Log Sqrt Reciprocal Neg Abs Floor Ceil Round Sign Not Sin Cos Clip Cast".split()
)
BINARY = frozenset("Add Sub Mul Div Pow Min Max Equal Less Greater LessOrEqual GreaterOrEqual And Or Xor".split())


@register
@dataclass(frozen=True)
class SimplifyTransposes(Pass):
    """Remove transpositions that others undo or can take over.

    ``Transpose(Transpose(x))`` becomes one Transpose or none.  The same holds with a chain of elementwise operators
    between the two that nothing else uses (constants in it are transposed).  ``f(Transpose(x), Transpose(y))`` with
    equal permutations becomes ``Transpose(f(x, y))``.  A Transpose is moved only where that removes one: where data
    really lies is decided later, by the target's layout analysis.
    """

    name: ClassVar[str] = "simplify-transposes"

    def apply(self, model: Model) -> bool:
        changed = rewrite_each(model, tuple(BINARY), _join)
        return rewrite_each(model, "Transpose", _merge) or changed


def permutation(node: Node) -> tuple[int, ...] | None:
    """The permutation of a Transpose, None while the rank is unknown."""
    if node.has("perm"):
        return tuple(node.attr_ints("perm"))
    shape = node.operand(0).shape
    return None if shape is None else tuple(range(len(shape)))[::-1]


def _transpose_above(value: Value, graph: Graph) -> tuple[Node, tuple[int, ...]] | None:
    node = value.producer
    if node is None or node.op != "Transpose" or node.domain or node.graph is not graph:
        return None
    perm = permutation(node)
    return None if perm is None else (node, perm)


def _merge(graph: Graph, node: Node) -> bool:
    """``x -> T1 -> f -> ... -> T2`` becomes ``x -> T12 -> f -> ...``."""
    perm = permutation(node)
    if perm is None:
        return False
    chain: list[tuple[Node, int]] = []
    value = node.operand(0)
    while (found := _transpose_above(value, graph)) is None:
        step = _step(value, graph, len(perm))
        if step is None:
            return False
        chain.append(step)
        value = step[0].operand(step[1])
    upper, first = found
    origin = upper.operand(0)
    total = tuple(first[axis] for axis in perm)
    if total != tuple(range(len(total))):
        made = graph.build(upper, "Transpose", [origin], hint=upper.name, perm=list(total))
        made.sources = tuple(dict.fromkeys((*upper.sources, *node.sources)))
        origin = made.output
    for member, position in reversed(chain):
        member.set_input(position, origin)
        _permute_constants(graph, member, position, perm)
        origin = member.output
        if origin.shape is not None:
            origin.shape = tuple(origin.shape[axis] for axis in perm)
    replace_node(graph, node, origin)
    remove_dead(graph, upper)
    return True


def _step(value: Value, graph: Graph, rank: int) -> tuple[Node, int] | None:
    """The elementwise producer of a value that nothing else uses, and which of its operands is no constant."""
    node = value.producer
    if node is None or node.domain or node.graph is not graph or value.use_count != 1:
        return None
    if node.op in UNARY:
        return node, 0
    if node.op in BINARY and len(node.inputs) == 2:
        for position in (0, 1):
            other, base = node.operand(1 - position), node.operand(position)
            if other.const is not None and len(other.const.shape) <= rank and base.shape is not None:
                return (node, position) if len(base.shape) == rank else None
    return None


def _permute_constants(graph: Graph, node: Node, position: int, perm: tuple[int, ...]) -> None:
    if node.op not in BINARY:
        return
    held = node.operand(1 - position).const
    assert held is not None
    if held.size == 1:
        return
    array = held.numpy().reshape((1,) * (len(perm) - len(held.shape)) + held.shape)
    moved = Tensor.of(np.ascontiguousarray(array.transpose(perm)), held.dtype)
    node.set_input(1 - position, graph.constant(moved, node.operand(1 - position).name))


def _join(graph: Graph, node: Node) -> bool:
    """``f(T(x), T(y))`` becomes ``T(f(x, y))``."""
    if len(node.inputs) != 2:
        return False
    left, right = (_transpose_above(node.operand(position), graph) for position in (0, 1))
    if left is None or right is None or left[0] is right[0] or left[1] != right[1]:
        return False
    if left[0].output.use_count != 1 or right[0].output.use_count != 1:
        return False
    inner = graph.build(node, node.op, [left[0].operand(0), right[0].operand(0)], hint=node.name, **node.attributes)
    made = graph.build(node, "Transpose", [inner.output], hint=left[0].name, perm=list(left[1]))
    made.sources = tuple(dict.fromkeys((*left[0].sources, *right[0].sources)))
    replace_node(graph, node, made.output)
    return True
