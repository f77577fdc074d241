"""Activations with all their attributes.

Source: the ONNX operator specifications; LiteRT kernels activations.cc, elementwise.cc.
"""

from __future__ import annotations

import math

from edgec.ir.graph import Node
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import DELEGATE_RANK, options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import ELEMENTWISE
from edgec.targets.tflite.layout.rules import Along
from edgec.targets.tflite.operators.elementwise import widened
from edgec.targets.tflite.program import T
from edgec.targets.tflite.table import lowers


@lowers("Relu", layout=ELEMENTWISE)
def relu(call: Call) -> T:
    """max(x, 0)."""
    x = call.x(0)
    if x.dtype is DataType.FLOAT:
        return call.b.unary("RELU", x)
    return widened(call, lambda v: call.b.maximum(v, call.b.scalar(0, v)), x)


@lowers("LeakyRelu", layout=ELEMENTWISE)
def leaky_relu(call: Call) -> T:
    """x where x >= 0, alpha * x elsewhere."""
    return call.b.unary(
        "LEAKY_RELU", call.x(0), table=options("LeakyReluOptions", alpha=call.node.attr_float("alpha", 0.01))
    )


@lowers("PRelu", layout=ELEMENTWISE)
def prelu(call: Call) -> T:
    """LEAKY_RELU for one slope, PRELU for slopes that broadcast over the image; otherwise composed."""
    b = call.b
    x, slope = call.aligned(0), call.aligned(1)
    if x.dtype is DataType.FLOAT and slope.const is not None and slope.size == 1 and slope.rank <= x.rank:
        alpha = float(slope.const.numpy().reshape(()))
        return b.unary("LEAKY_RELU", x, table=options("LeakyReluOptions", alpha=alpha))
    if x.dtype is DataType.FLOAT and x.rank == 4 and slope.const is not None and slope.rank <= 4:
        whole = (*(1,) * (4 - slope.rank), *slope.shape)
        if whole[0] == 1:
            return b.one("PRELU", [x, b.reshape(slope, whole[1:])], x.dtype, x.shape)
    return widened(call, lambda v, s: b.select(b.compare("LESS", v, b.scalar(0, v)), b.mul(v, s), v), x, slope)


@lowers("HardSwish", layout=ELEMENTWISE)
def hard_swish(call: Call) -> T:
    """x * max(0, min(1, x / 6 + 1/2))."""
    return call.b.unary("HARD_SWISH", call.x(0))


