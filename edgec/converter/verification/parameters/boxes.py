"""Operands that are rectangles."""

from __future__ import annotations

import numpy as np

from edgec.converter.verification.parameters.call import Call, Draw, handles
from edgec.ir.types import Array


@handles("NonMaxSuppression")
def _boxes(call: Call) -> Draw | None:
    dims = call.dims(0)
    return None if dims is None else (lambda rng: {0: _rectangles(rng, dims, 1.0)})


@handles("RoiAlign")
def _rois(call: Call) -> Draw | None:
    data, dims = call.dims(0), call.dims(1)
    if data is None or dims is None:
        return None
    scale = call.node.attr_float("spatial_scale", 1.0)
    return lambda rng: {1: _rectangles(rng, dims, min(data[2:]) / scale)}


def _rectangles(rng: np.random.Generator, dims: tuple[int, ...], size: float) -> Array:
    """Corners x1, y1, x2, y2 with a positive area, inside a square of this size."""
    corner = rng.uniform(0, 0.6 * size, (*dims[:-1], 2))
    return np.concatenate([corner, corner + rng.uniform(0.1 * size, 0.4 * size, (*dims[:-1], 2))], axis=-1)
