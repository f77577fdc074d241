"""The rule on operands so large that the compiler was seen to give up on them."""

from __future__ import annotations

import math
from typing import Final

from edgec.targets.edgetpu.judging import first, new_book, parameter, proper
from edgec.targets.judging import OK, Judgement, uncertain, unsupported
from edgec.targets.tflite.graph import FlatOperator, FlatTensor

BOOK: Final = new_book()

MEAN_SEEN: Final = 64 * 128
MEAN_REFUSED: Final = 256 * 128
FLAT_SEEN: Final = 2034 * 91
"""Elements of the largest list of boxes that was seen on the Edge TPU: SSD MobileNet V2 at 320 x 320, 91 classes."""
PLANE_SEEN: Final = 1 << 22
"""Elements of a map [1, height, width, channels] up to which nothing points to a limit."""
LSTM_SEEN: Final = 900
"""Features of one step of an LSTM up to which the compiler was seen to succeed."""


@BOOK.rule(
    "EDG422",
    "very large operand",
    "MEAN RESHAPE CONCATENATION LOGISTIC TRANSPOSE_CONV LSTM UNIDIRECTIONAL_SEQUENCE_LSTM",
)
def large_operand(operator: FlatOperator) -> Judgement:
    """A mean over a plane of 256 x 128 is refused, over 64 x 128 it is mapped. Lists of boxes ([1, boxes,
    classes]) are reshaped, concatenated and put through the logistic function up to 185094 elements for certain;
    beyond, some are mapped and some refused. So are, above 4 million elements, the logistic function and transposed
    convolutions of maps. LSTMs of more than 900 features a step made the compiler fail.

    Source: model requirements, the note on Reshape ("Certain reshapes might not be mapped for large tensor sizes");
    issues 183 and 461 for MEAN (the latter splits the plane until it is mapped); logs of SSD MobileNet (mapped: 1917
    and 2034 boxes of 91 classes) against those of YOLOv5s at 224 x 224 (compiler 16 refuses the RESHAPE to 2352 boxes
    of 85 values and the last CONCATENATION of 3087) and issues 210, 490 and 512, all "otherwise supported, but not
    mapped due to some unspecified limitation"; issue 4719 of github.com/ultralytics/ultralytics for the logistic
    function of 3.3 million elements (mapped); issue 686 for a transposed convolution within a U-Net of 512 x 512; issue
    598 for LSTM.
    """
    tensor = first(operator)
    if tensor is None:
        return OK
    if operator.code == "MEAN":
        return _mean(operator, tensor)
    if operator.code in ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"):
        features = tensor.shape[-1] if tensor.shape else 0
        return uncertain(f"takes {features} features a step") if features > LSTM_SEEN else OK
    result = operator.outputs[0]
    if operator.code == "TRANSPOSE_CONV":
        return uncertain(f"computes {result.size} elements") if result.size > PLANE_SEEN else OK
    if operator.code == "RESHAPE":
        moved = proper(tensor) != proper(result)
        return uncertain(f"reshapes {tensor.size} elements") if moved and tensor.size > FLAT_SEEN else OK
    if len(proper(result)) > 2:
        large = operator.code == "LOGISTIC" and result.size > PLANE_SEEN
        return uncertain(f"has {result.size} elements") if large else OK
    return uncertain(f"has {result.size} elements in one list") if result.size > FLAT_SEEN else OK


def _mean(operator: FlatOperator, tensor: FlatTensor) -> Judgement:
    axes = parameter(operator, 1)
    if axes is None or not tensor.shape:
        return OK
    plane = math.prod(tensor.shape[axis] for axis in {int(axis) % len(tensor.shape) for axis in axes.reshape(-1)})
    help = "average in two steps, or with AVERAGE_POOL_2D"
    if plane >= MEAN_REFUSED:
        return unsupported(f"averages over {plane} elements", help)
    return uncertain(f"averages over {plane} elements", help) if plane > MEAN_SEEN else OK
