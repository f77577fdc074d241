"""Reading an image at positions between its pixels: GridSample, RoiAlign, DeformConv.

Each is a sum over the pixels around a position, every one a GATHER of channel rows times a weight.  Along an axis a
position becomes a few taps (pixel and weight); the corners of the cell are the products of the axes' taps.

Source: ONNX GridSample-22, RoiAlign-22, DeformConv-22; Keys, Cubic convolution interpolation, 1981.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import CHANNELS_LAST
from edgec.targets.tflite.layout.rules import ChannelsLast
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

CUBIC = -0.75


@dataclass
class Tap:
    """A pixel along one axis: its number times the axis's stride, int32, and its weight (None for 1)."""

    place: T
    weight: T | None


def corners(call: Call, rows: T, base: T | None, axes: Sequence[Sequence[Tap]]) -> Iterator[T]:
    """The weighted pixels [..., channels] of every combination of taps, from rows [pixels, channels]."""
    b = call.b
    for combination in itertools.product(*axes):
        place, weight = base, None
        for tap in combination:
            place = tap.place if place is None else b.add(place, tap.place)
            if tap.weight is not None:
                weight = tap.weight if weight is None else b.mul(weight, tap.weight)
        assert place is not None
        pixel = b.gather(rows, place, 0)
        yield pixel if weight is None else b.mul(pixel, b.reshape(weight, (*weight.shape, 1)))


def total(call: Call, parts: Iterator[T]) -> T:
    """The sum of tensors."""
    result = next(parts)
    for part in parts:
        result = call.b.add(result, part)
    return result


def batch_offsets(call: Call, batch: int, pixels: int, rank: int) -> T | None:
    """Where every image of a batch begins among the rows, shaped [batch, 1, ...]; None for a single image."""
    if batch == 1:
        return None
    starts = (np.arange(batch, dtype=np.int64) * pixels).astype(np.int32)
    return call.b.constant(starts.reshape(batch, *(1,) * (rank - 1)))


def reflected(call: Call, x: T, low: float, high: float) -> T:
    """Positions folded into [low, high]."""
    b = call.b
    span = high - low
    if span <= 0:
        return b.mul(x, b.scalar(0.0, x))
    period = b.binary("FLOOR_MOD", b.sub(x, b.scalar(low, x)), b.scalar(2 * span, x))
    return b.sub(b.scalar(high, x), b.unary("ABS", b.sub(period, b.scalar(span, x))))


