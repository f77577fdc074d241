"""Normalisations.

Source: ONNX InstanceNormalization-22, LayerNormalization-17, BatchNormalization-15, LRN-13, LpNormalization-22.
"""

from __future__ import annotations

from edgec.ir.graph import Node
from edgec.targets.tflite.layout.rules import Along
from edgec.targets.tflite.lowering import Call, lowers
from edgec.targets.tflite.program import T


def _axes_last_ok(node: Node, permutation: tuple[int, ...]) -> bool:
    rank = len(permutation)
    axis = node.attr_int("axis", -1) % rank
    return permutation[axis:] == tuple(range(axis, rank))


@lowers("LayerNormalization", layout=Along(allowed=_axes_last_ok, operands=(0,)))
def layer_normalization(call: Call) -> list[T]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from ``axis`` on."""
    b, node = call.b, call.node
    x = call.x(0)
    axis = node.attr_int("axis", -1) % x.rank
    axes = list(range(axis, x.rank))
    mean = b.reduce("MEAN", x, axes, True)
    centred = b.sub(x, mean)
    variance = b.reduce("MEAN", b.mul(centred, centred), axes, True)
    inverse = b.unary("RSQRT", b.add(variance, b.scalar(node.attr_float("epsilon", 1e-5), x)))
    y = b.mul(centred, inverse)
    y = b.mul(y, call.raw(1))
    if call.has(2):
        y = b.add(y, call.raw(2))
    return [y, mean, inverse][: len(node.outputs)]


