"""Resize in every coordinate and nearest mode.

LiteRT's RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR know three coordinate transformations over H and W.  Everything
else is separable: nearest is a GATHER per axis, linear and cubic a matrix product per axis with constant weights.

Source: ONNX Resize-19; LiteRT kernels resize_bilinear.cc, resize_nearest_neighbor.cc.
"""

from __future__ import annotations

import math

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import Permutation, channels_last
from edgec.targets.tflite.layout.rules import Along
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


def _preferred(node: Node) -> Permutation:
    return channels_last(node.operand(0).rank)


def _allowed(node: Node, permutation: Permutation) -> bool:
    return len(permutation) != 4 or permutation == (0, 2, 3, 1)


def resize_scales(call: Call) -> list[float]:
    """The scale per ONNX axis, given or following from the sizes."""
    dims, out = call.dims(0), call.out_dims()
    axes = call.node.attr_ints("axes", list(range(len(dims))))
    scales = [1.0] * len(dims)
    given = call.optional_const(2, "scales") if call.has(2) else None
    if given is not None and given.size:
        for axis, scale in zip(axes, given):
            scales[axis % len(dims)] = float(scale)
        return scales
    policy = call.node.attr_str("keep_aspect_ratio_policy", "stretch")
    sizes = call.const(3, "sizes") if call.is_const(3) else None
    if policy != "stretch" and sizes is not None:
        ratios = [int(size) / dims[axis % len(dims)] for axis, size in zip(axes, sizes)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        for axis in axes:
            scales[axis % len(dims)] = ratio
        return scales
    return [float(np.float32(o) / np.float32(d)) for o, d in zip(out, dims)]


def coordinates(call: Call, axis: int, scale: float) -> Array:
    """The original coordinate of every result position along an axis, float32.

    Computed in float32 and in ONNX Runtime's order, so that what lies on the border between two elements falls to the
    same side.

    Source: ONNX Resize-19, attribute coordinate_transformation_mode.
    """
    mode = call.node.attr_str("coordinate_transformation_mode", "half_pixel")
    length, out = np.float32(call.dims(0)[axis]), np.float32(call.out_dims()[axis])
    x = np.arange(call.out_dims()[axis], dtype=np.float32)
    one, half, by = np.float32(1), np.float32(0.5), np.float32(scale)
    match mode:
        case "half_pixel":
            return (x + half) / by - half
        case "half_pixel_symmetric":
            adjustment = out / (by * length)
            center = length / np.float32(2)
            offset = np.float64(center * (one - adjustment))  # from here on ONNX Runtime computes in float64
            return (offset + (x + half).astype(np.float64) / np.float64(by) - 0.5).astype(np.float32)
        case "pytorch_half_pixel":
            return (x + half) / by - half if out > 1 else np.zeros_like(x)
        case "align_corners":
            return x * (length - one) / (out - one) if out > 1 else np.zeros_like(x)
        case "asymmetric":
            return x * length / out if np.isclose(length * by, out, rtol=1e-6) else x / by
        case "tf_crop_and_resize":
            roi = call.const(1, "roi").astype(np.float32)
            axes = call.node.attr_ints("axes", list(range(len(call.dims(0)))))
            position = [a % len(call.dims(0)) for a in axes].index(axis)
            start, end = roi[position], roi[position + len(axes)]
            if out > 1:
                moved: Array = start * (length - one) + x * (end - start) * (length - one) / (out - one)
                return moved
            return np.full_like(x, half * (start + end) * (length - one))
    refuse(f"the coordinate transformation '{mode}'", rule="EDG406")


def _round(x: Array, mode: str) -> Array:
    """Nearest position by the operator's rounding mode."""
    match mode:
        case "round_prefer_floor":
            return np.ceil(x - 0.5)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
    refuse(f"the nearest mode '{mode}'", rule="EDG406")


@lowers("Resize", layout=Along(allowed=_allowed, operands=(0,), default=_preferred))
def resize(call: Call) -> T:
    """The direct operator where its coordinates are ONNX's, else one separable step per axis.

    Where no extent changes nothing is resized, whatever the scales say, and an axis with the scale 1 is not cropped: so
    does ONNX Runtime.
    """
    dims, out = call.dims(0), call.out_dims()
    mode = call.node.attr_str("mode", "nearest")
    x = call.x(0)
    if mode not in ("nearest", "linear", "cubic"):
        refuse(f"the mode '{mode}'", rule="EDG406")
    if mode != "nearest" and x.dtype is not DataType.FLOAT and x.scale is None:
        refuse(f"{mode} interpolation of {x.dtype.name.lower()}", rule="EDG403")
    if dims == out:
        return call.b.copy(x)
    scales = resize_scales(call)
    direct = _direct(call, x, mode, scales)
    if direct is not None:
        return direct
    cropped = call.node.attr_str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    named = {axis % len(dims) for axis in call.node.attr_ints("axes", list(range(len(dims))))}
    outside: Array | None = None
    for axis in range(len(dims)):
        if axis not in named or (dims[axis] == out[axis] and scales[axis] == 1.0):
            continue
        position = coordinates(call, axis, scales[axis])
        if dims[axis] == out[axis] and np.array_equal(position, np.arange(out[axis])):
            continue
        x = _along(call, x, axis, position, mode, scales[axis])
        if cropped:
            beyond = (position < 0) | (position > dims[axis] - 1)
            shape = [1] * len(dims)
            shape[axis] = len(position)
            outside = beyond.reshape(shape) if outside is None else outside | beyond.reshape(shape)
    if outside is not None and outside.any():
        fill = call.node.attr_float("extrapolation_value", 0.0)
        stored = outside.transpose(call.choice.inputs[0] or range(len(dims)))
        x = call.b.select(call.b.constant(stored), call.b.scalar(fill, x), x)
    return call.b.copy(x) if x.producer is None else x


def _direct(call: Call, x: T, mode: str, scales: list[float]) -> T | None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR if it computes exactly ONNX's coordinates, else None."""
    dims, out = call.dims(0), call.out_dims()
    if len(dims) != 4 or dims[:2] != out[:2] or call.node.attr_int("antialias", 0):
        return None
    if (call.choice.inputs[0] or ()) != (0, 2, 3, 1):
        return None
    align, half = False, False
    transformation = call.node.attr_str("coordinate_transformation_mode", "half_pixel")
    nearest_mode = call.node.attr_str("nearest_mode", "round_prefer_floor")
    for axis in (2, 3):
        # LiteRT derives the scale from the extents; ONNX's given scale must be the same
        if not math.isclose(scales[axis], out[axis] / dims[axis], rel_tol=1e-7):
            return None
    b = call.b
    if mode == "linear":
        if transformation in ("half_pixel", "half_pixel_symmetric") or (
            transformation == "pytorch_half_pixel" and out[2] > 1 and out[3] > 1
        ):
            half = True
        elif transformation == "align_corners" and out[2] > 1 and out[3] > 1:
            align = True
        elif transformation != "asymmetric":
            return None
        table = options("ResizeBilinearOptions", alignCorners=align, halfPixelCenters=half)
        if x.scale is not None:
            _tell_drift(call, dims[2:], out[2:], align)
        return b.one("RESIZE_BILINEAR", [x, b.ints(out[2:])], x.dtype, call.out_shape(), table)
    if mode == "nearest":
        matched = all(
            np.array_equal(
                np.clip(_round(coordinates(call, axis, scales[axis]), nearest_mode), 0, dims[axis] - 1),
                np.minimum(np.floor(np.arange(out[axis]) * np.float32(dims[axis] / out[axis])), dims[axis] - 1),
            )
            for axis in (2, 3)
        )
        if not matched or x.dtype not in (
            DataType.FLOAT,
            DataType.UINT8,
            DataType.INT8,
            DataType.INT32,
            DataType.INT64,
        ):
            return None
        return b.one(
            "RESIZE_NEAREST_NEIGHBOR",
            [x, b.ints(out[2:])],
            x.dtype,
            call.out_shape(),
            options("ResizeNearestNeighborOptions"),
        )
    return None


def _tell_drift(call: Call, extents: tuple[int, ...], out: tuple[int, ...], align: bool) -> None:
    """Note where LiteRT's built-in integer kernel, which counts in 1/1024 of a pixel, drifts from ONNX's coordinates.

    XNNPACK's kernel, the default, does not.  Source: ResizeBilinearInteger in the LiteRT kernels' resize_bilinear.h.
    """
    drift = 0.0
    for length, wanted in zip(extents, out):
        known, made = (length - 1, wanted - 1) if align else (length, wanted)
        if made > 0:
            step = (1024 * known + made // 2) // made
            drift = max(drift, (wanted - 1) * abs(step / 1024 - known / made))
    if drift > 1 / 128:
        call.lowerer.notes.append(
            f"'{call.node.name}' (Resize) on integers: without XNNPACK LiteRT places pixels up to {drift:.2f} off"
        )


def _along(call: Call, x: T, axis: int, position: Array, mode: str, scale: float) -> T:
    """Resize one axis: GATHER for nearest, a product with the interpolation matrix otherwise."""
    b = call.b
    length = call.dims(0)[axis]
    stored = call.axis(axis)
    if mode == "nearest":
        order = _round(position, call.node.attr_str("nearest_mode", "round_prefer_floor"))
        return b.gather(x, b.constant(np.clip(order, 0, length - 1).astype(np.int32)), stored)
    weights = _interpolation(call, position, length, mode, scale).astype(np.float32)
    back = [a for a in range(x.rank) if a != stored] + [stored]
    moved = b.transpose(x, back)
    product = b.fully_connected(moved, b.constant(weights))
    inverse = [0] * x.rank
    for place, a in enumerate(back):
        inverse[a] = place
    return b.transpose(product, inverse)


def _interpolation(call: Call, position: Array, length: int, mode: str, scale: float) -> Array:
    """The matrix [out, length] of weights of a linear or cubic interpolation.

    Source: ONNX Resize-19 (cubic_coeff_a, exclude_outside, antialias).
    """
    a = call.node.attr_float("cubic_coeff_a", -0.75)
    antialias = bool(call.node.attr_int("antialias", 0)) and scale < 1
    stretch = scale if antialias else 1.0
    reach = (1.0 if mode == "linear" else 2.0) / stretch
    exclude = bool(call.node.attr_int("exclude_outside", 0))
    result = np.zeros((len(position), length))
    for row, at in enumerate(position):
        taps = np.arange(math.floor(at - reach), math.ceil(at + reach) + 1)
        distance = np.abs(taps - at) * stretch
        if mode == "linear":
            weights = np.maximum(1 - distance, 0)
        else:
            near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
            far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
            weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
        if exclude:
            weights = np.where((taps < 0) | (taps >= length), 0, weights)
        if exclude or antialias:
            weights = weights / weights.sum()
        np.add.at(result[row], np.clip(taps, 0, length - 1), weights)
    return result
