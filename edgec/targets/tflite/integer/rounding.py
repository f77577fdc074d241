"""How ONNX Runtime's integer kernels for 8 bits round, and what LiteRT makes of the same integers.

Between DequantizeLinear and QuantizeLinear ONNX means real arithmetic, rounded once.  Nobody computes that: sums in
float32 decide by their last bit what is within 1e-6 of a tie, and where scales are in simple proportions whole images
lie on ties, one in twenty results of some additions of a constant.  Deep networks make tens of steps of that one.  So
ties are decided as ONNX Runtime's integer kernels for x86-64 decide them, which models are tested with before they get
here.  Everything below is integers in, integers out, so that kernels can be compared on all that they may be given.

Sources: ONNX Runtime 1.31, ``qladd_avx2.cpp``, ``qlmul.cpp``, ``qlgavgpool.cpp``; XNNPACK's ``f32-qs8-vcvt`` and
``qs8-rdsum``.  The formulas were found to give all integers of both (tests/targets/tflite/test_rounding.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgec.ir.types import Array
from edgec.targets.tflite.integer.storage import Quantization

NUDGES: Final = sorted(range(-64, 65), key=lambda units: (abs(units), units))
"""Units in the last place that a constant may be moved by, nearest first."""


def fused(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded to float32 once: products of two float32 are whole in float64."""
    return np.asarray(np.asarray(x, np.float64) * np.asarray(y, np.float64) + z, np.float32)


def all_integers(held: Quantization) -> Array:
    """Every integer that a tensor can hold, int64."""
    low, high = held.range
    return np.arange(low, high + 1)


def real(integers: Array, held: Quantization) -> Array:
    """What LiteRT's DEQUANTIZE makes of integers, float32."""
    offsets = (np.asarray(integers, np.int64) - held.zero_point[0]).astype(np.float32)
    return np.asarray(offsets * np.float32(held.scale[0]), np.float32)


def whole(numbers: Array, held: Quantization) -> Array:
    """What XNNPACK's QUANTIZE makes of float32: a product by the reciprocal of the scale, rounded half to even."""
    inverse = np.float32(1) / np.float32(held.scale[0])
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(numbers, np.float32) * inverse)
    return _limited(np.clip(steps, -1e6, 1e6).astype(np.int64) + held.zero_point[0], held)


def _limited(integers: Array, held: Quantization) -> Array:
    low, high = held.range
    return np.clip(integers, low, high)


@dataclass(frozen=True)
class Addition:
    """QLinearAdd on x86-64: zero points and scales make one constant, both terms are added by fused multiply-add.

    Attributes:
        first, second, result: how operands and result are held here.
        shift: what was subtracted from the model's own integers to hold them so: 128 for uint8 held as int8, else 0.
        scalar: which operand is one number for all elements; None where neither is.
    """

    first: Quantization
    second: Quantization
    result: Quantization
    shift: int = 0
    scalar: int | None = None

    def __call__(self, first: Array, second: Array) -> Array:
        """The kernel's results for integers that broadcast."""
        terms = [np.asarray(item, np.float32) + np.float32(self.shift) for item in (first, second)]
        inner, ratios = 0 if self.scalar == 0 else 1, self.ratios
        total = fused(terms[1 - inner], ratios[1 - inner], fused(terms[inner], ratios[inner], self.constant))
        return _limited(np.rint(total).astype(np.int64) - self.shift, self.result)

    @property
    def ratios(self) -> tuple[Any, Any]:
        """The scales of the operands over that of the result, float32."""
        scale = np.float32(self.result.scale[0])
        return np.float32(self.first.scale[0]) / scale, np.float32(self.second.scale[0]) / scale

    @property
    def constant(self) -> Any:
        """What does not depend on the operands, float32."""
        zeros = [np.float32(held.zero_point[0] + self.shift) for held in (self.first, self.second, self.result)]
        return zeros[2] - fused(self.ratios[0], zeros[0], self.ratios[1] * zeros[1])


@dataclass(frozen=True)
class Nudged:
    """What is added for one integer of a constant.

    Attributes:
        addend: the float32 number with which most sums round as the kernel's.
        wrong: how many of the 256 sums do not.
        wrong_otherwise: how many do not by :class:`IntegerSum`.
    """

    addend: Any
    wrong: int
    wrong_otherwise: int


