"""How far one array is from another, accumulated over samples.

Definitions, with ``r`` the reference and ``d`` the difference, all samples taken together: relative L2 is
``||d|| / ||r||``, SQNR is ``10 log10(sum r^2 / sum d^2)``, the maximal relative error is taken over elements of at
least a millionth of the largest of their sample.  Elements that are not finite take no part in the sums; they must be
the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgec.ir.types import Array

SMALL = 1 << 20
"""Arrays up to this many elements are compared in float64, larger ones in float32 with float64 sums."""


@dataclass
class Difference:
    """What is known about one output after any number of samples.

    Attributes:
        samples: how many pairs were compared.
        equal: elements that are bit for bit the same number (NaN equals NaN), of ``elements``.
        infinities: elements where one side is infinite or NaN and the other is something else.
        argmax_equal: positions of ``argmax_total`` whose largest class is the same one.
        channel_error, channel_reference: squared sums per channel, along :func:`channel_axis`.
        finite: whether any element of the reference is a finite number.
        shapes: (reference, artifact) of the first pair whose shapes differ.
    """

    samples: int = 0
    elements: int = 0
    equal: int = 0
    infinities: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    error_energy: float = 0.0
    reference_energy: float = 0.0
    argmax_equal: int = 0
    argmax_total: int = 0
    channel_error: Array | None = None
    channel_reference: Array | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    finite: bool = False

    def add(self, reference: Array, actual: Array) -> None:
        """Compare one pair; shapes may be anything, and a pair of different shapes only counts as such."""
        self.samples += 1
        if reference.shape != actual.shape:
            self.shapes = self.shapes or (reference.shape, actual.shape)
            return
        self.elements += reference.size
        if not reference.size:
            return
        if reference.dtype == object or actual.dtype == object:
            self.equal += int(np.count_nonzero(reference == actual))
            return
        r, a = _wide(reference), _wide(actual)
        same = (r == a) | ((r != r) & (a != a))
        self.equal += int(np.count_nonzero(same))
        self.finite = self.finite or bool(np.isfinite(r).any())
        usable = np.isfinite(r) & np.isfinite(a)
        if not usable.all():
            self.infinities += int(np.count_nonzero(~usable & ~same))
            r, a = np.where(usable, r, 0), np.where(usable, a, 0)
        self._sums(r, a)
        axis = class_axis(reference.ndim)
        if axis is not None and reference.shape[axis] > 1 and reference.dtype.kind == "f":
            agree = np.argmax(r, axis) == np.argmax(a, axis)
            self.argmax_equal += int(np.count_nonzero(agree))
            self.argmax_total += agree.size

    def _sums(self, r: Array, a: Array) -> None:
        d = np.abs(a - r)
        size = np.abs(r)
        largest = float(size.max())
        self.max_abs = max(self.max_abs, float(d.max()))
        if largest:
            relevant = size >= 1e-6 * largest
            self.max_rel = max(self.max_rel, float(np.max(np.divide(d, size, out=np.zeros_like(d), where=relevant))))
        axis = channel_axis(r.shape)
        others = tuple(i for i in range(r.ndim) if i != axis)
        # energies are summed relative to the largest element, so that tiny and huge values neither vanish nor overflow
        scale = largest or 1.0
        errors = np.sum(np.square(d / scale), axis=others, dtype=np.float64) * scale**2
        references = np.sum(np.square(size / scale), axis=others, dtype=np.float64) * scale**2
        self.error_energy += float(np.sum(errors))
        self.reference_energy += float(np.sum(references))
        if axis is not None:
            self._add_channels(np.asarray(errors), np.asarray(references))

    def _add_channels(self, errors: Array, references: Array) -> None:
        if self.channel_error is None or self.channel_reference is None:
            self.channel_error, self.channel_reference = errors, references
        elif self.channel_error.shape == errors.shape:
            self.channel_error = np.add(self.channel_error, errors)
            self.channel_reference = np.add(self.channel_reference, references)

    @property
    def equal_fraction(self) -> float:
        """Share of elements that are exactly the same."""
        return self.equal / self.elements if self.elements else 1.0

    @property
    def relative_l2(self) -> float:
        """Norm of the error over the norm of the reference; infinite where the reference is all zeros and not met."""
        if not self.error_energy:
            return 0.0
        return math.sqrt(self.error_energy / self.reference_energy) if self.reference_energy else math.inf

    @property
    def sqnr_db(self) -> float:
        """Signal to noise over all samples, decibels; infinite when nothing differs."""
        if not self.error_energy:
            return math.inf
        if not self.reference_energy:
            return -math.inf
        return 10 * math.log10(self.reference_energy / self.error_energy)

    @property
    def argmax_agreement(self) -> float | None:
        """Share of positions with the same largest class, or None where there are no classes."""
        return self.argmax_equal / self.argmax_total if self.argmax_total else None

    @property
    def channels(self) -> Array | None:
        """The relative L2 of every channel, or None without channels."""
        if self.channel_error is None or self.channel_reference is None:
            return None
        floor = self.reference_energy * 1e-12 / max(self.channel_reference.size, 1)
        ratio: Array = np.sqrt(self.channel_error / np.maximum(self.channel_reference, floor or 1e-300))
        return ratio

    @property
    def worst_channel(self) -> tuple[int, float] | None:
        """Index and relative L2 of the channel that is furthest off, or None without channels or errors."""
        ratio = self.channels
        if ratio is None or not self.error_energy:
            return None
        index = int(np.argmax(ratio))
        return index, float(ratio[index])


def class_axis(rank: int) -> int | None:
    """The axis that holds classes or channels in ONNX's conventions: 1 for images, the last for matrices."""
    if rank < 2:
        return None
    return 1 if rank >= 4 else rank - 1


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The axis along which errors are told apart: that of the classes; of rank 3 the shorter of the last two.

    Detectors hand out [batch, boxes and scores, places] or [batch, places, boxes and scores].
    """
    if len(shape) == 3:
        return 1 if shape[1] < shape[2] else 2
    return class_axis(len(shape))


def _wide(array: Array) -> Array:
    """The array as real numbers wide enough to subtract."""
    if array.dtype.kind == "c":
        array = array.view(array.real.dtype)
    wide: Array
    if array.dtype.kind in "iub" or array.dtype == np.float64 or array.size <= SMALL:
        wide = array.astype(np.float64)
    else:
        wide = array.astype(np.float32)
    return wide


def short(number: float | None) -> float | None:
    """A number as reports hold it: three significant digits, None where it is infinite or undefined.

    Few digits keep manifests equal between machines whose last bits differ.
    """
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.3g}")


def same(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same numbers (NaN included)."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    equal = first == second
    if first.dtype.kind in "fc":
        equal |= (first != first) & (second != second)
    return bool(np.all(equal))


def indistinguishable(first: Array, second: Array, limit: float) -> bool:
    """Whether two arrays are so close that a comparison to within ``limit`` (relative L2) could not tell them apart."""
    if same(first, second):
        return True
    if first.shape != second.shape or first.dtype.kind != "f":
        return False
    difference = Difference()
    difference.add(first, second)
    return not difference.infinities and difference.relative_l2 <= limit
