"""Fold inference BatchNormalization into the operator before it, or write it as one multiplication and addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.affine import LINEAR, absorb, channel_axis, channels_of, linear_producer
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import Array


@register
@dataclass(frozen=True)
class FuseBatchnorm(Pass):
    """Remove BatchNormalization whose statistics are constant.

    With ``a = scale / sqrt(variance + epsilon)`` and ``b = bias - mean * a`` (in float64), ``y = a * x + b`` per
    channel.  If x is the only use of a Conv, ConvTranspose, Gemm or MatMul with constant weights (named by
    ``producers``), a and b go into its weights and bias; otherwise they become a Mul and an Add.

    Source: ONNX operator specification, BatchNormalization, training_mode = 0.
    """

    name: ClassVar[str] = "fuse-batchnorm"
    producers: tuple[str, ...] = LINEAR

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "BatchNormalization", lambda graph, node: _fuse(graph, node, self.producers))


def _fuse(graph: Graph, node: Node, producers: tuple[str, ...]) -> bool:
    value = node.operand(0)
    statistics = [node.operand(position) for position in range(1, 5)]
    if any(item.const is None for item in statistics) or node.attr_int("training_mode", 0):
        return False
    if any(other.use_count for other in node.outputs[1:]) or value.shape is None or not value.dtype.is_float:
        return False
    scale, bias, mean, variance = (item.numpy().astype(np.float64) for item in statistics)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attr_float("epsilon", 1e-5))
        offset = bias - mean * factor
    if not (np.all(np.isfinite(factor)) and np.all(np.isfinite(offset))):
        return False
    producer = linear_producer(value, producers)
    if (
        producer is not None
        and producer.graph is graph
        and min(1, len(value.shape) - 1) == channel_axis(producer)
        and channels_of(producer) == factor.size
        and absorb(graph, producer, factor, offset)
    ):
        replace_node(graph, node, producer.output)
        return True
    trailing = (1,) * max(len(value.shape) - 2, 0)
    scaled = graph.build(node, "Mul", [value, _constant(graph, factor, trailing, value, f"{node.name}_scale")])
    moved = graph.build(node, "Add", [scaled.output, _constant(graph, offset, trailing, value, f"{node.name}_offset")])
    replace_node(graph, node, moved.output)
    return True


def _constant(graph: Graph, array: Array, trailing: tuple[int, ...], like: Value, name: str) -> Value:
    shaped = array.reshape(array.shape + trailing).astype(like.dtype.numpy)
    return graph.constant(Tensor.of(shaped, like.dtype), name)
