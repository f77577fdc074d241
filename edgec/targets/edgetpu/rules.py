"""What keeps an operator off the Edge TPU: one fact, one small function, whose docstring is the documentation.

A rule sees one operator of an int8 LiteRT graph.  What the rules say of an operator alone, and what becomes of it
behind its neighbours (EDG419), is put together in :mod:`edgec.targets.edgetpu.mapping`.

Sources named in the rules: "model requirements" is coral.ai/docs/edgetpu/models-intro; "real pairs" are source and
compiled models of github.com/google-coral/test_data, made by compiler 1.0 to 16; "issue N" is of
github.com/google-coral/edgetpu.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.targets.base import Verdict
from edgec.targets.rules import define
from edgec.targets.tflite.graph import FlatOperator, FlatTensor

TARGET: Final = "edgetpu"
INTEGERS: Final = ("int8", "uint8")

SINGLE_SUBGRAPH: Final = "EDG419"


@dataclass(frozen=True)
class Judgement:
    """What a rule says of one operator: the verdict, the reason, and what would help."""

    verdict: Verdict = Verdict.OK
    reason: str = ""
    help: str = ""


OK: Final = Judgement()


def unsupported(reason: str, help: str = "") -> Judgement:
    """The operator runs on the CPU."""
    return Judgement(Verdict.UNSUPPORTED, reason, help)


def uncertain(reason: str, help: str = "") -> Judgement:
    """Nobody knows until it is compiled."""
    return Judgement(Verdict.UNCERTAIN, reason, help)


@dataclass(frozen=True)
class Rule:
    """A rule of this target: its code, and for which operators it is asked (empty for all)."""

    code: str
    judge: Callable[[FlatOperator], Judgement]
    operators: tuple[str, ...] = ()


RULES: list[Rule] = []
"""In the order in which they are asked; the first that says unsupported decides, then the first uncertain one."""

Judge = Callable[[FlatOperator], Judgement]


def rule(code: str, title: str, operators: str = "") -> Callable[[Judge], Judge]:
    """Register a rule for the operators named (separated by blanks), or for all."""

    def register(judge: Judge) -> Judge:
        define(code, target=TARGET, title=title, documentation=inspect.getdoc(judge) or "")
        RULES.append(Rule(code, judge, tuple(operators.split())))
        return judge

    return register


KNOWN: Final = frozenset(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC "
    "LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 "
    "RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE "
    "SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM".split()
)
"""The operators of the model requirements for compiler 16, and TILE, which one real pair shows on the Edge TPU."""

WAYS_OUT: Final = {
    "HARD_SWISH": "use ReLU6, or x * ReLU6(x + 3) / 6 written out",
    "LEAKY_RELU": "use ReLU or PReLU; max(x, alpha * x) is the same",
    "ELU": "use ReLU",
    "GELU": "use ReLU",
    "DEPTH_TO_SPACE": "use a transposed convolution",
    "ARG_MAX": "leave the last arg-max to the host",
    "DIV": "multiply by the reciprocal where the divisor is constant",
    "SQUARE": "multiply the value with itself",
    "SPLIT_V": "use SLICE, or SPLIT into equal parts",
    "UNPACK": "use SPLIT and RESHAPE, or SLICE",
    "DEQUANTIZE": "give the model int8 outputs, and int8 inside",
    "CAST": "give the model int8 inputs and outputs",
    "CUSTOM": "leave it at the very end, where it strands nothing",
}


@rule("EDG411", "operator that the Edge TPU does not have")
def known_operator(operator: FlatOperator) -> Judgement:
    """The Edge TPU has about forty operators; all others run on the CPU. Custom operators are among the others.

    Source: model requirements, "Supported operations"; TILE by the pair deeplab_edgetpu_slim_cityscapes. DEQUANTIZE,
    CAST, ARG_MAX, GATHER_ND, FLOOR_DIV, DIV, SQRT, UNPACK and custom operators stay on the CPU in the real pairs.
    """
    if operator.code in KNOWN:
        return OK
    reason = f"the Edge TPU has no {operator.title}"
    if operator.code == "DEQUANTIZE":
        reason = "DEQUANTIZE: what follows is computed in float, on the CPU"
    return unsupported(reason, WAYS_OUT.get(operator.code, ""))


@rule("EDG410", "element type that is not quantized")
def element_type(operator: FlatOperator) -> Judgement:
    """Everything that the Edge TPU computes is int8 or uint8. Constants may be int32 (biases, shapes, axes), and the
    state of an LSTM int16. A model with float inputs keeps its first QUANTIZE on the CPU.

    Source: model requirements (quantized tensors only); the compiler's log says "Operation is working on an
    unsupported data type".
    """
    for tensor in _computed(operator):
        if not tensor.variable and tensor.dtype not in INTEGERS:
            help = "quantize the model to int8: edgec convert MODEL --target edgetpu --calibration DATA"
            if operator.code == "QUANTIZE":
                help = "give the model int8 inputs and outputs"
            return unsupported(f"'{tensor.name}' is {tensor.dtype}, not int8 or uint8", help)
    return OK


@rule("EDG413", "size or parameter that is not constant")
def constant_parameters(operator: FlatOperator) -> Judgement:
    """All sizes are fixed when the model is compiled, and so are weights, biases, axes, paddings and shapes.

    Source: model requirements (tensor sizes and model parameters are constant at compile time).
    """
    for tensor in _computed(operator):
        if -1 in tensor.shape:
            return unsupported(f"'{tensor.name}' has the shape {list(tensor.shape)}", "fix the shape, batch 1")
    for position in PARAMETERS.get(operator.code, ()):
        operand = operator.inputs[position] if position < len(operator.inputs) else None
        if operand is not None and not operand.constant:
            return unsupported(f"operand {position}, '{operand.name}', is computed at run time", "make it a constant")
    return OK


PARAMETERS: Final = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (0, 1, 3),
    "PRELU": (1,),
    "PAD": (1,),
    "MEAN": (1,),
    "SUM": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "RESHAPE": (1,),
    "SLICE": (1, 2),
    "SPLIT": (0,),
    "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,),
    "TRANSPOSE": (1,),
    "EXPAND_DIMS": (1,),
}
"""Operands that are parameters, by position."""


@rule("EDG414", "more than three extents above 1")
def rank(operator: FlatOperator) -> Judgement:
    """Tensors have up to three dimensions; further outer ones must be 1. A batch above 1 therefore stays on the CPU.

    Source: model requirements ("If a tensor has more than 3 dimensions, then only the 3 innermost dimensions may have a
    size greater than 1"); the compiler's log says "Tensor has unsupported rank" (issue 708).
    """
    for tensor in _computed(operator):
        if any(extent > 1 for extent in tensor.shape[:-3]):
            return unsupported(f"'{tensor.name}' has the shape {list(tensor.shape)}", "convert with batch 1")
    return OK


@rule("EDG425", "version of the operator that the compiler may not know")
def version(operator: FlatOperator) -> Judgement:
    """The last compiler is of July 2021. It does not read models with versions of operators that LiteRT got later
    ("Model could not be parsed"), or leaves them to the CPU ("Operation version not supported"). Version 3 of QUANTIZE
    is known to be too new. Compilers 14 and 15 leave version 3 of the resizes (half_pixel_centers) to the CPU as well,
    compiler 16 maps them.

    Source: issue 879 for QUANTIZE; issues 187, 396 and 420 for the resizes; the pair movenet_single_pose_lightning_ptq;
    kernels/register.cc of TensorFlow in 2022 for the others (everything above it is later than the compiler).
    """
    known = NEWEST.get(operator.code, 3)
    if operator.version <= known:
        return OK
    reason = f"version {operator.version} of {operator.code}; the compiler knows none above {known}"
    help = "make the .tflite with an older converter, or with edgec"
    return unsupported(reason, help) if operator.code in TOO_NEW else uncertain(reason, help)


TOO_NEW: Final = ("QUANTIZE",)
"""Operators for which it is known that the compiler does not read later versions."""

NEWEST: Final = {
    "ADD": 4,
    "CONV_2D": 6,
    "DEPTHWISE_CONV_2D": 6,
    "FULLY_CONNECTED": 9,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MINIMUM": 4,
    "MUL": 5,
    "PAD": 4,
    "QUANTIZE": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SLICE": 5,
    "SPLIT": 4,
    "STRIDED_SLICE": 6,
    "SUB": 5,
    "TRANSPOSE": 5,
}
"""Newest version of each operator that TensorFlow had in 2022, where it is above 3."""


@rule("EDG412", "resize factor", "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
def resize_factor(operator: FlatOperator) -> Judgement:
    """A resize by up to 2 maps to the Edge TPU, a bilinear one by 15 and more does not; between them nobody has
    published a case.

    Source: real pairs (1 and 2 mapped; 15.5 and 33 in deeplabv3 not); model requirements: "Depending on input/output
    size, this operation might not be mapped to the Edge TPU to avoid loss in precision".
    """
    source, result = _first(operator), operator.outputs[0]
    if source is None or len(source.shape) != 4 or len(result.shape) != 4 or 0 in source.shape:
        return unsupported("it does not resize a tensor [1, height, width, channels]")
    factor = max(result.shape[1] / source.shape[1], result.shape[2] / source.shape[2])
    help = "resize in two or more steps of at most 2"
    if factor <= 2:
        return OK
    if factor >= 15:
        return unsupported(f"resizes by {factor:.3g}", help)
    return uncertain(f"resizes by {factor:.3g}", help)


@rule("EDG415", "fused activation", "AVERAGE_POOL_2D MAX_POOL_2D CONCATENATION")
def fused_activation(operator: FlatOperator) -> Judgement:
    """Pooling and concatenation take no fused activation.

    Source: model requirements.
    """
    if operator.option("FusedActivationFunction"):
        return unsupported("has a fused activation", "write the activation as an operator of its own")
    return OK


@rule("EDG416", "dilation", "CONV_2D DEPTHWISE_CONV_2D")
def dilation(operator: FlatOperator) -> Judgement:
    """Convolutions are dilated by the same factor in height and width.

    Source: model requirements, the notes on Conv2d and DepthwiseConv2d.
    """
    height, width = operator.option("DilationHFactor", 1), operator.option("DilationWFactor", 1)
    return OK if height == width else unsupported(f"dilates by {height} in height and {width} in width")


@rule("EDG417", "batch or depth axis", "MEAN SUM REDUCE_MAX REDUCE_MIN SPLIT PACK")
def batch_axis(operator: FlatOperator) -> Judgement:
    """Reductions, splitting and packing leave the batch axis of [1, height, width, channels] alone (padding it makes a
    batch above 1, see EDG414); a mean over the channels wants their number to be a multiple of 4.

    Source: model requirements, the notes on these operators.
    """
    tensor = next((item for item in _computed(operator)), None)
    if tensor is None or not tensor.shape:
        return OK
    rank = len(tensor.shape)
    help = "keep the batch at 1 and out of the operator"
    if operator.code == "PACK":
        return unsupported("packs along the batch axis", help) if operator.option("Axis") == 0 and rank > 2 else OK
    values = _parameter(operator, 0 if operator.code == "SPLIT" else 1)
    if values is None:
        return OK
    axes = {int(axis) % rank for axis in values.reshape(-1)}
    if rank == 4 and 0 in axes:
        return unsupported("works along the batch axis", help)
    if operator.code == "MEAN" and rank - 1 in axes and tensor.shape[-1] % 4:
        return unsupported(f"averages over {tensor.shape[-1]} channels, which is no multiple of 4")
    return OK


@rule("EDG418", "vector operator on more than a vector", "SOFTMAX FULLY_CONNECTED")
def vector(operator: FlatOperator) -> Judgement:
    """Softmax takes one vector of up to 16000 elements, a fully connected layer gives one vector.

    Source: model requirements, the notes on Softmax and FullyConnected.
    """
    tensor = operator.outputs[0]
    if any(extent > 1 for extent in tensor.shape[:-1]):
        return unsupported(f"the result has the shape {list(tensor.shape)}, one vector is supported")
    if operator.code == "SOFTMAX" and tensor.size > 16000:
        return unsupported(f"softmax over {tensor.size} elements, up to 16000 are supported")
    return OK


@rule("EDG420", "stride or mask of a slice", "STRIDED_SLICE")
def strided_slice(operator: FlatOperator) -> Judgement:
    """A strided slice has strides of 1 and neither an ellipsis nor new axes.

    Source: model requirements, the note on StridedSlice.
    """
    strides = _parameter(operator, 3)
    if strides is not None and not np.all(strides == 1):
        return unsupported(f"strides {strides.reshape(-1).tolist()}", "slice with stride 1; stride in a convolution")
    if operator.option("EllipsisMask") or operator.option("NewAxisMask"):
        return unsupported("has an ellipsis or a new axis")
    return OK


@rule("EDG421", "transpose", "TRANSPOSE")
def transpose(operator: FlatOperator) -> Judgement:
    """Some transposes map (runtime 14), some do not; which, nobody has published.

    Source: model requirements list TRANSPOSE; issues 242, 342 and 433 show it on the CPU with compilers 14 to 16, the
    last as "otherwise supported, but not mapped due to some unspecified limitation".
    """
    return uncertain("some transposes map and some do not", "export the model channels-last, or convert it with edgec")


MEAN_PLANE_SEEN: Final = 64 * 64
MEAN_PLANE_REFUSED: Final = 256 * 128
RESHAPE_SEEN: Final = 1 << 22
LOGISTIC_SEEN: Final = 1 << 20


@rule("EDG422", "very large operand", "MEAN RESHAPE LOGISTIC")
def large_operand(operator: FlatOperator) -> Judgement:
    """A mean over a plane of 256 x 128 is refused, over some 4000 elements it is mapped; reshapes of many million
    elements, and the logistic function of more than a million, are sometimes refused.

    Source: model requirements, the note on Reshape; issues 490 and 512 for
    LOGISTIC and RESHAPE as "otherwise supported, but not mapped due to some unspecified limitation"; a published port
    that had to split the mean.
    """
    tensor = _first(operator)
    if tensor is None:
        return OK
    if operator.code == "MEAN":
        axes = _parameter(operator, 1)
        if axes is None or not tensor.shape:
            return OK
        plane = 1
        for axis in {int(axis) % len(tensor.shape) for axis in axes.reshape(-1)}:
            plane *= tensor.shape[axis]
        help = "average in two steps, or with AVERAGE_POOL_2D"
        if plane >= MEAN_PLANE_REFUSED:
            return unsupported(f"averages over {plane} elements", help)
        return uncertain(f"averages over {plane} elements", help) if plane > MEAN_PLANE_SEEN else OK
    limit = RESHAPE_SEEN if operator.code == "RESHAPE" else LOGISTIC_SEEN
    return uncertain(f"has {tensor.size} elements") if tensor.size > limit else OK


@rule("EDG423", "constant in a concatenation", "CONCATENATION")
def concatenated_constant(operator: FlatOperator) -> Judgement:
    """A constant can be concatenated if it is all zeros and there are two operands: then it is a padding.

    Source: model requirements.
    """
    constants = [tensor for tensor in operator.inputs if tensor is not None and tensor.constant]
    if not constants:
        return OK
    for tensor in constants:
        values = tensor.values()
        zero = tensor.zero_points[0] if tensor.zero_points else 0
        if len(operator.inputs) != 2 or values is None or not np.all(values == zero):
            return unsupported(f"concatenates the constant '{tensor.name}'", "concatenate on the host")
    return OK


@rule("EDG424", "form of the weights", "FULLY_CONNECTED PRELU")
def weights(operator: FlatOperator) -> Judgement:
    """Fully connected weights are in the default format, and the slopes of PRELU are one per channel.

    Source: model requirements, the notes on FullyConnected and PReLU.
    """
    if operator.code == "FULLY_CONNECTED":
        return unsupported("its weights are shuffled") if operator.option("WeightsFormat") else OK
    alpha = operator.inputs[1] if len(operator.inputs) > 1 else None
    if alpha is not None and any(extent > 1 for extent in alpha.shape[:-1]):
        return unsupported(f"the slopes have the shape {list(alpha.shape)}", "share them (Keras: shared_axes=[1, 2])")
    return OK


@rule("EDG426", "squeeze that moves data", "SQUEEZE")
def squeeze(operator: FlatOperator) -> Judgement:
    """A squeeze maps where only leading extents are 1, so that nothing moves.

    Source: model requirements, the note on Squeeze.
    """
    tensor = _first(operator)
    if tensor is None:
        return OK
    inner = tensor.shape[-3:]
    leading = 0
    while leading < len(inner) and inner[leading] == 1:
        leading += 1
    moved = [axis for axis in range(leading, len(inner)) if inner[axis] == 1]
    return unsupported(f"squeezes {list(tensor.shape)}", "use RESHAPE") if moved else OK


def _computed(operator: FlatOperator) -> list[FlatTensor]:
    """Operands and results that are no constants."""
    operands = [tensor for tensor in operator.inputs if tensor is not None and not tensor.constant]
    return [*operands, *operator.outputs]


def _first(operator: FlatOperator) -> FlatTensor | None:
    return operator.inputs[0] if operator.inputs else None


def _parameter(operator: FlatOperator, position: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """A constant operand, None where there is none."""
    tensor = operator.inputs[position] if position < len(operator.inputs) else None
    return None if tensor is None else tensor.values()


define(
    SINGLE_SUBGRAPH,
    target=TARGET,
    title="single-subgraph",
    documentation="""
    The compiler makes one Edge TPU subgraph. An operator that has an operator on the CPU before it, which itself has
    one on the Edge TPU before it, would need a second subgraph and stays on the CPU, however simple it is. Operators on
    the CPU at the very start (the QUANTIZE of a float input) strand nothing.

    Source: model requirements (the graph is partitioned once, at the first operation that is not supported); the
    compiler's log says "More than one subgraph is not supported". With this rule all 48 distinct real pairs come out
    right.
    """,
)
