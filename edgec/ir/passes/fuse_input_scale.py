"""Fold multiplications and additions by per-channel constants into the convolutions and products after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.affine import per_channel, scale_inputs
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import Array


@register
@dataclass(frozen=True)
class FuseInputScale(Pass):
    """Fold ``x * c`` and ``x + c`` into the weights and bias of what uses it.

    Every user is a Conv with constant weights, or a Gemm that does not transpose its left operand, and ``c`` is a
    scalar or varies with the input channel alone:

        W (c x) + b = (W c) x + b
        W (x + c) + b = W x + (W c + b)

    An addition goes into a Conv only without padding, since padded zeros would have become c.  In front of padding,
    ``s x + o`` becomes ``s (x + o / s)``, so that at least the multiplication goes.

    Exporters write such constants behind an activation, as learnable affine blocks or unfused normalisations.
    """

    name: ClassVar[str] = "fuse-input-scale"
    users: tuple[str, ...] = ("Conv", "Gemm")

    def apply(self, model: Model) -> bool:
        swapped = rewrite_each(model, "Add", lambda graph, node: _swap(graph, node, self.users))
        fused = rewrite_each(model, ("Add", "Mul"), lambda graph, node: _fuse(graph, node, self.users))
        return rewrite_each(model, "Mul", lambda graph, node: _fuse(graph, node, self.users)) or fused or swapped


def _constant_operand(node: Node) -> tuple[Value, Value] | None:
    """The operand that is computed and the one that is constant."""
    for position in (0, 1):
        base, constant = node.operand(position), node.operand(1 - position)
        if constant.const is not None and base.const is None and base.dtype.is_float and base.shape is not None:
            return base, constant
    return None


def _users(value: Value, users: tuple[str, ...]) -> list[Node]:
    """All users of a value, if each of them could take up a constant; else nothing."""
    found = []
    for user in value.users:
        weights = user.input(1)
        if user.op not in users or user.domain or user.graph is None or weights is None or weights.const is None:
            return []
        if user.input(0) is not value or user.inputs.count(value) != 1:
            return []
        if user.op == "Gemm" and user.attr_int("transA", 0):
            return []
        found.append(user)
    return [] if value.is_output else found


def _channels(node: Node) -> tuple[int, int] | None:
    """The channel axis and extent of a node's output of rank 2 and more."""
    shape = node.output.shape
    if shape is None or len(shape) < 2 or not isinstance(shape[1], int):
        return None
    return 1, shape[1]


def _constant(node: Node, users: tuple[str, ...]) -> tuple[Value, Array, list[Node]] | None:
    """The computed operand, the constant as one float64 per channel, and the users."""
    operands, channels, found = _constant_operand(node), _channels(node), _users(node.output, users)
    if operands is None or channels is None or not found:
        return None
    base, constant = operands
    if base.shape != node.output.shape:
        return None
    factors = per_channel(constant, base, *channels)
    return None if factors is None else (base, factors, found)


def _fuse(graph: Graph, node: Node, users: tuple[str, ...]) -> bool:
    found = _constant(node, users)
    if found is None:
        return False
    base, constant, takers = found
    scale, offset = (constant, None) if node.op == "Mul" else (None, constant)
    if not all(taker.graph is graph and scale_inputs(graph, taker, scale, offset, apply=False) for taker in takers):
        return False
    for taker in takers:
        scale_inputs(graph, taker, scale, offset, apply=True)
        taker.sources = tuple(dict.fromkeys((*node.sources, *taker.sources)))
    replace_node(graph, node, base)
    return True


def _swap(graph: Graph, node: Node, users: tuple[str, ...]) -> bool:
    """``s x + o`` becomes ``s (x + o / s)`` where users can take s but not o."""
    found = _constant(node, users)
    if found is None:
        return False
    base, offset, takers = found
    inner = base.producer
    if inner is None or inner.op != "Mul" or inner.domain or inner.graph is not graph or base.use_count != 1:
        return False
    operands, channels = _constant_operand(inner), _channels(inner)
    if operands is None or channels is None or operands[0].shape != base.shape:
        return False
    scale = per_channel(operands[1], operands[0], *channels)
    limit = float(np.finfo(base.dtype.numpy).max) if base.dtype.numpy.kind == "f" else 0.0
    if scale is None or not np.all(scale) or not np.all(np.abs(offset) < limit * np.abs(scale)):
        return False
    if all(scale_inputs(graph, taker, None, offset, apply=False) for taker in takers):
        return False  # both go into the users anyway
    if not all(taker.graph is graph and scale_inputs(graph, taker, scale, None, apply=False) for taker in takers):
        return False
    like, trailing = node.operand(0), (1,) * (len(base.shape or ()) - 2)
    first = graph.build(node, "Add", [operands[0], _shaped(graph, offset / scale, trailing, like, node.name)])
    second = graph.build(
        node, "Mul", [first.output, _shaped(graph, scale, trailing, like, inner.name)], hint=inner.name
    )
    second.sources = inner.sources
    replace_node(graph, node, second.output)
    return True


def _shaped(graph: Graph, array: Array, trailing: tuple[int, ...], like: Value, name: str) -> Value:
    if np.all(array == array[0]):
        array, trailing = array[:1].reshape(()), ()
    shaped = array.reshape(array.shape + trailing).astype(like.dtype.numpy)
    return graph.constant(Tensor.of(shaped, like.dtype), f"{name}_constant")