@lowers("HardSigmoid", layout=ELEMENTWISE)
def hard_sigmoid(call: Call) -> T:
    """max(0, min(1, alpha * x + beta)); LiteRT has no direct form."""
    b, x = call.b, call.x(0)
    alpha, beta = call.node.attr_float("alpha", 0.2), call.node.attr_float("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return b.mul(b.unary("RELU6", b.add(x, b.scalar(3.0, x))), b.scalar(1 / 6, x))
    scaled = b.add(b.mul(x, b.scalar(alpha, x)), b.scalar(beta, x))
    return clip(call, scaled, 0.0, 1.0)


def clip(call: Call, x: T, low: float | None, high: float | None) -> T:
    """Limit to a range by the cheapest operator."""
    b = call.b
    if x.dtype is DataType.FLOAT:
        if low == 0.0 and high == 6.0:
            return b.unary("RELU6", x)
        if low == -1.0 and high == 1.0:
            return b.unary("RELU_N1_TO_1", x)
        if low == 0.0 and high == 1.0:
            return b.unary("RELU_0_TO_1", x)
        if low == 0.0 and high is None:
            return b.unary("RELU", x)
    result = x
    if low is not None:
        result = b.maximum(result, b.scalar(low, x))
    if high is not None:
        result = b.minimum(result, b.scalar(high, x))
    return result


@lowers("Clip", layout=ELEMENTWISE)
def clip_operator(call: Call) -> T:
    """min(max(x, low), high); bounds may be computed at run time."""
    b = call.b
    x = call.x(0)

    def compute(v: T) -> T:
        bounds: list[T | float | None] = []
        for position in (1, 2):
            if not call.has(position):
                bounds.append(None)
            elif call.is_const(position):
                bounds.append(call.const(position, "bound").reshape(()).item())
            else:
                bounds.append(b.cast(call.raw(position), v.dtype))
        low, high = bounds
        if not isinstance(low, T) and not isinstance(high, T):
            return clip(call, v, low, high)
        if low is not None:
            v = b.maximum(v, low if isinstance(low, T) else b.scalar(low, v))
        if high is not None:
            v = b.minimum(v, high if isinstance(high, T) else b.scalar(high, v))
        return v

    result = widened(call, compute, x)
    return b.copy(result) if result is x else result


@lowers("Gelu", layout=ELEMENTWISE)
def gelu(call: Call) -> T:
    """GELU, exact or by tanh."""
    approximate = call.node.attr_str("approximate", "none") == "tanh"
    return call.b.unary("GELU", call.x(0), table=options("GeluOptions", approximate=approximate))


@lowers("Elu", layout=ELEMENTWISE)
def elu(call: Call) -> T:
    """x where x >= 0, alpha * (exp(x) - 1) elsewhere; LiteRT's ELU has alpha 1."""
    b, x = call.b, call.x(0)
    alpha = call.node.attr_float("alpha", 1.0)
    if alpha == 1.0:
        return b.unary("ELU", x)
    negative = b.mul(b.unary("ELU", b.minimum(x, b.scalar(0.0, x))), b.scalar(alpha, x))
    return b.add(b.unary("RELU", x), negative)


@lowers("Selu", layout=ELEMENTWISE)
def selu(call: Call) -> T:
    """gamma * (x where x > 0, alpha * (exp(x) - 1) elsewhere)."""
    b, x = call.b, call.x(0)
    alpha = call.node.attr_float("alpha", 1.67326319217681884765625)
    gamma = call.node.attr_float("gamma", 1.05070102214813232421875)
    negative = b.mul(b.unary("ELU", b.minimum(x, b.scalar(0.0, x))), b.scalar(alpha * gamma, x))
    return b.add(b.mul(b.unary("RELU", x), b.scalar(gamma, x)), negative)


@lowers("Celu", layout=ELEMENTWISE)
def celu(call: Call) -> T:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    b, x = call.b, call.x(0)
    alpha = call.node.attr_float("alpha", 1.0)
    scaled = b.mul(b.minimum(x, b.scalar(0.0, x)), b.scalar(1 / alpha, x))
    return b.add(b.unary("RELU", x), b.mul(b.unary("ELU", scaled), b.scalar(alpha, x)))


@lowers("ThresholdedRelu", layout=ELEMENTWISE)
def thresholded_relu(call: Call) -> T:
    """x where x > alpha, 0 elsewhere."""
    b, x = call.b, call.x(0)
    return b.select(b.compare("GREATER", x, b.scalar(call.node.attr_float("alpha", 1.0), x)), x, b.scalar(0.0, x))


def softplus_of(call: Call, x: T) -> T:
    """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    b = call.b
    small = b.unary("EXP", b.unary("NEG", b.unary("ABS", x)))
    return b.add(b.unary("RELU", x), b.unary("LOG", b.add(small, b.scalar(1.0, x))))


@lowers("Softplus", layout=ELEMENTWISE)
def softplus(call: Call) -> T:
    """log(1 + exp(x))."""
    return softplus_of(call, call.x(0))


@lowers("Mish", layout=ELEMENTWISE)
def mish(call: Call) -> T:
    """x * tanh(softplus(x))."""
    x = call.x(0)
    return call.b.mul(x, call.b.unary("TANH", softplus_of(call, x)))


@lowers("Swish", layout=ELEMENTWISE)
def swish(call: Call) -> T:
    """x * sigmoid(alpha * x)."""
    b, x = call.b, call.x(0)
    alpha = call.node.attr_float("alpha", 1.0)
    inner = x if alpha == 1.0 else b.mul(x, b.scalar(alpha, x))
    return b.mul(x, b.unary("LOGISTIC", inner))


@lowers("Softsign", layout=ELEMENTWISE)
def softsign(call: Call) -> T:
    """x / (1 + |x|)."""
    b, x = call.b, call.x(0)
    return b.div(x, b.add(b.unary("ABS", x), b.scalar(1.0, x)))


def axis_last(node: Node, permutation: tuple[int, ...]) -> bool:
    """Whether the operator's axis is stored last."""
    rank = len(permutation)
    return rank == 0 or permutation[-1] == node.attr_int("axis", -1) % rank


def _axis_to_back(node: Node) -> tuple[int, ...]:
    rank = node.operand(0).rank
    axis = node.attr_int("axis", -1) % max(rank, 1)
    return (*(a for a in range(rank) if a != axis), axis) if rank else ()


AXIS_LAST = Along(allowed=axis_last, default=_axis_to_back)


@lowers("Softmax", "LogSoftmax", layout=AXIS_LAST)
def softmax(call: Call) -> T:
    """Over the last stored axis; the others are merged where they are too many for XNNPACK."""
    b, x = call.b, call.x(0)
    shape = x.shape
    if x.rank > DELEGATE_RANK and -1 not in shape:
        x = b.reshape(x, (math.prod(shape[:-1]), shape[-1]))
    if call.node.op == "Softmax":
        return b.reshape(b.unary("SOFTMAX", x, table=options("SoftmaxOptions", beta=1.0)), shape)
    return b.reshape(b.unary("LOG_SOFTMAX", x, table=options("LogSoftmaxOptions")), shape)
