"""Write operators that no integer kernel computes as ones that integer kernels do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import DataType


@register
@dataclass(frozen=True)
class Decompose(Pass):
    """Prepare a float graph for quantization.

    An average over the whole image becomes GlobalAveragePool, whose result has a scale of its own: averages are much
    smaller than the largest number that goes into them, and AveragePool's integer kernel has one scale for both.
    ``HardSigmoid(x)`` becomes ``Clip(alpha x + beta, 0, 1)``, with alpha 1/6 and beta 1/2 ``Clip(x + 3, 0, 6) / 6``,
    whose steps are finer; ``x / c`` becomes ``x * (1 / c)``; ``Sum(a, b, c)`` becomes ``(a + b) + c``.  Every
    intermediate value then has a range that calibration can find.

    Source: ONNX operator specification, AveragePool-22, HardSigmoid-22, Div-14, Sum-13; LiteRT 8-bit quantization
    specification, AVERAGE_POOL_2D.
    """

    name: ClassVar[str] = "decompose"
    ops: tuple[str, ...] = ("HardSigmoid", "Div", "Sum", "AveragePool")

    def apply(self, model: Model) -> bool:
        changed = False
        for op, rewrite in _REWRITES.items():
            if op in self.ops:
                changed = rewrite_each(model, op, rewrite) or changed
        return changed


def _scalar(graph: Graph, number: float, name: str) -> Value:
    return graph.constant(np.array(number, np.float32), name)


def _hard_sigmoid(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.dtype is not DataType.FLOAT:
        return False
    alpha, beta = node.attr_float("alpha", 0.2), node.attr_float("beta", 0.5)
    finer = math.isclose(alpha, 1 / 6, rel_tol=1e-5) and math.isclose(beta, 0.5, rel_tol=1e-6)
    if not finer:
        x = graph.build(node, "Mul", [x, _scalar(graph, alpha, "alpha")]).output
    added = graph.build(node, "Add", [x, _scalar(graph, 3.0 if finer else beta, "beta")]).output
    bounds = [_scalar(graph, 0.0, "low"), _scalar(graph, 6.0 if finer else 1.0, "high")]
    result = graph.build(node, "Clip", [added, *bounds]).output
    if finer:
        result = graph.build(node, "Mul", [result, _scalar(graph, 1 / 6, "sixth")]).output
    replace_node(graph, node, result)
    return True


def _division(graph: Graph, node: Node) -> bool:
    divisor = node.operand(1)
    if divisor.const is None or divisor.dtype is not DataType.FLOAT:
        return False
    numbers = divisor.numpy()
    if not np.all(numbers != 0):
        return False
    inverse = graph.constant((1 / numbers.astype(np.float64)).astype(np.float32), f"{divisor.name}_inverse")
    replace_node(graph, node, graph.build(node, "Mul", [node.operand(0), inverse]).output)
    return True


def _sum(graph: Graph, node: Node) -> bool:
    operands = [value for value in node.inputs if value is not None]
    if len(operands) < 2 or any(value.dtype is not DataType.FLOAT for value in operands):
        return False
    total = operands[0]
    for value in operands[1:]:
        total = graph.build(node, "Add", [total, value]).output
    replace_node(graph, node, total)
    return True


def _whole_average(graph: Graph, node: Node) -> bool:
    shape = node.operand(0).shape
    if shape is None or len(shape) < 3 or node.attr_str("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    spatial = list(shape[2:])
    ones = [1] * len(spatial)
    if node.attr_ints("kernel_shape") != spatial or any(node.attr_ints("pads", [0] * 2 * len(spatial))):
        return False
    if node.attr_ints("dilations", ones) != ones:
        return False
    replace_node(graph, node, graph.build(node, "GlobalAveragePool", [node.operand(0)]).output)
    return True


_REWRITES = {"HardSigmoid": _hard_sigmoid, "Div": _division, "Sum": _sum, "AveragePool": _whole_average}
