"""Write quantized convolutions and products as float ones between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import Array, DataType

BYTES = (DataType.INT8, DataType.UINT8)


@register
@dataclass(frozen=True)
class ExpandQLinear(Pass):
    """``QLinearConv`` and ``QLinearMatMul`` become DequantizeLinear of every operand, the float operator, and
    QuantizeLinear: the one form in which quantization is written, which targets have integer kernels for.

    Only where such kernels take it: scales and zero points are constant, data have one scale, weights are constant and
    symmetric int8 (per result channel or not), or uint8 with one scale.  Others stay as they are.  The integers are the
    same but for ties of the last rounding.

    Source: ONNX operator specification, QLinearConv-10, QLinearMatMul-21.
    """

    name: ClassVar[str] = "expand-qlinear"

    def apply(self, model: Model) -> bool:
        changed = rewrite_each(model, "QLinearConv", _convolution)
        return rewrite_each(model, "QLinearMatMul", _product) or changed


def _convolution(graph: Graph, node: Node) -> bool:
    parts = [node.operand(position) for position in (1, 2, 4, 5, 6, 7)]
    weights, bias = node.operand(3), node.input(8)
    if any(part.const is None for part in parts) or weights.const is None or (bias is not None and bias.const is None):
        return False
    if not _alone(node, 1, 6) or not _takes(node, 3, 5):
        return False
    data = _real(graph, node, 0)
    operands: list[Value] = [data, _real(graph, node, 3, axis=0)]
    if bias is not None:
        unit = _flat(node, 1).astype(np.float64) * _flat(node, 4).astype(np.float64)
        operands.append(_dequantized(graph, node, bias, unit.astype(np.float32), None, axis=0))
    _finish(graph, node, graph.build(node, "Conv", operands, **node.attributes).output)
    return True


def _product(graph: Graph, node: Node) -> bool:
    if any(node.operand(position).const is None for position in (1, 2, 4, 5, 6, 7)) or not _alone(node, 1, 6):
        return False
    right = node.operand(3)
    rank = len(right.shape or ())
    if right.const is None:
        if not _alone(node, 4):
            return False
    elif rank != 2 or not _takes(node, 3, 5):
        return False
    operands = [_real(graph, node, 0), _real(graph, node, 3, axis=rank - 1)]
    _finish(graph, node, graph.build(node, "MatMul", operands).output)
    return True


def _flat(node: Node, position: int) -> Array:
    return node.operand(position).numpy().reshape(-1)


def _alone(node: Node, *positions: int) -> bool:
    """Whether there is one scale each, and one zero point behind it."""
    return all(_flat(node, position).size == 1 and _flat(node, position + 1).size == 1 for position in positions)


def _takes(node: Node, weights: int, zero: int) -> bool:
    """Whether integer kernels take the weights."""
    if node.operand(weights).dtype is DataType.UINT8:
        return _alone(node, weights + 1)
    return node.operand(weights).dtype is DataType.INT8 and not _flat(node, zero).any()


def _real(graph: Graph, node: Node, position: int, axis: int = 0) -> Value:
    scales, zeros = _flat(node, position + 1), _flat(node, position + 2)
    return _dequantized(graph, node, node.operand(position), scales, np.broadcast_to(zeros, scales.shape), axis)


def _dequantized(graph: Graph, node: Node, whole: Value, scales: Array, zeros: Array | None, axis: int) -> Value:
    shape = () if scales.size == 1 else (scales.size,)
    operands = [whole, graph.constant(scales.astype(np.float32).reshape(shape), "scale")]
    if zeros is not None:
        operands.append(graph.constant(zeros.reshape(shape).copy(), "zero_point"))
    attributes: dict[str, Any] = {"axis": axis} if shape else {}
    return graph.build(node, "DequantizeLinear", operands, **attributes).output


def _finish(graph: Graph, node: Node, value: Value) -> None:
    parameters = [graph.constant(_flat(node, position).reshape(()), "result") for position in (6, 7)]
    replace_node(graph, node, graph.build(node, "QuantizeLinear", [value, *parameters]).output)
