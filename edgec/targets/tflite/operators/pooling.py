"""Pooling.

Source: ONNX MaxPool-12, AveragePool-19, GlobalAveragePool-1; LiteRT kernels pooling.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.graph import Node, Value
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import CHANNELS_LAST
from edgec.targets.tflite.layout.permutation import channels_last
from edgec.targets.tflite.layout.rules import Along
from edgec.targets.tflite.operators.convolution import SAME, VALID, lift, pad_image, resolve_pads, same_pads
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


def pool_geometry(
    node: Node, extents: Sequence[int], wanted: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
    """Kernel, strides, dilations and pads; ``ceil_mode`` becomes extra padding behind."""
    kernel = node.attr_ints("kernel_shape")
    rank = len(kernel)
    strides = node.attr_ints("strides", [1] * rank)
    dilations = node.attr_ints("dilations", [1] * rank)
    pads = resolve_pads(node, extents, kernel, strides, dilations)
    if node.attr_int("ceil_mode", 0):
        grown = []
        for extent, size, stride, dilation, out, (before, after) in zip(
            extents, kernel, strides, dilations, wanted, pads
        ):
            needed = (out - 1) * stride + (size - 1) * dilation + 1
            grown.append((before, max(needed - extent - before, after)))
        pads = grown
    return kernel, strides, dilations, pads


def _pool(call: Call, code: str, x: T, padding: int, kernel: Sequence[int], strides: Sequence[int]) -> T:
    extents = x.shape[1:3]
    if padding == SAME:
        out = [-(-extent // stride) for extent, stride in zip(extents, strides)]
    else:
        out = [(extent - size) // stride + 1 for extent, size, stride in zip(extents, kernel, strides)]
    table = options(
        "Pool2DOptions",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    return call.b.one(code, [x], x.dtype, (x.shape[0], *out, x.shape[3]), table)


def never_negative(value: Value) -> bool:
    """Whether the operator that makes a value cannot give a negative number."""
    producer = value.producer
    if producer is None or producer.domain:
        return False
    if producer.op == "Clip":
        low = producer.input(1)
        return low is not None and low.const is not None and float(low.numpy().reshape(-1)[0]) >= 0
    if producer.op in ("MaxPool", "AveragePool", "Concat"):
        return all(operand is not None and never_negative(operand) for operand in producer.inputs)
    return producer.op in ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Softplus", "Exp")


@lowers("MaxPool", layout=CHANNELS_LAST)
def max_pool(call: Call) -> T | list[T]:
    """MAX_POOL_2D; other padding than SAME is filled with the lowest value first; dilation through strided slices."""
    node, b = call.node, call.b
    if len(node.outputs) > 1 and node.outputs[1].use_count:
        return _pool_with_indices(call)
    x = call.x(0)
    dtype = x.dtype
    if dtype is not DataType.FLOAT and x.scale is None:
        x = b.cast(x, DataType.FLOAT)
    extents = list(call.dims(0)[2:])
    kernel, strides, dilations, pads = pool_geometry(node, extents, call.out_dims()[2:])
    spatial = len(kernel)
    if spatial == 1:
        x = lift(call, x)
        kernel, strides, dilations, extents, pads = (
            [1, *kernel],
            [1, *strides],
            [1, *dilations],
            [1, *extents],
            [(0, 0), *pads],
        )
    # after a ReLU and the like nothing is below zero, and LiteRT pads with zeros fastest
    lowest = 0.0 if never_negative(node.operand(0)) else float(np.finfo(np.float32).min)
    out = call.out_shape() if spatial > 1 else (call.out_shape()[0], 1, *call.out_shape()[1:])
    if spatial < 3 and all(d == 1 for d in dilations):
        if pads == same_pads(extents, kernel, strides, dilations) and any(p != (0, 0) for p in pads):
            y = _pool(call, "MAX_POOL_2D", x, SAME, kernel, strides)
        else:
            y = _pool(call, "MAX_POOL_2D", pad_image(call, x, pads, lowest), VALID, kernel, strides)
        return b.cast(b.reshape(y, call.out_shape()), dtype)
    return b.cast(
        b.reshape(windowed(call, x, kernel, strides, dilations, pads, out, "MAXIMUM", lowest), call.out_shape()), dtype
    )


def _pool_with_indices(call: Call) -> list[T]:
    """The maximum of every window and its position in the flattened operand, tap by tap, the first winning ties."""
    b, node = call.b, call.node
    dims = call.dims(0)
    kernel, strides, dilations, pads = pool_geometry(node, dims[2:], call.out_dims()[2:])
    taps = int(np.prod(kernel))
    if taps > 256:
        refuse(f"a pooling window of {taps} taps with indices", rule="EDG405")
    if int(np.prod(dims)) >= 2**24:
        refuse("pooling with indices over 2^24 elements or more", rule="EDG405")
    x = b.cast(call.x(0), DataType.FLOAT)
    spatial = len(kernel)
    positions = np.arange(int(np.prod(dims)), dtype=np.int32).reshape(dims)
    if node.attr_int("storage_order", 0):
        planes = np.arange(int(np.prod(dims[2:])), dtype=np.int32).reshape(dims[:1:-1]).T
        bases = np.arange(dims[0] * dims[1], dtype=np.int32).reshape(*dims[:2], *(1,) * spatial) * planes.size
        positions = bases + planes
    order = (0, *range(2, 2 + spatial), 1)
    index_map = b.constant(np.ascontiguousarray(positions.transpose(order)))
    lowest = float(np.finfo(np.float32).min)
    x, index_map = pad_image(call, x, pads, lowest), pad_image(call, index_map, pads)
    out = call.out_shape()
    best: T | None = None
    where: T | None = None
    for tap in np.ndindex(*kernel):
        begin = [0, *(t * d for t, d in zip(tap, dilations)), 0]
        end = [out[0], *(o + (w - 1) * s + 1 for o, w, s in zip(begin[1:-1], out[1:-1], strides)), out[-1]]
        value = b.strided_slice(x, begin, end, [1, *strides, 1], out)
        place = b.strided_slice(index_map, begin, end, [1, *strides, 1], out)
        if best is None or where is None:
            best, where = value, place
            continue
        better = b.compare("GREATER", value, best)
        best, where = b.select(better, value, best), b.select(better, place, where)
    assert best is not None and where is not None
    return [b.cast(best, call.out_dtype(0)), b.cast(where, DataType.INT64)]


def windowed(
    call: Call,
    x: T,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
    out: Sequence[int],
    combine: str,
    fill: float | None,
) -> T:
    """Pooling of any rank and dilation, one axis after the other, each by doubling: O(log kernel) operators per axis.

    A window of m + n taps is a window of m taps combined with one of n taps shifted by m.
    """
    b = call.b
    x = pad_image(call, x, pads, fill)
    for number, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations)):
        axis = number + 1

        def crop(y: T, begin: int, length: int, axis: int = axis) -> T:
            return b.slice(y, _at(y.rank, axis, begin), [*y.shape[:axis], length, *y.shape[axis + 1 :]])

        result, taps = x, 1
        windows = {1: x}  # taps -> windows of that many taps, at every position
        while taps < size:
            step = min(taps, size - taps)
            step = max(known for known in windows if known <= step)
            shifted = windows[step]
            length = x.shape[axis] - (taps + step - 1) * dilation
            result = b.binary(combine, crop(result, 0, length), crop(shifted, taps * dilation, length))
            taps += step
            windows[taps] = result
        x = crop(result, 0, (out[axis] - 1) * stride + 1)
        if stride > 1:
            shape = [*x.shape[:axis], out[axis], *x.shape[axis + 1 :]]
            x = b.strided_slice(x, [0] * x.rank, x.shape, _at(x.rank, axis, stride, 1), shape)
    return x


def _at(rank: int, axis: int, value: int, other: int = 0) -> list[int]:
    """A list with one number at an axis and another everywhere else."""
    return [value if number == axis else other for number in range(rank)]


@lowers("AveragePool", layout=CHANNELS_LAST)
def average_pool(call: Call) -> T:
    """AVERAGE_POOL_2D, whose SAME padding never counts the pads; other paddings are summed and divided by the count."""
    node, b = call.node, call.b
    x = call.x(0)
    extents = list(call.dims(0)[2:])
    kernel, strides, dilations, pads = pool_geometry(node, extents, call.out_dims()[2:])
    spatial = len(kernel)
    include = bool(node.attr_int("count_include_pad", 0))
    declared = resolve_pads(node, extents, kernel, strides, dilations)
    if spatial == 1:
        x = lift(call, x)
        kernel, strides, dilations, extents = [1, *kernel], [1, *strides], [1, *dilations], [1, *extents]
        pads, declared = [(0, 0), *pads], [(0, 0), *declared]
    padded = any(pad != (0, 0) for pad in pads)
    out = call.out_shape() if spatial > 1 else (call.out_shape()[0], 1, *call.out_shape()[1:])
    plain = len(kernel) == 2 and all(d == 1 for d in dilations)
    # how many elements each output averages over: ceil_mode's extra columns never count, declared pads only if included
    counts = _counts(extents, kernel, strides, dilations, pads, declared, out[1:-1], include)
    taps = int(np.prod(kernel))
    if plain and not padded:
        y = _pool(call, "AVERAGE_POOL_2D", x, VALID, kernel, strides)
    elif plain and not include and pads == same_pads(extents, kernel, strides, dilations):
        y = _pool(call, "AVERAGE_POOL_2D", x, SAME, kernel, strides)
    elif plain:
        y = _pool(call, "AVERAGE_POOL_2D", pad_image(call, x, pads), VALID, kernel, strides)
        if np.any(counts != taps):
            y = b.mul(y, b.constant((taps / counts).astype(np.float32)[np.newaxis, ..., np.newaxis]))
    else:
        total = windowed(call, x, kernel, strides, dilations, pads, out, "ADD", None)
        y = b.mul(total, b.constant((1.0 / counts).astype(np.float32)[np.newaxis, ..., np.newaxis]))
    return b.reshape(y, call.out_shape())


def _counts(
    extents: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
    declared: Sequence[tuple[int, int]],
    out: Sequence[int],
    include: bool,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Per output position, how many elements count."""
    result = np.ones((1,) * len(kernel), np.float64)
    for axis, (extent, size, stride, dilation, (before, _), (first, last), count) in enumerate(
        zip(extents, kernel, strides, dilations, pads, declared, out)
    ):
        positions = np.arange(count)[:, np.newaxis] * stride + np.arange(size)[np.newaxis] * dilation - before
        low, high = (-first, extent + last) if include else (0, extent)
        per = ((positions >= low) & (positions < high)).sum(axis=1).astype(np.float64)
        shape = [1] * len(kernel)
        shape[axis] = count
        result = result * per.reshape(shape)
    return result