@dataclass
class _Axis:
    """One spatial axis of GridSample.

    Attributes:
        extent: number of pixels.
        stride: rows between neighbouring pixels.
        padding: zeros, border or reflection.
        align: whether -1 and 1 are the centres of the outer pixels, not their edges.
    """

    call: Call
    extent: int
    stride: int
    padding: str
    align: bool

    @property
    def borders(self) -> tuple[float, float]:
        return (0.0, self.extent - 1.0) if self.align else (-0.5, self.extent - 0.5)

    def position(self, normalized: T) -> T:
        """From [-1, 1] to pixels."""
        b = self.call.b
        shifted = b.add(normalized, b.scalar(1.0, normalized))
        if self.align:
            return b.mul(shifted, b.scalar((self.extent - 1) / 2, shifted))
        scaled = b.mul(shifted, b.scalar(self.extent, shifted))
        return b.mul(b.sub(scaled, b.scalar(1.0, scaled)), b.scalar(0.5, scaled))

    def inside(self, x: T) -> T:
        """A position outside of the image, by the padding mode; those within it stay."""
        b = self.call.b
        low, high = self.borders
        if self.padding == "reflection":
            return reflected(self.call, x, low, high)
        if self.padding == "border":
            limited = b.minimum(b.maximum(x, b.scalar(0.0, x)), b.scalar(self.extent - 1, x))
            beyond = b.binary(
                "LOGICAL_OR",
                b.compare("LESS", x, b.scalar(low, x)),
                b.compare("GREATER", x, b.scalar(high, x)),
                DataType.BOOL,
            )
            return b.select(beyond, limited, x)
        return x

    def tap(self, pixel: T, weight: T | None) -> Tap:
        """A pixel given as a whole float; beyond the image it is another pixel, or weighs nothing."""
        b = self.call.b
        if self.padding == "reflection":
            pixel = reflected(self.call, pixel, *self.borders)
        limited = b.minimum(b.maximum(pixel, b.scalar(0.0, pixel)), b.scalar(self.extent - 1, pixel))
        if self.padding == "zeros":
            present = b.cast(b.compare("EQUAL", limited, pixel), DataType.FLOAT)
            weight = present if weight is None else b.mul(weight, present)
        place = b.cast(limited, DataType.INT32)
        return Tap(place if self.stride == 1 else b.mul(place, b.scalar(self.stride, place)), weight)

    def taps(self, normalized: T, mode: str) -> list[Tap]:
        """The pixels that a normalized coordinate reads."""
        b = self.call.b
        x = self.position(normalized)
        if mode == "nearest":
            return [self.tap(self.inside(b.unary("ROUND", x)), None)]
        x = self.inside(x)
        first = b.unary("FLOOR", x)
        one = b.scalar(1.0, x)
        t = b.sub(x, first)
        if mode == "linear":
            return [self.tap(first, b.sub(one, t)), self.tap(b.add(first, one), t)]
        distances = [b.add(t, one), t, b.sub(one, t), b.sub(b.scalar(2.0, x), t)]
        weights = [self._far(distances[0]), self._near(distances[1]), self._near(distances[2]), self._far(distances[3])]
        return [self.tap(b.add(first, b.scalar(float(step), x)), weight) for step, weight in zip(range(-1, 3), weights)]

    def _polynomial(self, x: T, coefficients: Sequence[float]) -> T:
        b = self.call.b
        result = b.add(b.mul(x, b.scalar(coefficients[0], x)), b.scalar(coefficients[1], x))
        for coefficient in coefficients[2:]:
            result = b.add(b.mul(result, x), b.scalar(coefficient, x))
        return result

    def _near(self, d: T) -> T:
        """The cubic kernel at a distance below 1."""
        return self._polynomial(d, (CUBIC + 2, -(CUBIC + 3), 0.0, 1.0))

    def _far(self, d: T) -> T:
        """The cubic kernel at a distance between 1 and 2."""
        return self._polynomial(d, (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC))


