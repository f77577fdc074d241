"""ONNX Runtime's quantized operators of the domain ``com.microsoft`` as DequantizeLinear, the float operator and
QuantizeLinear, which is what they mean.

ONNX Runtime computes some of them in fixed point or by tables, so results may be one step apart.
Source: onnxruntime/docs/ContribOperators.md, QLinearAdd to QLinearWhere, QGemm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.ir.contrib import become, make, refusal, rewrites
from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import DataType


def _real(graph: Graph, node: Node, position: int, **attributes: Any) -> Value:
    """An operand that is followed by its scale and zero point, as floats."""
    scale, zero = _alone(graph, node.operand(position + 1)), node.input(position + 2)
    attributes = attributes if scale.shape else {}
    operands = (node.operand(position), scale, None if zero is None else _alone(graph, zero))
    return make(graph, node, "DequantizeLinear", *operands, **attributes)


def _alone(graph: Graph, value: Value) -> Value:
    """A constant of one element without axes, which DequantizeLinear and QuantizeLinear take for all elements."""
    if value.const is None or value.const.size != 1 or value.const.shape == ():
        return value
    return graph.constant(value.numpy().reshape(()), value.name)


def _quantized(graph: Graph, node: Node, position: int, value: Value) -> None:
    """Let the node become the quantization of its float result; scale and zero point are operands of it."""
    scale, zero = _alone(graph, node.operand(position)), node.input(position + 1)
    if zero is None:
        become(node, "QuantizeLinear", value, scale, output_dtype=int(DataType.UINT8))
    else:
        become(node, "QuantizeLinear", value, scale, _alone(graph, zero))


@rewrites("QLinearAdd", "QLinearMul")
def _arithmetic(graph: Graph, node: Node) -> None:
    value = make(graph, node, node.op[len("QLinear") :], _real(graph, node, 0), _real(graph, node, 3))
    _quantized(graph, node, 6, value)


@rewrites("QLinearSigmoid", "QLinearLeakyRelu")
def _activation(graph: Graph, node: Node) -> None:
    attributes = {"alpha": node.attr_float("alpha", 0.01)} if node.op == "QLinearLeakyRelu" else {}
    value = make(graph, node, node.op[len("QLinear") :], _real(graph, node, 0), **attributes)
    _quantized(graph, node, 3, value)


@rewrites("QLinearSoftmax")
def _softmax(graph: Graph, node: Node) -> None:
    axis, data = node.attr_int("axis", -1), _real(graph, node, 0)
    if node.attr_int("opset", 13) < 13 and (
        data.shape is None or axis % max(len(data.shape), 1) != len(data.shape) - 1
    ):
        raise refusal(node, "before opset 13 a softmax is over all axes from one on, which is not the last")
    _quantized(graph, node, 3, make(graph, node, "Softmax", data, axis=axis))


@rewrites("QLinearAveragePool", "QLinearGlobalAveragePool")
def _average(graph: Graph, node: Node) -> None:
    attributes = dict(node.attributes)
    if attributes.pop("channels_last", 0):
        raise refusal(node, "its image is channels-last")
    value = make(graph, node, node.op[len("QLinear") :], _real(graph, node, 0), **attributes)
    _quantized(graph, node, 3, value)


@rewrites("QLinearConcat")
def _concat(graph: Graph, node: Node) -> None:
    parts = [_real(graph, node, position) for position in range(2, len(node.inputs), 3)]
    _quantized(graph, node, 0, make(graph, node, "Concat", *parts, axis=node.attr_int("axis")))


@rewrites("QLinearWhere")
def _where(graph: Graph, node: Node) -> None:
    value = make(graph, node, "Where", node.operand(0), _real(graph, node, 1), _real(graph, node, 4))
    _quantized(graph, node, 7, value)


@rewrites("QGemm")
def _gemm(graph: Graph, node: Node) -> None:
    """alpha a b + c, where c counts in units of alpha times the scales of a and b; the result may stay float."""
    transposed, alpha = node.attr_int("transB", 0), node.attr_float("alpha", 1.0)
    scales = [node.operand(1), node.operand(4)]
    bias = node.input(6)
    total = None
    if bias is not None:
        if any(scale.const is None for scale in scales):
            raise refusal(node, "its bias counts in units that are known only at run time")
        unit = scales[0].numpy().astype(np.float64) * scales[1].numpy().astype(np.float64) * alpha
        shape = () if unit.size == 1 else (unit.size,)
        held = graph.constant(unit.astype(np.float32).reshape(shape), f"{node.name}_unit")
        total = make(graph, node, "DequantizeLinear", bias, held, axis=-1)
    attributes = {"transA": node.attr_int("transA", 0), "transB": transposed, "alpha": alpha}
    operands = _real(graph, node, 0), _real(graph, node, 3, axis=0 if transposed else 1), total
    if node.input(7) is None:
        become(node, "Gemm", *operands, **attributes)
    else:
        _quantized(graph, node, 7, make(graph, node, "Gemm", *operands, **attributes))
