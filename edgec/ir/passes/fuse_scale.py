"""Fold additions of and multiplications by per-channel constants into the linear operator before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node
from edgec.ir.passes.affine import LINEAR, absorb, channel_axis, channels_of, linear_producer, per_channel
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import Array


@register
@dataclass(frozen=True)
class FuseScale(Pass):
    """Fold ``y + c``, ``y - c``, ``c - y``, ``y * c`` and ``y / c`` into the operator that makes ``y``.

    ``y`` is the only use of a Conv, ConvTranspose, Gemm or MatMul with constant weights (named by ``producers``) and
    ``c`` a constant that is a scalar or varies with the channel alone: ``s * (W x + b) + o = (s W) x + (s b + o)``.
    A MatMul has no bias, so only multiplications go into it.  Nothing is folded where a weight would overflow or
    sink towards the subnormal numbers.
    """

    name: ClassVar[str] = "fuse-scale"
    producers: tuple[str, ...] = LINEAR

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, ("Add", "Sub", "Mul", "Div"), lambda graph, node: _fuse(graph, node, self.producers))


def _fuse(graph: Graph, node: Node, producers: tuple[str, ...]) -> bool:
    for position in (0, 1):
        base, other = node.operand(position), node.operand(1 - position)
        producer = linear_producer(base, producers)
        if other.const is None or producer is None or producer.graph is not graph:
            continue
        axis = channel_axis(producer)
        if axis is None:
            continue
        constant = per_channel(other, base, axis, channels_of(producer))
        affine = None if constant is None else _affine(node.op, constant, constant_first=position == 1)
        if affine is not None and absorb(graph, producer, *affine):
            replace_node(graph, node, producer.output)
            return True
    return False


def _affine(op: str, constant: Array, *, constant_first: bool) -> tuple[Array | None, Array | None] | None:
    """Scale and offset of the operator, None where it is no affine function of its other operand."""
    match op:
        case "Add":
            return None, constant
        case "Sub":
            return (-np.ones_like(constant), constant) if constant_first else (None, -constant)
        case "Mul":
            return constant, None
        case "Div" if not constant_first and np.all(constant != 0):
            return 1.0 / constant, None
    return None