@lowers("GridSample", layout=CHANNELS_LAST)
def grid_sample(call: Call) -> T:
    """Nearest, linear or cubic sampling of images or volumes."""
    b, node = call.b, call.node
    dims, grid = call.dims(0), call.raw(1)
    if call.dtype(0) is not DataType.FLOAT:
        refuse(f"sampling of {call.dtype(0).name.lower()}", rule="EDG403")
    given = node.attr_str("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(given, given)
    spatial = dims[2:]
    rows = b.reshape(call.x(0), (dims[0] * math.prod(spatial), dims[1]))
    points = grid.shape[:-1]
    axes: list[list[Tap]] = []
    for number, extent in enumerate(spatial):
        last = len(spatial) - 1 - number  # the grid's last axis counts from the innermost
        cut = b.slice(grid, (*(0,) * len(points), last), (*points, 1))
        axis = _Axis(
            call,
            extent,
            math.prod(spatial[number + 1 :]),
            node.attr_str("padding_mode", "zeros"),
            bool(node.attr_int("align_corners", 0)),
        )
        axes.append(axis.taps(b.reshape(cut, points), mode))
    base = batch_offsets(call, dims[0], math.prod(spatial), len(points))
    return total(call, corners(call, rows, base, axes))


@lowers("RoiAlign", layout=CHANNELS_LAST)
def roi_align(call: Call) -> T:
    """Samples on a regular grid in every cell of every region, averaged, or the largest weighted pixel of a cell."""
    b, node = call.b, call.node
    ratio = node.attr_int("sampling_ratio", 0)
    if ratio <= 0:
        refuse(
            "the number of samples per cell depends on the regions (sampling_ratio 0)",
            "export with a fixed sampling_ratio, such as 2",
            rule="EDG406",
        )
    dims = call.dims(0)
    count, channels = call.out_dims()[:2]
    heights = node.attr_int("output_height", 1), dims[2]
    widths = node.attr_int("output_width", 1), dims[3]
    rows = b.reshape(call.x(0), (dims[0] * dims[2] * dims[3], channels))
    y, y_seen = _region_taps(call, 1, *heights, ratio, dims[3])
    x, x_seen = _region_taps(call, 0, *widths, ratio, 1)
    y = [_reshaped(call, tap, (count, -1, 1)) for tap in y]
    x = [_reshaped(call, tap, (count, 1, -1)) for tap in x]
    batches = b.cast(call.raw(2), DataType.INT32)
    base = b.reshape(b.mul(batches, b.scalar(dims[2] * dims[3], batches)), (count, 1, 1))
    seen = b.mul(b.reshape(y_seen, (count, y_seen.shape[1], 1)), b.reshape(x_seen, (count, 1, x_seen.shape[1])))
    parts = corners(call, rows, base, [y, x])
    if node.attr_str("mode", "avg") == "avg":
        samples = total(call, parts)
    else:
        samples = next(parts)
        for part in parts:
            samples = b.maximum(samples, part)
    samples = b.mul(samples, b.reshape(seen, (*seen.shape, 1)))
    cells = b.reshape(samples, (count * heights[0], ratio, widths[0], ratio, channels))
    pooled = b.reduce("MEAN" if node.attr_str("mode", "avg") == "avg" else "REDUCE_MAX", cells, [1, 3], keep=False)
    return b.reshape(pooled, call.out_shape())


def _reshaped(call: Call, tap: Tap, shape: tuple[int, ...]) -> Tap:
    """A tap with extents of 1 put in; -1 stands for its number of positions."""
    wanted = [tap.place.shape[1] if dim == -1 else dim for dim in shape]
    weight = None if tap.weight is None else call.b.reshape(tap.weight, wanted)
    return Tap(call.b.reshape(tap.place, wanted), weight)


def _region_taps(call: Call, column: int, cells: int, extent: int, ratio: int, stride: int) -> tuple[list[Tap], T]:
    """The two pixels around every sample of every region along an axis, and 1 where the sample is on the image."""
    b, node = call.b, call.node
    regions = call.raw(1)
    count = regions.shape[0]
    half = node.attr_str("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale = node.attr_float("spatial_scale", 1.0)

    def edge(place: int) -> T:
        scaled = b.mul(b.slice(regions, (0, place), (count, 1)), b.scalar(scale, regions))
        return b.sub(scaled, b.scalar(0.5, scaled)) if half else scaled

    start = edge(column)
    size = b.sub(edge(column + 2), start)
    if not half:
        size = b.maximum(size, b.scalar(1.0, size))
    offsets = (np.arange(cells * ratio, dtype=np.float64) + 0.5) / (cells * ratio)
    x = b.add(start, b.mul(size, b.constant(offsets.astype(np.float32).reshape(1, -1))))
    seen = b.cast(
        b.binary(
            "LOGICAL_AND",
            b.compare("GREATER_EQUAL", x, b.scalar(-1.0, x)),
            b.compare("LESS_EQUAL", x, b.scalar(float(extent), x)),
            DataType.BOOL,
        ),
        DataType.FLOAT,
    )
    limited = b.minimum(b.maximum(x, b.scalar(0.0, x)), b.scalar(extent - 1.0, x))
    first = b.unary("FLOOR", limited)
    weight = b.sub(limited, first)
    second = b.minimum(b.add(first, b.scalar(1.0, x)), b.scalar(extent - 1.0, x))
    taps = []
    for pixel, share in ((first, b.sub(b.scalar(1.0, x), weight)), (second, weight)):
        place = b.cast(pixel, DataType.INT32)
        taps.append(Tap(b.mul(place, b.scalar(stride, place)) if stride != 1 else place, share))
    return taps, seen


@lowers("DeformConv", layout=ChannelsLast(images=(0, 2, 4)))
def deform_conv(call: Call) -> T:
    """Bilinear samples at shifted kernel positions, then one product with the weights per group."""
    b, node = call.b, call.node
    dims, weight_dims, out = call.dims(0), call.dims(1), call.out_shape()
    if len(dims) != 4:
        refuse(f"a deformable convolution over {len(dims) - 2} spatial axes", rule="EDG404")
    kernel = list(weight_dims[2:])
    taps = kernel[0] * kernel[1]
    groups, offset_groups = node.attr_int("group", 1), node.attr_int("offset_group", 1)
    image, offset = call.x(0), call.x(2)
    places = out[:3]
    share = dims[1] // offset_groups
    pieces: list[T] = []
    for number in range(offset_groups):
        rows = b.slice(image, (0, 0, 0, number * share), (*image.shape[:3], share))
        rows = b.reshape(rows, (dims[0] * dims[2] * dims[3], share))
        axes = [
            _kernel_taps(call, offset, number * taps, axis, places, kernel, dims[3] if axis == 0 else 1)
            for axis in (0, 1)
        ]
        base = batch_offsets(call, dims[0], dims[2] * dims[3], 4)
        sampled = total(call, corners(call, rows, base, axes))
        if call.has(4):
            mask = b.slice(call.x(4), (0, 0, 0, number * taps), (*places, taps))
            sampled = b.mul(sampled, b.reshape(mask, (*places, taps, 1)))
        pieces.append(sampled)
    samples = b.concat(pieces, 4)  # [batch, height, width, taps, channels]
    return _deformed_product(call, samples, taps, groups)


def _deformed_product(call: Call, samples: T, taps: int, groups: int) -> T:
    """Samples [batch, height, width, taps, channels] times weights [outs, channels / groups, taps], group by group."""
    b = call.b
    outs, per_group = call.dims(1)[:2]
    weights = b.transpose(b.reshape(call.raw(1), (outs, per_group, taps)), (0, 2, 1))
    weights = b.reshape(weights, (outs, taps * per_group))
    places = samples.shape[:3]
    results: list[T] = []
    for group in range(groups):
        part = b.slice(samples, (0, 0, 0, 0, group * per_group), (*samples.shape[:4], per_group))
        own = weights
        if groups > 1 and weights.const is not None:
            first, last, const = group * (outs // groups), (group + 1) * (outs // groups), weights.const
            own = b.constant(const.numpy()[first:last])
        elif groups > 1:
            own = b.slice(weights, (group * (outs // groups), 0), (outs // groups, taps * per_group))
        results.append(b.fully_connected(b.reshape(part, (*places, taps * per_group)), own))
    y = b.concat(results, 3)
    return b.add(y, call.raw(3)) if call.has(3) else y


def _kernel_taps(
    call: Call, offset: T, first: int, axis: int, places: Sequence[int], kernel: Sequence[int], stride: int
) -> list[Tap]:
    """The taps [batch, height, width, taps] along an axis, from the offsets' channels (row, column) per tap."""
    b, node = call.b, call.node
    count = kernel[0] * kernel[1]
    dilation = node.attr_ints("dilations", [1, 1])[axis]
    step = node.attr_ints("strides", [1, 1])[axis]
    pad = node.attr_ints("pads", [0, 0, 0, 0])[axis]
    own = np.arange(count) // kernel[1] if axis == 0 else np.arange(count) % kernel[1]
    shape = [1, 1, 1, 1]
    shape[1 + axis] = places[1 + axis]
    base = (np.arange(places[1 + axis]) * step - pad).reshape(shape) + own.reshape(1, 1, 1, count) * dilation
    channels = b.constant((np.arange(count) * 2 + 2 * first + axis).astype(np.int32))
    x = b.add(b.gather(offset, channels, 3), b.constant(base.astype(np.float32)))
    grid = _Axis(call, call.dims(0)[2 + axis], stride, "zeros", True)
    low = b.unary("FLOOR", x)
    t = b.sub(x, low)
    one = b.scalar(1.0, x)
    return [grid.tap(low, b.sub(one, t)), grid.tap(b.add(low, one), t)]
