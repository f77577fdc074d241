"""What quantizing a graph is told: the ranges of its values, and the rules of the target it is meant for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log2

import numpy as np

from edgec.ir.types import Array, DataType


@dataclass(frozen=True)
class Range:
    """The real numbers that a value takes, after an observer has decided what to keep of its tails."""

    low: float
    high: float

    def united(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Affine:
    """Numbers that stand for a model's floats: ``real = scale (integer - zero_point)``, or rounded as FLOAT16."""

    dtype: DataType
    scale: float
    zero_point: int

    @property
    def meaning(self) -> str:
        """How integers stand for real numbers, as a formula; empty for FLOAT16."""
        if self.dtype.is_float:
            return ""
        sign = "-" if self.zero_point > 0 else "+"
        shifted = f"(integer {sign} {abs(self.zero_point)})" if self.zero_point else "integer"
        return f"real = {self.scale:.6g} * {shifted}"

    def quantized(self, array: Array) -> Array:
        """The nearest integers, ties to even, limited to the type's range; of FLOAT16 the nearest numbers."""
        if self.dtype.is_float:
            narrow: Array = array.astype(self.dtype.numpy)
            return narrow
        limits = np.iinfo(self.dtype.numpy)
        whole = np.round(array.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        integers: Array = np.clip(whole, limits.min, limits.max).astype(self.dtype.numpy)
        return integers

    def real(self, array: Array) -> Array:
        """The float32 numbers that they stand for."""
        if self.dtype.is_float:
            wide: Array = array.astype(np.float32)
            return wide
        numbers: Array = (array.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        return numbers


HALF = Affine(DataType.FLOAT16, 1.0, 0)
"""How float16 inputs and outputs stand for float32 ones."""


@dataclass(frozen=True)
class Fixed:
    """A scale and zero point that an operator's kernel prescribes for its result."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantizationRules:
    """How a target wants its graphs quantized.

    Attributes:
        activation: element type of values computed at run time: INT8, UINT8 or INT16.
        symmetric: whether zero points of activations must be 0.
        quantizable: operators that run on integers.
        same: operators whose operands and result share one scale and zero point.
        fixed: operators whose result has a prescribed scale and zero point.
        fused: activations that their producer applies itself, so that nothing is quantized between the two.
        fuses: producers that can do so.
        per_channel: operators whose weights have one scale per result channel; other weights have one scale.
        slow: operators whose integer kernels take longer than the float ones.
        expanded: activations without an integer form that are first written as operators which have one.
    """

    activation: DataType
    symmetric: bool
    quantizable: frozenset[str]
    same: frozenset[str]
    fixed: Mapping[str, Fixed] = field(default_factory=dict)
    fused: frozenset[str] = frozenset({"Relu", "Clip"})
    fuses: frozenset[str] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"})
    per_channel: frozenset[str] = frozenset({"Conv", "ConvTranspose"})
    slow: frozenset[str] = frozenset()
    expanded: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer of an activation."""
        return limits_of(self.activation)


def limits_of(dtype: DataType) -> tuple[int, int]:
    """Smallest and largest number of an integer type."""
    found = np.iinfo(dtype.numpy)
    return int(found.min), int(found.max)


def affine(found: Range, dtype: DataType, symmetric: bool) -> tuple[float, int]:
    """Scale and zero point that cover a range and represent zero exactly.

    Asymmetric: ``scale = (high - low) / (2^b - 1)``; symmetric: ``scale = max(|low|, |high|) / (2^(b-1) - 1)``.  A
    range so narrow that its scale would not be a normal float32 gets scale 1.

    A scale of 16 bits that LiteRT would take for a power of two is made a little larger: where all three scales of an
    addition or subtraction are powers of two, its kernel only takes operands of which one has the scale of the result.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    2017, section 3; LiteRT 8-bit quantization specification; LiteRT kernels add.cc and sub.cc, ``CheckedLog2``.
    """
    least, most = limits_of(dtype)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    span, steps = (max(-low, high), most) if symmetric else (high - low, most - least)
    scale = float(np.float32(span / steps))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0
    if symmetric:
        return (_no_power_of_two(scale) if dtype is DataType.INT16 else scale), 0
    zero = round(least - low / scale)
    return scale, int(min(max(zero, least), most))


def _no_power_of_two(scale: float) -> float:
    """The scale, or the next one above it whose logarithm is not within a thousandth of a whole number."""
    power = log2(scale)
    return float(np.float32(2.0 ** (round(power) + 2e-3))) if abs(power - round(power)) < 1.1e-3 else scale