def nudged(kernel: Addition, position: int, integer: int) -> Nudged:
    """For one integer of the constant operand ``position``: the constant, moved so that DEQUANTIZE, ADD, QUANTIZE
    round as the kernel."""
    held, other = (kernel.second, kernel.first) if position else (kernel.first, kernel.second)
    others, alone = all_integers(other), np.array(integer)
    pair = (others, alone) if position else (alone, others)
    expected, terms, plain = kernel(*pair), real(others, other), real(alone, held)
    unit = np.spacing(np.maximum(np.abs(plain), np.float32(held.scale[0])))
    tried = [np.float32(plain + np.float32(units) * unit) for units in NUDGES]
    wrong = [int((whole(terms + item, kernel.result) != expected).sum()) for item in tried]
    best = int(np.argmin(wrong))
    otherwise = int((IntegerSum.of(kernel)(*pair) != expected).sum())
    return Nudged(tried[best], wrong[best], otherwise)


@dataclass(frozen=True)
class RealSum:
    """DEQUANTIZE twice, ADD, QUANTIZE; a number that tips what lies next to a tie may be added to the first operand.

    Attributes:
        tip: that number, float32; 0 for none.
        kernel: the addition that this stands for.
    """

    tip: Any
    kernel: Addition

    def __call__(self, first: Array, second: Array) -> Array:
        """The results for integers that broadcast."""
        x, y = real(first, self.kernel.first), real(second, self.kernel.second)
        return whole((x + self.tip) + y, self.kernel.result)


@dataclass(frozen=True)
class IntegerSum:
    """CAST twice, SUB where there is an offset, MUL twice, ADD twice, ROUND; then SUB, MUL and QUANTIZE to the result's
    scale and zero point.

    Attributes:
        first, second: what the integers of the operands are multiplied by, float32.
        fixed: what is added to one product before the products are added, or to their sum, float32.
        inner: which product that is; 2 for the sum.
        offset: what is subtracted from the first operand's integers: the same sum, with other last bits.
        result: how the result is held.
    """

    first: Any
    second: Any
    fixed: Any
    inner: int
    offset: int
    result: Quantization

    @classmethod
    def of(cls, kernel: Addition, inner: int = 1, units: int = 0, offset: int = 0) -> IntegerSum:
        """The sum with the kernel's numbers, the constant moved by units in its last place."""
        first, second = kernel.ratios
        fixed = kernel.constant
        if kernel.shift:  # the kernel's integers are larger by this, its result too
            fixed = fused(kernel.shift, np.float64(first) + np.float64(second) - 1, np.float64(fixed))
        fixed = fused(offset, first, np.float64(fixed))
        unit = np.spacing(np.maximum(np.abs(fixed), np.float32(1)))
        return cls(first, second, np.float32(fixed + np.float32(units) * unit), inner, offset, kernel.result)

    def __call__(self, first: Array, second: Array) -> Array:
        """The results for integers that broadcast."""
        integers = np.asarray(first, np.float32) - np.float32(self.offset)
        terms = [integers * self.first, np.asarray(second, np.float32) * self.second]
        if self.inner == 2:
            return settled((terms[0] + terms[1]) + self.fixed, self.result)
        return settled(terms[1 - self.inner] + (terms[self.inner] + self.fixed), self.result)


def settled(total: Array, held: Quantization) -> Array:
    """ROUND, SUB, MUL and QUANTIZE: steps with the zero point in them, rounded half to even."""
    return whole((np.rint(total) - np.float32(held.zero_point[0])) * np.float32(held.scale[0]), held)


def best_sum(kernel: Addition) -> RealSum | IntegerSum:
    """The sum of two computed operands that rounds as the kernel for most of the 65536 pairs; the fastest of equals."""
    first, second = all_integers(kernel.first)[:, None], all_integers(kernel.second)[None]
    expected = kernel(first, second)
    unit = np.spacing(np.abs(real(all_integers(kernel.first), kernel.first)).max())
    found: RealSum | IntegerSum | None = None
    fewest = expected.size + 1
    ways: list[RealSum | IntegerSum] = [RealSum(np.float32(units) * unit, kernel) for units in NUDGES[:17]]
    offsets = (0, kernel.first.zero_point[0], 32, 64, 128, 192)
    ways += [
        IntegerSum.of(kernel, inner, units, offset) for offset in offsets for units in NUDGES[:9] for inner in (1, 0, 2)
    ]
    for way in ways:
        wrong = int((way(first, second) != expected).sum())
        if wrong < fewest:
            found, fewest = way, wrong
        if not fewest:
            break
    assert found is not None
    return found


