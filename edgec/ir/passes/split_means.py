"""Average over large planes in two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.graph import Graph, Model, Node
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each


@register
@dataclass(frozen=True)
class SplitMeans(Pass):
    """A ``GlobalAveragePool`` over more than ``limit`` elements becomes an ``AveragePool`` over blocks and a
    ``GlobalAveragePool`` over what it leaves, for accelerators that average over small planes only.

    The mean of means of equal blocks is the mean: exact in real numbers.  Planes that no block divides are left alone.

    Source: ONNX operator specification, GlobalAveragePool-22, AveragePool-22.
    """

    name: ClassVar[str] = "split-means"
    limit: int = 4096

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "GlobalAveragePool", self._split)

    def _split(self, graph: Graph, node: Node) -> bool:
        shape = node.operand(0).shape
        if shape is None or len(shape) != 4:
            return False
        height, width = shape[2], shape[3]
        if not isinstance(height, int) or not isinstance(width, int) or height * width <= self.limit:
            return False
        blocks = [
            (down, across)
            for down in _divisors(height)
            for across in _divisors(width)
            if down * across <= self.limit and (height // down) * (width // across) <= self.limit
        ]
        if not blocks:
            return False
        down, across = min(blocks, key=lambda block: (abs(block[0] - block[1]), block[0] * block[1]))
        block = [down, across]
        pooled = graph.build(node, "AveragePool", [node.operand(0)], kernel_shape=block, strides=block)
        replace_node(graph, node, graph.build(node, "GlobalAveragePool", [pooled.output]).output)
        return True


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
