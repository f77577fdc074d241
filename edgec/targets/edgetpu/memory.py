"""How many parameter bytes the compiler will keep in the Edge TPU's memory, and how many it will stream: as ranges.

The 8 MB of on-chip memory hold parameters and what the model needs at run time.  Logs of compilers 2.0 to 16 show 6.08
to 7.84 MiB for parameters, and parameters grow by padding when they are laid out: by 4 to 35 % in models above 0.5 MB,
and by some ten kilobytes in tiny ones.

Source: real pairs of github.com/google-coral/test_data (parameters of the compiled packages against the constants of
the mapped operators) and published compiler logs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from edgec.targets.tflite.graph import FlatGraph

SMALLEST_CACHE: Final = int(6.0 * 2**20)
LARGEST_CACHE: Final = int(7.84 * 2**20)
LARGEST_GROWTH: Final = 1.35
LARGEST_FIXED: Final = 40 << 10
LARGEST_UNCACHED: Final = 4 << 10
"""Bytes that small models were seen to stream although the memory has room."""
INFLATING: Final = 512 << 10
"""Operand elements from which a fully connected layer's parameters were seen to grow many times."""


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
        cached: what will be kept on chip; loaded once.
        streamed: what will come over the bus in every inference.
        inflating: positions of fully connected layers whose parameters may grow far beyond the ranges.
    """

    constants: int
    cached: Range
    streamed: Range
    inflating: tuple[int, ...] = ()


def estimate(graph: FlatGraph, mapped: Collection[int]) -> ParameterMemory:
    """The ranges for the operators on the Edge TPU.

    Args:
        mapped: positions of those operators.
    """
    constants = {
        tensor.index: tensor.nbytes
        for position in mapped
        for tensor in graph.operators[position].inputs
        if tensor is not None and tensor.constant
    }
    total = sum(constants.values())
    inflating = tuple(position for position in mapped if _inflates(graph, position))
    if not mapped:
        return ParameterMemory(0, Range(0, 0), Range(0, 0))
    low, high = total, int(total * LARGEST_GROWTH) + LARGEST_FIXED
    cached = Range(min(low, SMALLEST_CACHE), min(high, LARGEST_CACHE))
    streamed = Range(max(0, low - LARGEST_CACHE), max(0, high - SMALLEST_CACHE) + LARGEST_UNCACHED)
    return ParameterMemory(total, cached, streamed, inflating)


def _inflates(graph: FlatGraph, position: int) -> bool:
    """A public report: a layer on 788 KiB of activations came out with 23.4 MiB of streamed parameters."""
    operator = graph.operators[position]
    source = operator.inputs[0] if operator.inputs else None
    return operator.code == "FULLY_CONNECTED" and source is not None and source.size >= INFLATING