@dataclass(frozen=True)
class Product:
    """QLinearMul: the product of integers times one float32, and the zero point added before rounding.

    Attributes:
        first, second, result: how operands and result are held here.
        shift: as in :class:`Addition`.
    """

    first: Quantization
    second: Quantization
    result: Quantization
    shift: int = 0

    @property
    def factor(self) -> Any:
        """float32."""
        product = np.float32(self.first.scale[0]) * np.float32(self.second.scale[0])
        return product / np.float32(self.result.scale[0])

    def __call__(self) -> Array:
        """The kernel's results for all pairs of integers, [first, second]."""
        zero = np.float32(self.result.zero_point[0] + self.shift)
        return _limited(np.rint(self._scaled() + zero).astype(np.int64) - self.shift, self.result)

    def agrees(self) -> bool:
        """Whether XNNPACK's MUL, which adds the zero point after rounding, gives the kernel's results for all pairs."""
        found = np.rint(self._scaled()).astype(np.int64) + self.result.zero_point[0]
        return bool((_limited(found, self.result) == self()).all())

    def _scaled(self) -> Array:
        first, second = (all_integers(held) - held.zero_point[0] for held in (self.first, self.second))
        return np.asarray((first[:, None] * second[None]).astype(np.float32) * self.factor, np.float32)


def divides_otherwise(given: Quantization, wanted: Quantization) -> bool:
    """Whether QUANTIZE, by the reciprocal of its scale, makes other integers of some of the given than division."""
    numbers = real(all_integers(given), given)
    steps = np.rint(numbers / np.float32(wanted.scale[0])).astype(np.int64) + wanted.zero_point[0]
    return bool((_limited(steps, wanted) != whole(numbers, wanted)).any())


@dataclass(frozen=True)
class Average:
    """QLinearGlobalAveragePool: the sum of integers less their zero points, times one float32.

    Attributes:
        operand, result: how they are held.
        count: how many elements are averaged.
    """

    operand: Quantization
    result: Quantization
    count: int

    @property
    def factor(self) -> Any:
        """float32."""
        return np.float32(self.operand.scale[0]) / (np.float32(self.result.scale[0]) * np.float32(self.count))

    def __call__(self, sums: Array) -> Array:
        """The kernel's results for sums of the integers as they are held."""
        offsets = (np.asarray(sums, np.int64) - self.operand.zero_point[0] * self.count).astype(np.float32)
        return _limited(np.rint(offsets * self.factor).astype(np.int64) + self.result.zero_point[0], self.result)

    def mean(self, sums: Array) -> Array:
        """What XNNPACK's MEAN makes of them: it adds the zero points to the product before it rounds."""
        scale = np.float32(self.operand.scale[0]) / np.float32(self.result.scale[0])
        factor = scale * (np.float32(1) / np.float32(self.count))
        offset = np.float32(self.result.zero_point[0])
        offset -= np.float32(self.operand.zero_point[0] * self.count) * factor
        total = np.asarray(sums, np.float32) * factor + offset
        return _limited(np.rint(total).astype(np.int64), self.result)

    def agrees(self) -> bool:
        """Whether MEAN gives the kernel's result for every sum: the two can differ around each half step only."""
        low, high = self.operand.range
        halves = np.arange(self.result.range[0] - 1, self.result.range[1] + 1) + 0.5 - self.result.zero_point[0]
        centres = np.rint(halves / np.float64(self.factor)) + self.operand.zero_point[0] * self.count
        sums = (centres[:, None] + np.arange(-2, 3)).reshape(-1)
        sums = sums[(sums >= low * self.count) & (sums <= high * self.count)].astype(np.int64)
        return bool((self(sums) == self.mean(sums)).all())
