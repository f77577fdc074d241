"""Write activations that an accelerator lacks as operators that it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import DataType


@register
@dataclass(frozen=True)
class ExpandActivations(Pass):
    """Expand activations into sums, products and maxima.

    ``HardSwish(x)`` becomes ``x * Clip(x + 3, 0, 6) / 6``, ``HardSigmoid(x)`` becomes
    ``Clip(6 alpha x + 6 beta, 0, 6) / 6`` (which is ReLU6, where 0 to 1 is no activation of its own), and
    ``LeakyRelu(x)`` with a slope from 0 to 1 becomes ``Max(x, slope * x)``.  All are exact in real numbers.

    Source: ONNX operator specification, HardSwish-22, HardSigmoid-22, LeakyRelu-16.
    """

    name: ClassVar[str] = "expand-activations"
    ops: tuple[str, ...] = ("HardSwish", "HardSigmoid", "LeakyRelu")

    def apply(self, model: Model) -> bool:
        changed = False
        for op in self.ops:
            if op in _REWRITES:
                changed = rewrite_each(model, op, _REWRITES[op]) or changed
        return changed


def expand(graph: Graph, node: Node) -> bool:
    """Expand one activation; False where it stays as it is."""
    return _REWRITES[node.op](graph, node)


def _scalar(graph: Graph, number: float, name: str) -> Value:
    return graph.constant(np.array(number, np.float32), name)


def _hard_swish(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.dtype is not DataType.FLOAT:
        return False
    replace_node(graph, node, graph.build(node, "Mul", [x, _gate(graph, node, x, 3.0)]).output)
    return True


def _hard_sigmoid(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.dtype is not DataType.FLOAT:
        return False
    alpha, beta = node.attr_float("alpha", 0.2), node.attr_float("beta", 0.5)
    if not math.isclose(alpha, 1 / 6, rel_tol=1e-5):
        x = graph.build(node, "Mul", [x, _scalar(graph, 6 * alpha, "alpha")]).output
    replace_node(graph, node, _gate(graph, node, x, 6 * beta))
    return True


def _gate(graph: Graph, node: Node, x: Value, offset: float) -> Value:
    """``Clip(x + offset, 0, 6) / 6``."""
    moved = graph.build(node, "Add", [x, _scalar(graph, offset, "offset")]).output
    bounds = [_scalar(graph, 0.0, "low"), _scalar(graph, 6.0, "six")]
    clipped = graph.build(node, "Clip", [moved, *bounds]).output
    return graph.build(node, "Mul", [clipped, _scalar(graph, 1 / 6, "sixth")]).output


def _leaky_relu(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    slope = node.attr_float("alpha", 0.01)
    if x.dtype is not DataType.FLOAT or not 0 <= slope <= 1:
        return False
    scaled = graph.build(node, "Mul", [x, _scalar(graph, slope, "slope")]).output
    replace_node(graph, node, graph.build(node, "Max", [x, scaled]).output)
    return True


_REWRITES: Final[dict[str, Callable[[Graph, Node], bool]]] = {
    "HardSwish": _hard_swish,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
}
