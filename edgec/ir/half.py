"""What float16 can hold: the limits that constants and calibrated values are judged by.

Source: IEEE 754-2019, binary16: largest number 65504, smallest normal one 2^-14, steps of 2^-11 of a number's size.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edgec.ir.types import Array

LARGEST: Final = 65504.0
"""The largest finite float16."""
SMALLEST_NORMAL: Final = 6.103515625e-05
"""The least float16 with full precision."""
HEADROOM: Final = 2.0
"""Calibrated values must stay below the largest number by this factor: unseen inputs give larger ones."""
LOST: Final = 1e-6
"""Share of the energy of an array that rounding to float16 may lose (0.1 % of its size)."""


def unfit_array(array: Array) -> str:
    """Why float16 cannot hold the elements of a float array; empty when it can."""
    if not array.size:
        return ""
    largest = float(np.abs(array).max())
    if np.isfinite(largest) and largest > LARGEST:
        return f"its largest number, {largest:.3g}, overflows float16"
    finite = np.where(np.isfinite(array), array, 0)
    energy = float(np.sum(np.square(finite, dtype=np.float64)))
    error = float(np.sum(np.square(finite.astype(np.float16).astype(np.float64) - finite)))
    if energy and error > LOST * energy:
        return f"its numbers (up to {largest:.3g}) are below what float16 resolves ({SMALLEST_NORMAL:.2g})"
    return ""


def unfit_extent(largest: float, size: float) -> str:
    """Why float16 cannot hold a value that is computed at run time; empty when it can.

    Args:
        largest: the largest absolute number seen.
        size: root of the mean square of all numbers seen.
    """
    if largest * HEADROOM > LARGEST:
        return f"its numbers (up to {largest:.3g}) come too close to the largest of float16, {LARGEST:.0f}"
    if 0 < size < SMALLEST_NORMAL:
        return (
            f"numbers of size {size:.2g} (up to {largest:.3g}) are below what float16 resolves ({SMALLEST_NORMAL:.2g})"
        )
    return ""
