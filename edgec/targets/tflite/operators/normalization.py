"""Normalisations.

Source: ONNX InstanceNormalization-22, LayerNormalization-17, BatchNormalization-15, LRN-13, LpNormalization-22.
"""

from __future__ import annotations

from edgec.ir.graph import Node
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout.permutation import Permutation
from edgec.targets.tflite.layout.rules import ALONG, CHANNELS_LAST, Along
from edgec.targets.tflite.program import T
from edgec.targets.tflite.table import lowers


def _tail_in_order(node: Node, permutation: Permutation) -> bool:
    """Whether the axes from ``axis`` on are stored last and in ONNX's order."""
    rank = len(permutation)
    axis = node.attr_int("axis", -1) % rank
    return permutation[axis:] == tuple(range(axis, rank))


def standardized(call: Call, x: T, axes: list[int], epsilon: float) -> tuple[T, T, T]:
    """(x - mean) / sqrt(variance + epsilon) over stored axes, the mean and the inverse deviation."""
    b = call.b
    mean = b.reduce("MEAN", x, axes, True)
    centred = b.sub(x, mean)
    variance = b.reduce("MEAN", b.mul(centred, centred), axes, True)
    inverse = b.unary("RSQRT", b.add(variance, b.scalar(epsilon, x)))
    return b.mul(centred, inverse), mean, inverse


@lowers("LayerNormalization", layout=Along(allowed=_tail_in_order, operands=(0,)))
def layer_normalization(call: Call) -> list[T]:
    """Standardized over the axes from ``axis`` on, times scale, plus bias."""
    b, node = call.b, call.node
    x = call.x(0)
    axes = list(range(node.attr_int("axis", -1) % x.rank, x.rank))
    y, mean, inverse = standardized(call, x, axes, node.attr_float("epsilon", 1e-5))
    if not (call.is_const(1) and bool((call.const(1, "scale") == 1).all())):
        y = b.mul(y, call.raw(1))
    if call.has(2):
        y = b.add(y, call.raw(2))
    return [y, mean, inverse][: len(node.outputs)]


@lowers("InstanceNormalization", layout=CHANNELS_LAST)
def instance_normalization(call: Call) -> T:
    """Standardized per sample and channel over the spatial axes."""
    b, x = call.b, call.x(0)
    y, _, _ = standardized(call, x, list(range(1, x.rank - 1)), call.node.attr_float("epsilon", 1e-5))
    return b.add(b.mul(y, call.raw(1)), call.raw(2))


@lowers("BatchNormalization", layout=CHANNELS_LAST)
def batch_normalization(call: Call) -> list[T]:
    """Only what the passes could not fuse arrives here: statistics known at run time, or training mode."""
    b, node = call.b, call.node
    x = call.x(0)
    epsilon, momentum = node.attr_float("epsilon", 1e-5), node.attr_float("momentum", 0.9)
    channel = x.rank - 1 if x.rank > 1 else 0
    if not node.attr_int("training_mode", 0):
        inverse = b.unary("RSQRT", b.add(call.raw(4), b.scalar(epsilon, x)))
        factor = b.mul(call.raw(1), inverse)
        offset = b.sub(call.raw(2), b.mul(call.raw(3), factor))
        return [b.add(b.mul(x, factor), offset)]
    axes = [axis for axis in range(x.rank) if axis != channel]
    mean = b.reduce("MEAN", x, axes, False)
    centred = b.sub(x, mean)
    variance = b.reduce("MEAN", b.mul(centred, centred), axes, False)
    inverse = b.unary("RSQRT", b.add(variance, b.scalar(epsilon, x)))
    y = b.add(b.mul(b.mul(centred, inverse), call.raw(1)), call.raw(2))
    running = [
        b.add(b.mul(call.raw(old), b.scalar(momentum, x)), b.mul(new, b.scalar(1 - momentum, x)))
        for old, new in ((3, mean), (4, variance))
    ]
    return [y, *running][: len(node.outputs)]


@lowers("LRN", layout=CHANNELS_LAST)
def local_response_normalization(call: Call) -> T:
    """x / (bias + alpha / size * sum of squares over neighbouring channels) ^ beta."""
    b, node = call.b, call.node
    x = call.x(0)
    size = node.attr_int("size")
    alpha, beta, bias = node.attr_float("alpha", 1e-4), node.attr_float("beta", 0.75), node.attr_float("bias", 1.0)
    if size % 2 == 1 and x.rank == 4:
        table = options("LocalResponseNormalizationOptions", radius=size // 2, bias=bias, alpha=alpha / size, beta=beta)
        return b.unary("LOCAL_RESPONSE_NORMALIZATION", x, table=table)
    last = x.rank - 1
    before = (size - 1) // 2
    padded = b.pad(b.mul(x, x), [(0, 0)] * last + [(before, size - 1 - before)])
    total: T | None = None
    for shift in range(size):
        part = b.slice(padded, [0] * last + [shift], x.shape)
        total = part if total is None else b.add(total, part)
    assert total is not None
    scaled = b.add(b.mul(total, b.scalar(alpha / size, x)), b.scalar(bias, x))
    power = b.one("POW", [scaled, b.scalar(beta, x)], x.dtype, x.shape, options("PowOptions"))
    return b.div(x, power)


@lowers("LpNormalization", layout=ALONG)
def lp_normalization(call: Call) -> T:
    """x / (sum |x|^p)^(1/p) along an axis, p 1 or 2; 0 where the norm is 0."""
    b, node = call.b, call.node
    x = call.x(0)
    axes = [call.axis(node.attr_int("axis", -1))]
    if node.attr_int("p", 2) == 1:
        norm = b.reduce("SUM", b.unary("ABS", x), axes, True)
    else:
        norm = b.unary("SQRT", b.reduce("SUM", b.mul(x, x), axes, True))
    zero = b.compare("EQUAL", norm, b.scalar(0.0, x))
    return b.div(x, b.select(zero, b.constant(1.0, x.dtype), norm))


@lowers("MeanVarianceNormalization", layout=ALONG)
def mean_variance_normalization(call: Call) -> T:
    """(x - mean) / (deviation + 1e-9) over axes; the variance is taken of x - mean, so that it is never negative."""
    b, x = call.b, call.x(0)
    axes = [call.axis(axis) for axis in call.node.attr_ints("axes", [0, 2, 3])]
    centred = b.sub(x, b.reduce("MEAN", x, axes, True))
    deviation = b.unary("SQRT", b.reduce("MEAN", b.mul(centred, centred), axes, True))
    return b.div(centred, b.add(deviation, b.scalar(1e-9, x)))
