"""Operators of one operand that work element by element, and the softmaxes.

Source: LiteRT kernels activations.cc, elementwise.cc; ONNX operator specification.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.types import DataType

SIMPLE = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}

LIMITS = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


@reads(*SIMPLE, layouts=True)
def simple(call: Call) -> None:
    """The operator of the same meaning."""
    call.give(call.e.one(SIMPLE[call.op.code], call.x()))


@reads("ELU", layouts=True)
def elu(call: Call) -> None:
    """Elu with alpha 1."""
    call.give(call.e.one("Elu", call.x()))


@reads(*LIMITS, layouts=True)
def limited(call: Call) -> None:
    """Clip to fixed limits."""
    x = call.x()
    low, high = LIMITS[call.op.code]
    call.give(call.e.one("Clip", x, call.e.scalar(low, x), call.e.scalar(high, x)))


@reads("LEAKY_RELU", layouts=True)
def leaky_relu(call: Call) -> None:
    """LeakyRelu."""
    call.give(call.e.one("LeakyRelu", call.x(), alpha=float(call.options(schema.LeakyReluOptions).Alpha())))


@reads("GELU", layouts=True)
def gelu(call: Call) -> None:
    """Gelu, by the error function or by tanh."""
    options = call.op.options_or_none(schema.GeluOptions)
    approximate = options is not None and options.Approximate()
    call.give(call.e.one("Gelu", call.x(), approximate="tanh" if approximate else "none"))


@reads("RSQRT", layouts=True)
def rsqrt(call: Call) -> None:
    """1 / sqrt(x)."""
    call.give(call.e.one("Reciprocal", call.e.one("Sqrt", call.x())))


@reads("SQUARE", layouts=True)
def square(call: Call) -> None:
    """x x."""
    x = call.x()
    call.give(call.e.one("Mul", x, x))


@reads("SOFTMAX", layouts=True)
def softmax(call: Call) -> None:
    """Softmax over the last axis of beta x."""
    x, beta = call.x(), float(call.options(schema.SoftmaxOptions).Beta())
    if beta != 1:
        x = call.e.one("Mul", x, call.e.scalar(beta, x))
    call.give(call.e.one("Softmax", x, axis=call.axis(-1)))


@reads("LOG_SOFTMAX", layouts=True)
def log_softmax(call: Call) -> None:
    """LogSoftmax over the last axis."""
    call.give(call.e.one("LogSoftmax", call.x(), axis=call.axis(-1)))


@reads("PRELU", layouts=True)
def prelu(call: Call) -> None:
    """x where it is positive, else slope x; the slopes broadcast."""
    rank = len(call.tensor(0).shape)
    call.give(call.e.one("PRelu", call.x(), call.aligned(1, rank)))


@reads("L2_NORMALIZATION", layouts=True)
def l2_normalization(call: Call) -> None:
    """x / max(norm, 1e-6) along the last axis."""
    e, x = call.e, call.x()
    norm = e.one("ReduceL2", x, e.ints([call.axis(-1)]), keepdims=1)
    call.give(e.one("Div", x, e.one("Max", norm, e.scalar(1e-6, x))))


@reads("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(call: Call) -> None:
    """LRN over channels; ONNX divides alpha by the window."""
    options = call.options(schema.LocalResponseNormalizationOptions)
    size = 2 * options.Radius() + 1
    alpha, beta, bias = float(options.Alpha()) * size, float(options.Beta()), float(options.Bias())
    call.give_image(call.e.one("LRN", call.image(), size=size, alpha=alpha, beta=beta, bias=bias))


@reads("CAST", layouts=True)
def cast(call: Call) -> None:
    """Another element type; quantized integers are taken as plain ones."""
    call.stored = True
    dtype = call.result().dtype
    if dtype is None:
        call.refuse(f"a cast to {call.result().kind}")
    x = call.x()
    if x.dtype.is_float and dtype.is_integer and dtype.bits < 32:
        x = call.e.cast(x, DataType.INT32)
    call.give(call.e.cast(x, dtype))


@reads("ZEROS_LIKE")
def zeros_like(call: Call) -> None:
    """Zeros of the operand's shape."""
    x = call.raw(0)
    call.stored = True
    call.give_plain(call.e.one("Expand", call.e.constant(np.zeros((), x.dtype.numpy)), call.e.lengths(x)))
