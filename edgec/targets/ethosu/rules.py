"""What keeps an operator off an Ethos-U: one fact, one small function, whose docstring is the documentation.

A rule sees one operator of an int8 LiteRT graph and whether the NPU is an Ethos-U85; U55 and U65 have the same
operators.  Vela decides operator by operator, so that no neighbours have to be looked at.  What Vela says after a run
is the truth; the rules are for before, and for machines without Vela.

Source of all rules: the report that ``vela --supported-ops-report`` writes (ethos-u-vela 5.2.0); the tests hold each of
them against what Vela does with a small graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from edgec.targets.ethosu import operators as table
from edgec.targets.judging import OK, Judgement, Rulebook, uncertain, unsupported
from edgec.targets.rules import define
from edgec.targets.tflite.graph import FlatOperator, FlatTensor

TARGET: Final = "ethosu"
COMPILED: Final = "EDG443"


RULES: Final[Rulebook[Callable[[FlatOperator, bool], Judgement]]] = Rulebook(TARGET)
"""In the order in which they are asked; the first that says unsupported decides, then the first uncertain one."""


@RULES.rule("EDG430", "operator that the NPU does not have")
def known_operator(operator: FlatOperator, u85: bool) -> Judgement:
    """Ethos-U55 and U65 have 55 operators of LiteRT, the U85 74; all others, and custom operators, run on the
    CPU.

    Source: the summary tables of Vela's report.
    """
    if operator.code in (table.U85 if u85 else table.U55):
        return OK
    return unsupported(f"the NPU has no {operator.title}", table.WAYS_OUT.get(operator.code, ""))


@RULES.rule("EDG431", "element type that the NPU does not compute")
def element_type(operator: FlatOperator, u85: bool) -> Judgement:
    """Feature maps are int8, uint8 or int16; on the U85, and with few operators on U55 and U65, int32 as well. Nothing
    is computed in float: a model with float inputs keeps its first QUANTIZE on the CPU.

    Source: Vela's report, "Feature-map dataTypes" and "32-bit feature-maps are not supported".
    """
    help = "quantize the model to int8: edgec convert MODEL --target ethosu --calibration DATA"
    for tensor in computed(operator):
        if tensor.dtype in ("float32", "float16", "float64"):
            where = "give the model int8 inputs and outputs" if operator.code in ("QUANTIZE", "DEQUANTIZE") else help
            return unsupported(f"'{tensor.name}' is {tensor.dtype}, the NPU computes integers", where)
        if tensor.dtype not in ("int8", "uint8", "int16", "int32", "int64", *(("bool", "resource") if u85 else ())):
            return unsupported(f"'{tensor.name}' is {tensor.dtype}")
        if not u85 and tensor.dtype == "int64" and operator.code != "ARG_MAX":
            return unsupported(f"'{tensor.name}' is int64")
        if not u85 and tensor.dtype == "int32" and operator.code not in (*table.WIDE, "ARG_MAX"):
            return unsupported(f"'{tensor.name}' is int32")
    only = table.TYPES.get(operator.code)
    source = first(operator)
    if only is not None and source is not None and source.dtype not in only:
        return unsupported(f"{operator.code} takes {' or '.join(only)}, '{source.name}' is {source.dtype}")
    return OK


@RULES.rule("EDG432", "extent that is not constant")
def constant_shapes(operator: FlatOperator, u85: bool) -> Judgement:
    """All extents are fixed when the model is compiled, except the first.

    Source: Vela's report, "Only the first dimension of tensors can be dynamic" and "Tensors must have constant shape".
    """
    for tensor in computed(operator):
        if -1 in tensor.shape[1:]:
            return unsupported(f"'{tensor.name}' has the shape {list(tensor.shape)}", "fix the shape")
    return OK


@RULES.rule("EDG433", "feature map without one scale")
def quantization(operator: FlatOperator, u85: bool) -> Judgement:
    """Feature maps have one positive scale for all their channels; operators that only move data may have none.

    Source: Vela's report, "tensors must have quantization parameters", "Quantization scale of any tensor must be
    positive" and "Per-axis quantization is not supported" with their exceptions.
    """
    for tensor in computed(operator):
        if tensor.dtype in ("bool", "resource", "int32", "int64"):
            continue  # indices and truth values have none
        if len(tensor.scales) > 1:
            return unsupported(f"'{tensor.name}' has {len(tensor.scales)} scales", "quantize it per tensor")
        if operator.code in table.UNSCALED or (u85 and operator.code in table.UNSCALED_U85):
            continue
        if not tensor.scales or not tensor.scales[0] > 0:
            return unsupported(f"'{tensor.name}' has no scale", "quantize it")
    return OK


@RULES.rule("EDG434", "parameter that is not constant")
def constant_parameters(operator: FlatOperator, u85: bool) -> Judgement:
    """Axes, paddings, permutations, begins and sizes are constants, and so are biases. Weights that are computed may
    work in a fully connected layer of int8.

    Source: Vela's report, "Parameter tensors must be constant" and "Bias tensors must be constant".
    """
    for position in table.PARAMETERS.get(operator.code, ()):
        tensor = operand(operator, position)
        if tensor is not None and not tensor.constant:
            return unsupported(f"operand {position}, '{tensor.name}', is computed at run time", "make it a constant")
    weights = operand(operator, table.WEIGHTS.get(operator.code, -1))
    if weights is not None and not weights.constant:
        return uncertain(f"its weights '{weights.name}' are computed at run time")
    return OK


@RULES.rule("EDG435", "type of weights or bias", "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV")
def weight_types(operator: FlatOperator, u85: bool) -> Judgement:
    """Weights have 8 bits, biases 32 or 64.

    Source: Vela's report, "Weight tensors must be 8-bit precision" and "Bias tensors precision must be Int32 or Int64".
    """
    weights = operand(operator, table.WEIGHTS[operator.code])
    if weights is not None and weights.dtype not in ("int8", "uint8"):
        return unsupported(f"its weights '{weights.name}' are {weights.dtype}", "quantize them to int8")
    bias = operand(operator, 3 if operator.code == "TRANSPOSE_CONV" else 2)
    if bias is not None and bias.dtype not in ("int32", "int64"):
        return unsupported(f"its bias '{bias.name}' is {bias.dtype}")
    return OK


@RULES.rule("EDG436", "stride or window", "CONV_2D DEPTHWISE_CONV_2D AVERAGE_POOL_2D MAX_POOL_2D")
def window(operator: FlatOperator, u85: bool) -> Judgement:
    """Windows of a pooling have up to 65536 elements and a height of up to 256, those of an average over padded borders
    up to 8 by 8. On U55 and U65 strides above 3 need borders that are not padded and no dilation; a depthwise
    convolution strides by up to 3.

    Source: Vela's report on these four operators; SAME padding that adds nothing counts as VALID, as Vela 5.2.0 does.
    """
    valid = operator.option("Padding") == VALID or not _padded(operator)
    if operator.code.endswith("POOL_2D"):
        height, width = operator.option("FilterHeight"), operator.option("FilterWidth")
        if operator.code == "AVERAGE_POOL_2D" and not valid and max(height, width) > 8:
            return unsupported(
                f"averages windows of {height} by {width} over padded borders, up to 8 by 8 are possible"
            )
        if height * width > 256 * 256 or height > 256:
            return unsupported(f"the window is {height} by {width}")
    stride = max(operator.option("StrideH"), operator.option("StrideW"))
    if u85 or stride <= 3:
        return OK
    dilated = max(operator.option("DilationHFactor", 1), operator.option("DilationWFactor", 1)) > 1
    if operator.code == "DEPTHWISE_CONV_2D" or dilated or not valid:
        return unsupported(f"strides by {stride}", "stride by up to 3")
    return OK


VALID: Final = 1


def _padded(operator: FlatOperator) -> bool:
    """Whether SAME padding adds a border: the windows reach over the image."""
    source, weights = first(operator), operand(operator, table.WEIGHTS.get(operator.code, -1))
    result = operator.outputs[0]
    if source is None or len(source.shape) != 4 or len(result.shape) != 4:
        return True
    for axis, side in ((1, "H"), (2, "W")):
        window = operator.option("FilterHeight" if axis == 1 else "FilterWidth")
        if weights is not None and len(weights.shape) == 4:
            window = (weights.shape[axis] - 1) * operator.option(f"Dilation{side}Factor", 1) + 1
        if (result.shape[axis] - 1) * operator.option(f"Stride{side}") + window > source.shape[axis]:
            return True
    return False


@RULES.rule("EDG437", "resize factor", "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
def resize_factor(operator: FlatOperator, u85: bool) -> Judgement:
    """On U55 and U65 height and width are enlarged by the same 2, 4 or 8, by 2 where pixels have half centers; a single
    pixel is enlarged to any size. On the U85 a bilinear factor is a power of two; up to 1024, with aligned corners up
    to 2048. With aligned corners the factor is that of the extents less one.

    Source: Vela's report on both operators.
    """
    source, result = first(operator), operator.outputs[0]
    if source is None or len(source.shape) != 4 or len(result.shape) != 4 or min(source.shape) < 1:
        return uncertain("it does not resize a tensor [batch, height, width, channels]")
    if source.shape[1:3] == (1, 1) or source.shape == result.shape:
        return OK
    aligned, centered = bool(operator.option("AlignCorners")), bool(operator.option("HalfPixelCenters"))
    factors = [_factor(result.shape[axis], source.shape[axis], aligned) for axis in (1, 2)]
    described = " by ".join(f"{factor:.4g}" for factor in factors)
    help = "resize in several steps of 2"
    if u85:
        if aligned and centered:
            return unsupported("has aligned corners and half pixel centers")
        bilinear = operator.code == "RESIZE_BILINEAR"
        if max(factors) > (2048 if aligned else 1024):
            return unsupported(f"resizes by {described}", help)
        if bilinear and any(factor < 1 or not math.log2(factor).is_integer() for factor in factors):
            return unsupported(f"resizes by {described}, no power of two", help)
        return OK if all(factor.is_integer() for factor in factors) else uncertain(f"resizes by {described}", help)
    if factors[0] != factors[1]:
        if 1 in result.shape[1:3]:
            return uncertain(f"resizes by {described}")
        return unsupported(f"resizes by {described}, which differ", help)
    allowed = (2,) if centered and operator.code == "RESIZE_BILINEAR" else (2, 4, 8)
    return OK if factors[0] in allowed else unsupported(f"resizes by {described}", help)


def _factor(after: int, before: int, aligned: bool) -> float:
    return (after - 1) / (before - 1) if aligned and before > 1 else after / before


@RULES.rule("EDG438", "reduced axis", "MEAN ARG_MAX")
def reduced_axis(operator: FlatOperator, u85: bool) -> Judgement:
    """A mean has batch 1, reduces extents up to 4096, and over channels only where height, width or channels are 1. On
    U55 and U65 an arg-max goes over up to 127 channels.

    Source: Vela's report on both operators; it says below 4096, Vela 5.2.0 takes 4096.
    """
    source, axes = first(operator), operand(operator, 1)
    values = None if axes is None else axes.values()
    if source is None or values is None or not source.shape:
        return OK
    rank, shape = len(source.shape), source.shape
    reduced = {int(axis) % rank for axis in values.reshape(-1)}
    if operator.code == "ARG_MAX":
        if u85:
            return OK
        if reduced != {rank - 1}:
            return unsupported("works along another axis than the last", "move the axis to the end")
        return unsupported(f"works along {shape[-1]} channels, up to 127 are possible") if shape[-1] > 127 else OK
    if rank == 4 and shape[0] != 1:
        return unsupported(f"the batch is {shape[0]}", "convert with batch 1")
    if any(shape[axis] > 4096 for axis in reduced):
        return unsupported(f"averages over {max(shape[axis] for axis in reduced)} elements of one axis")
    if rank - 1 in reduced and rank >= 3 and 1 not in shape[-3:]:
        return unsupported("averages over channels of an image", "transpose it, or use a convolution")
    return OK


@RULES.rule("EDG439", "scales that differ", "MAXIMUM MINIMUM")
def equal_scales(operator: FlatOperator, u85: bool) -> Judgement:
    """Both operands of a maximum or minimum have the scale and zero point of the result.

    Source: Vela's report on both operators.
    """
    found = {
        (tensor.scales, tensor.zero_points) for tensor in (*operator.inputs, *operator.outputs) if tensor is not None
    }
    return OK if len(found) == 1 else unsupported("operands and result have different scales")


@RULES.rule("EDG440", "stride of a transposed convolution", "TRANSPOSE_CONV")
def transposed_stride(operator: FlatOperator, u85: bool) -> Judgement:
    """On U55 and U65 a transposed convolution strides by 1 or 2, the same in height and width (one of them may be 1
    where image and kernel have that extent 1).

    Source: Vela's report on TRANSPOSE_CONV.
    """
    height, width = operator.option("StrideH"), operator.option("StrideW")
    if u85 or (height, width) in ((1, 1), (2, 2)):
        return OK
    if max(height, width) > 2:
        return unsupported(f"strides by {height} and {width}", "stride by 2, in several steps")
    return uncertain(f"strides by {height} and {width}")


@RULES.rule("EDG441", "softmax over a large plane", "SOFTMAX")
def softmax_plane(operator: FlatOperator, u85: bool) -> Judgement:
    """Height times width of what goes into a softmax is up to 65536.

    Source: Vela's report on SOFTMAX; it says below 65536, Vela 5.2.0 takes 65536.
    """
    source = first(operator)
    plane = 1 if source is None else math.prod(source.shape[-3:-1])
    return unsupported(f"the plane has {plane} elements") if plane > 65536 else OK


@RULES.rule("EDG442", "form that only Vela can judge", " ".join(table.JUDGED_BY_VELA))
def only_vela(operator: FlatOperator, u85: bool) -> Judgement:
    """Slices with strides, transposes of large tensors on U55 and U65, reversals, gathers and scatters, variables, and
    recurrent layers with peepholes, projection, normalised or coupled gates have conditions that edgec does not
    evaluate: a run of Vela says.

    Source: Vela's report on these operators.
    """
    match operator.code:
        case "STRIDED_SLICE":
            strides = operand(operator, 3)
            values = None if strides is None else strides.values()
            plain = values is not None and bool((values == 1).all())
            if plain and not operator.option("EllipsisMask") and not operator.option("NewAxisMask"):
                return OK
        case "TRANSPOSE":
            if u85 or max((tensor.size for tensor in operator.outputs), default=0) <= 65536:
                return OK
        case "UNIDIRECTIONAL_SEQUENCE_LSTM":
            unusual = (*range(9, 12), 16, 17, *range(20, 24))
            if operand(operator, 1) is not None and all(operand(operator, item) is None for item in unusual):
                return OK
        case "REVERSE_V2":
            if u85:
                return OK
    return uncertain(f"whether the NPU takes this {operator.code} is known after a run of Vela")


def computed(operator: FlatOperator) -> list[FlatTensor]:
    """Feature maps: results, and the operands that are neither constants nor parameters."""
    parameters = table.PARAMETERS.get(operator.code, ())
    operands = [
        tensor
        for position, tensor in enumerate(operator.inputs)
        if tensor is not None and not tensor.constant and position not in parameters
    ]
    return [*operands, *operator.outputs]


def first(operator: FlatOperator) -> FlatTensor | None:
    """The image of a transposed convolution is its third operand; of all others the first."""
    return operand(operator, 2 if operator.code == "TRANSPOSE_CONV" else 0)


def operand(operator: FlatOperator, position: int) -> FlatTensor | None:
    """An operand by position, None where it is left out."""
    return operator.inputs[position] if 0 <= position < len(operator.inputs) else None


define(
    COMPILED,
    target=TARGET,
    title="model that is compiled already",
    documentation="""
    The .tflite file came out of Vela. To compile it again, for another NPU or memory, the int8 .tflite that it was made
    from is needed.

    Source: the custom operator ethos-u, which only Vela writes.
    """,
)