@lowers("GlobalAveragePool", "GlobalMaxPool", layout=Along(default=lambda node: channels_last(node.operand(0).rank)))
def global_pool(call: Call) -> T:
    """A reduction over all spatial axes, kept."""
    axes = [call.axis(axis) for axis in range(2, len(call.dims(0)))]
    code = "MEAN" if call.node.op == "GlobalAveragePool" else "REDUCE_MAX"
    return call.b.reduce(code, call.x(0), axes, keep=True)


@lowers("LpPool", layout=CHANNELS_LAST)
def lp_pool(call: Call) -> T:
    """(sum |x|^p)^(1/p) over windows: a sum of powers by averaging or by strided slices, then the root."""
    b, node = call.b, call.node
    x = call.x(0)
    p = node.attr_int("p", 2)
    extents = list(call.dims(0)[2:])
    kernel, strides, dilations, pads = pool_geometry(node, extents, call.out_dims()[2:])
    out = call.out_shape()
    total = windowed(call, _power(call, b.unary("ABS", x), p), kernel, strides, dilations, pads, out, "ADD", None)
    return _root(call, total, p)


@lowers("GlobalLpPool", layout=Along(default=lambda node: channels_last(node.operand(0).rank)))
def global_lp_pool(call: Call) -> T:
    """(sum |x|^p)^(1/p) over all spatial axes."""
    p = call.node.attr_int("p", 2)
    axes = [call.axis(axis) for axis in range(2, len(call.dims(0)))]
    total = call.b.reduce("SUM", _power(call, call.b.unary("ABS", call.x(0)), p), axes, keep=True)
    return _root(call, total, p)


def _power(call: Call, x: T, p: int) -> T:
    if p == 1:
        return x
    if p == 2:
        return call.b.mul(x, x)
    return call.b.one("POW", [x, call.b.scalar(float(p), x)], x.dtype, x.shape, options("PowOptions"))


def _root(call: Call, x: T, p: int) -> T:
    if p == 1:
        return x
    if p == 2:
        return call.b.unary("SQRT", x)
    return call.b.one("POW", [x, call.b.scalar(1.0 / p, x)], x.dtype, x.shape, options("PowOptions"))
