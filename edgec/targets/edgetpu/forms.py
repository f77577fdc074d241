"""Rules on the form of single operators: factors, axes, strides, activations, constants."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.targets.edgetpu.judging import computed, first, new_book, parameter
from edgec.targets.judging import OK, Judgement, uncertain, unsupported
from edgec.targets.tflite.graph import FlatOperator

BOOK: Final = new_book()

LARGEST_SOFTMAX: Final = 16000
PLAIN_RESIZE: Final = 2
"""Factor up to which resizes were seen on the Edge TPU."""
REFUSED_RESIZE: Final = 15
"""Factor from which bilinear resizes were seen on the CPU."""


@BOOK.rule("EDG412", "resize factor", "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
def resize_factor(operator: FlatOperator) -> Judgement:
    """A resize by 1 to 2 maps to the Edge TPU, a bilinear one by 15 and more does not; between them, for smaller
    results, and for larger nearest resizes, nobody has published a case.

    Source: real pairs (1 and 2 mapped; 15.5 and 33 in deeplabv3 not); logs of compiler 16 for nearest by 1.7 to 2
    (EfficientDet-Lite, YOLO); model requirements: "Depending on input/output size, this operation might not be mapped
    to the Edge TPU to avoid loss in precision". Compiler 2.0 refused bilinear by 2 to 512 x 512 as not precise enough
    and mapped it to 128 x 128; since 2.1 the former is mapped too (issues 31 and 63).
    """
    source, result = first(operator), operator.outputs[0]
    if source is None or len(source.shape) != 4 or len(result.shape) != 4 or 0 in source.shape:
        return unsupported("it does not resize a tensor [1, height, width, channels]")
    factors = result.shape[1] / source.shape[1], result.shape[2] / source.shape[2]
    help = "resize in two or more steps of at most 2"
    if min(factors) >= 1 and max(factors) <= PLAIN_RESIZE:
        return OK
    reason = f"resizes by {max(factors):.3g}" if min(factors) >= 1 else f"shrinks to {min(factors):.3g}"
    if operator.code == "RESIZE_BILINEAR" and max(factors) >= REFUSED_RESIZE:
        return unsupported(reason, help)
    return uncertain(reason, help if min(factors) >= 1 else "shrink with AVERAGE_POOL_2D")


@BOOK.rule("EDG415", "fused activation", "AVERAGE_POOL_2D MAX_POOL_2D CONCATENATION")
def fused_activation(operator: FlatOperator) -> Judgement:
    """Pooling and concatenation take no fused activation.

    Source: model requirements.
    """
    if operator.option("FusedActivationFunction"):
        return unsupported("has a fused activation", "write the activation as an operator of its own")
    return OK


@BOOK.rule("EDG416", "dilation", "CONV_2D DEPTHWISE_CONV_2D")
def dilation(operator: FlatOperator) -> Judgement:
    """Convolutions are dilated by the same factor in height and width.

    Source: model requirements, the notes on Conv2d and DepthwiseConv2d.
    """
    height, width = operator.option("DilationHFactor", 1), operator.option("DilationWFactor", 1)
    return OK if height == width else unsupported(f"dilates by {height} in height and {width} in width")


@BOOK.rule("EDG417", "batch or depth axis", "MEAN SUM REDUCE_MAX REDUCE_MIN SPLIT PACK")
def batch_axis(operator: FlatOperator) -> Judgement:
    """Reductions, splitting and packing leave the batch axis of [1, height, width, channels] alone (padding it makes a
    batch above 1, see EDG414); a mean over the channels wants their number to be a multiple of 4.

    Source: model requirements, the notes on these operators.
    """
    tensor = next((item for item in computed(operator)), None)
    if tensor is None or not tensor.shape:
        return OK
    rank = len(tensor.shape)
    help = "keep the batch at 1 and out of the operator"
    if operator.code == "PACK":
        return unsupported("packs along the batch axis", help) if operator.option("Axis") == 0 and rank > 2 else OK
    values = parameter(operator, 0 if operator.code == "SPLIT" else 1)
    if values is None:
        return OK
    axes = {int(axis) % rank for axis in values.reshape(-1)}
    if rank == 4 and 0 in axes:
        return unsupported("works along the batch axis", help)
    if operator.code == "MEAN" and rank - 1 in axes and tensor.shape[-1] % 4:
        return unsupported(f"averages over {tensor.shape[-1]} channels, which is no multiple of 4")
    return OK


@BOOK.rule("EDG418", "vector operator on more than a vector", "SOFTMAX FULLY_CONNECTED")
def vector(operator: FlatOperator) -> Judgement:
    """Softmax takes one vector of up to 16000 elements, a fully connected layer gives one vector. Of several vectors at
    once compiler 2.0 refuses both; compiler 16 seems to map some.

    Source: model requirements, the notes on Softmax and FullyConnected; issue 27 ("a fully-connected or softmax layer
    with 2D output" is the status in the log of compiler 2.0); a log of compiler 16 of a YOLOv9 whose three SOFTMAX,
    over the bins of every box, and three FULLY_CONNECTED are all mapped.
    """
    tensor = operator.outputs[0]
    if any(extent > 1 for extent in tensor.shape[:-1]):
        return uncertain(f"the result has the shape {list(tensor.shape)}, one vector is supported for certain")
    if operator.code == "SOFTMAX" and tensor.size > LARGEST_SOFTMAX:
        return unsupported(f"softmax over {tensor.size} elements, up to {LARGEST_SOFTMAX} are supported")
    return OK


@BOOK.rule("EDG420", "stride or mask of a slice", "STRIDED_SLICE")
def strided_slice(operator: FlatOperator) -> Judgement:
    """A strided slice has strides of 1 and neither an ellipsis nor new axes. Compilers 14 and 15 refuse other strides,
    compiler 16 maps them in height and width, not along the channels.

    Source: model requirements, the note on StridedSlice; a log of compiler 15 with the status "Only Strided-Slice with
    unitary strides supported" and one of compiler 16 of the same model (YOLOv5s, whose first layer takes every second
    pixel) that maps all; issue 828 for a stride along the innermost axis, at which compiler 16 fails.
    """
    if operator.option("EllipsisMask") or operator.option("NewAxisMask"):
        return unsupported("has an ellipsis or a new axis")
    strides = parameter(operator, 3)
    if strides is None or np.all(strides == 1):
        return OK
    reason, help = f"strides {strides.reshape(-1).tolist()}", "slice with stride 1; stride in a convolution"
    return unsupported(reason, help) if strides.reshape(-1)[-1] != 1 else uncertain(reason, help)


@BOOK.rule("EDG421", "transpose", "TRANSPOSE")
def transpose(operator: FlatOperator) -> Judgement:
    """Some transposes map (compiler 16, runtime 14), some do not; which, nobody has published. Compilers 14 and 15 map
    none.

    Source: model requirements list TRANSPOSE; logs of compilers 14 and 15 say "Operation not supported" (issues 242 and
    342); logs of compiler 16 map 2 of 3 (YOLOv5s at 224 x 224: [1, 196, 3, 85] and [1, 49, 3, 85], not
    [1, 784, 3, 85]) and 14 of 17 (YOLOv9), and leave the others as "otherwise supported, but not mapped due to some
    unspecified limitation" (issue 433).
    """
    return uncertain("some transposes map and some do not", "export the model channels-last, or convert it with edgec")


@BOOK.rule("EDG423", "constant in a concatenation", "CONCATENATION")
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


@BOOK.rule("EDG424", "form of the weights", "FULLY_CONNECTED PRELU")
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


@BOOK.rule("EDG426", "squeeze that moves data", "SQUEEZE")
def squeeze(operator: FlatOperator) -> Judgement:
    """A squeeze maps where only leading extents are 1, so that nothing moves. Of others the documentation says that
    they are not supported, and a log that one seems to be.

    Source: model requirements, the note on Squeeze ([y][x][z] = 1,1,10 and 1,5,10 are supported, 5,1,10 is not); a log
    of compiler 14 of a detector of TensorFlow 2, which squeezes its boxes [1, 1917, 1, 4], with nothing but DEQUANTIZE
    and the custom operator on the CPU (github.com/tensorflow/models issue 9033).
    """
    tensor = first(operator)
    if tensor is None:
        return OK
    inner = tensor.shape[-3:]
    leading = 0
    while leading < len(inner) and inner[leading] == 1:
        leading += 1
    moved = [axis for axis in range(leading, len(inner)) if inner[axis] == 1]
    return uncertain(f"squeezes {list(tensor.shape)}", "use RESHAPE") if moved else OK
