"""Convolutions: 1-D and 2-D on CONV_2D and DEPTHWISE_CONV_2D, 3-D on CONV_3D, transposed on TRANSPOSE_CONV or CONV_2D.

Source: ONNX Conv-11 and ConvTranspose-11; LiteRT kernels conv.cc, depthwise_conv.cc, conv3d.cc, transpose_conv.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Node
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import CHANNELS_LAST
from edgec.targets.tflite.operators import blocks
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


def resolve_pads(
    node: Node, extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding per spatial axis, before and after, with ``auto_pad`` worked out.

    Source: ONNX Conv-11, attribute auto_pad.
    """
    mode = node.attr_str("auto_pad", "NOTSET")
    rank = len(extents)
    if mode in ("NOTSET", "VALID"):
        pads = node.attr_ints("pads", [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        return [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    result = []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations):
        out = -(-extent // stride)
        total = max((out - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return result


def same_pads(
    extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """What LiteRT's SAME padding adds per axis (the larger half behind)."""
    result = []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations):
        out = -(-extent // stride)
        total = max((out - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        result.append((total // 2, total - total // 2))
    return result


def lift(call: Call, x: T) -> T:
    """[N, W, C] as [N, 1, W, C]."""
    return call.b.reshape(x, (x.shape[0], 1, *x.shape[1:])) if x.rank == 3 else x


def bias_of(call: Call, position: int, channels: int) -> T:
    """The bias operand, or zeros."""
    if call.has(position):
        return call.raw(position)
    return call.b.constant(np.zeros(channels, np.float32))


def _window_of(call: Call, what: str) -> tuple[int, int, list[int], list[int]]:
    """Spatial axes, groups, strides and dilations of a convolution that LiteRT has a kernel for.

    Raises:
        Refused: EDG403 for its element type, EDG404 for its rank.
    """
    spatial = len(call.dims(1)) - 2
    if spatial == 0 or spatial > 3:
        refuse(f"{what} over {spatial} spatial axes", rule="EDG404")
    if call.dtype(0) is not DataType.FLOAT:
        refuse(f"{what} of {call.dtype(0).name.lower()}", rule="EDG403")
    strides, dilations = (list(call.node.attr_ints(name, [1] * spatial)) for name in ("strides", "dilations"))
    return spatial, call.node.attr_int("group", 1), strides, dilations


@lowers("Conv", layout=CHANNELS_LAST)
def conv(call: Call) -> T:
    """Cross-correlation; weights [O, I/group, k...] become [O, k..., I/group], depthwise ones [1, k..., O]."""
    node, b = call.node, call.b
    x, weight_dims = call.x(0), call.dims(1)
    spatial, group, strides, dilations = _window_of(call, "a convolution")
    kernel, extents = list(weight_dims[2:]), list(call.dims(0)[2:])
    pads = resolve_pads(node, extents, kernel, strides, dilations)
    weights = call.node.operand(1)
    channels, out_channels = call.dims(0)[1], weight_dims[0]
    if spatial == 3:
        return _conv3d(call, x, pads, kernel, strides, dilations, group)
    if spatial == 1:
        x = lift(call, x)
        kernel, strides, dilations, extents = [1, *kernel], [1, *strides], [1, *dilations], [1, *extents]
        pads = [(0, 0), *pads]
    if weights.const is None:
        return _runtime_weights(call, x, pads, kernel, strides, dilations, group)
    const = weights.const
    filter_shape = (out_channels, weight_dims[1], *kernel)
    depthwise = group > 1 and weight_dims[1] == 1 and group == channels
    if depthwise:
        filters = b.lazy(
            DataType.FLOAT,
            (1, *kernel, out_channels),
            lambda: np.ascontiguousarray(
                const.numpy()
                .astype(np.float32, copy=False)
                .reshape(out_channels, *kernel)
                .transpose(1, 2, 0)[np.newaxis]
            ),
            weights.name,
        )
        multiplier = out_channels // channels
    else:
        filters = b.lazy(
            DataType.FLOAT,
            (out_channels, *kernel, weight_dims[1]),
            lambda: np.ascontiguousarray(
                const.numpy().astype(np.float32, copy=False).reshape(filter_shape).transpose(0, 2, 3, 1)
            ),
            weights.name,
        )
        multiplier = 0
    bias = bias_of(call, 2, out_channels)
    y = convolve(call, x, filters, bias, pads, kernel, strides, dilations, multiplier)
    return b.reshape(y, call.out_shape()) if spatial == 1 else y


def convolve(
    call: Call,
    x: T,
    filters: T,
    bias: T,
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    multiplier: int,
) -> T:
    """CONV_2D, or DEPTHWISE_CONV_2D for a multiplier above 0, of an NHWC image with explicit pads."""
    b = call.b
    extents = x.shape[1:3]
    padding = VALID
    if any(pad != (0, 0) for pad in pads):
        if list(pads) == same_pads(extents, kernel, strides, dilations):
            padding = SAME
        else:
            x = pad_image(call, x, pads)
            extents = x.shape[1:3]
    if padding == SAME:
        out = [-(-extent // stride) for extent, stride in zip(extents, strides)]
    else:
        out = [
            (extent - (size - 1) * dilation - 1) // stride + 1
            for extent, size, stride, dilation in zip(extents, kernel, strides, dilations)
        ]
    fields = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
    }
    if multiplier:
        shape = (x.shape[0], *out, filters.shape[3])
        table = options("DepthwiseConv2DOptions", depthMultiplier=multiplier, **fields)
        return b.one("DEPTHWISE_CONV_2D", [x, filters, bias], x.dtype, shape, table)
    shape = (x.shape[0], *out, filters.shape[0])
    return b.one("CONV_2D", [x, filters, bias], x.dtype, shape, options("Conv2DOptions", **fields))


def pad_image(call: Call, x: T, pads: Sequence[tuple[int, int]], value: float | None = None) -> T:
    """Pad the spatial axes of a channels-last image; negative pads crop."""
    crop = [(max(-before, 0), max(-after, 0)) for before, after in pads]
    if any(c != (0, 0) for c in crop):
        begin = [0, *(c[0] for c in crop), 0]
        size = [x.shape[0], *(d - c[0] - c[1] for d, c in zip(x.shape[1:-1], crop)), x.shape[-1]]
        x = call.b.slice(x, begin, size)
    return call.b.pad(x, [(0, 0), *((max(p, 0), max(q, 0)) for p, q in pads), (0, 0)], value)


def _runtime_weights(
    call: Call,
    x: T,
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> T:
    """A convolution whose weights are computed at run time: the same operators on transposed weights."""
    b = call.b
    weight_dims = call.dims(1)
    out_channels, per_group = weight_dims[0], weight_dims[1]
    raw = b.reshape(call.raw(1), (out_channels, per_group, *kernel))
    bias = bias_of(call, 2, out_channels)
    if group > 1 and per_group == 1 and group == x.shape[3]:
        filters = b.reshape(b.transpose(raw, (1, 2, 3, 0)), (1, *kernel, out_channels))
        y = convolve(call, x, filters, bias, pads, kernel, strides, dilations, out_channels // group)
    else:
        y = convolve(call, x, b.transpose(raw, (0, 2, 3, 1)), bias, pads, kernel, strides, dilations, 0)
    return b.reshape(y, call.out_shape())


def _conv3d(
    call: Call,
    x: T,
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> T:
    """CONV_3D: weights [O, I, D, H, W] become [D, H, W, I, O]; groups are split and joined."""
    b = call.b
    x = pad_image(call, x, pads)
    out = call.out_shape()
    weights = call.raw(1)
    filters = b.transpose(weights, (2, 3, 4, 1, 0))
    bias = bias_of(call, 2, filters.shape[4])
    table = options(
        "Conv3DOptions",
        padding=VALID,
        strideD=strides[0],
        strideH=strides[1],
        strideW=strides[2],
        dilationDFactor=dilations[0],
        dilationHFactor=dilations[1],
        dilationWFactor=dilations[2],
    )
    if group == 1:
        return b.one("CONV_3D", [x, filters, bias], x.dtype, out, table)
    channels, results = x.shape[4] // group, filters.shape[4] // group
    parts = []
    for number, part in enumerate(b.split(x, 4, [channels] * group)):
        piece = b.slice(filters, (0, 0, 0, 0, number * results), (*filters.shape[:4], results))
        some = b.slice(bias, (number * results,), (results,))
        parts.append(b.one("CONV_3D", [part, piece, some], x.dtype, (*out[:4], results), table))
    return b.concat(parts, 4)


@lowers("ConvTranspose", layout=CHANNELS_LAST)
def conv_transpose(call: Call) -> T:
    """The gradient of a convolution: TRANSPOSE_CONV cropped or padded to ONNX's extent; 1x1 CONV_2D and DEPTH_TO_SPACE
    where blocks tile the result.

    The full extent is stride * (in - 1) + dilated kernel; ONNX's is that + output_padding - pads.
    """
    node, b = call.node, call.b
    x, weight_dims = call.x(0), call.dims(1)
    spatial, group, strides, dilations = _window_of(call, "a transposed convolution")
    if blocks.tiles(call):
        tiled = _tiled(call)
        if tiled is not None:
            return tiled
    kernel, extents = list(weight_dims[2:]), list(call.dims(0)[2:])
    wanted = list(call.out_dims()[2:])
    weights = dilate(call, call.raw(1), dilations)
    kernel = list(weights.shape[2:])
    full = [(extent - 1) * stride + size for extent, stride, size in zip(extents, strides, kernel)]
    begin = _transpose_pads(node, extents, kernel, strides, wanted)
    bias = call.raw(2) if call.has(2) else None
    if spatial == 1:
        x = lift(call, x)
        weights = b.reshape(weights, (*weights.shape[:2], 1, kernel[0]))
        kernel, strides, full, begin, wanted = [1, *kernel], [1, *strides], [1, *full], [0, *begin], [1, *wanted]
    per_group = weights.shape[1]
    inputs = weights.shape[0] // group
    images = b.split(x, x.rank - 1, [inputs] * group)
    filters = split_rows(call, weights, group)
    parts = [_transposed(call, part, some, full, strides) for part, some in zip(images, filters)]
    y = b.concat(parts, x.rank - 1)
    offset = [0, *begin, 0]
    crop = [0, *(max(o, 0) for o in begin), 0]
    size = [y.shape[0], *(min(f - max(o, 0), w) for f, o, w in zip(full, begin, wanted)), per_group * group]
    y = b.slice(y, crop, size)
    missing = [(max(-o, 0), w - max(-o, 0) - s) for o, w, s in zip(offset[1:-1], wanted, size[1:-1])]
    y = b.pad(y, [(0, 0), *missing, (0, 0)])
    if bias is not None:
        y = b.add(y, bias)
    return b.reshape(y, call.out_shape()) if spatial == 1 else y


def _tiled(call: Call) -> T | None:
    """Blocks side by side; None where weights or bias are computed at run time: XNNPACK takes no such CONV_2D."""
    const, bias = call.raw(1).const, bias_of(call, 2, call.dims(1)[1])
    if const is None or bias.const is None:
        return None
    shape, name = blocks.filter_shape(call), call.node.operand(1).name
    filters = call.b.lazy(DataType.FLOAT, shape, lambda: blocks.as_filters(const.numpy()), name)
    return blocks.placed(call, blocks.blocks(call, filters, blocks.repeated(call, bias)))


def _transposed(call: Call, x: T, weights: T, full: Sequence[int], strides: Sequence[int]) -> T:
    """One group: an image [N, ..., I] and weights [I, O, ...] to [N, *full, O]."""
    b = call.b
    shape = (x.shape[0], *full, weights.shape[1])
    if len(full) == 3:
        filters = b.transpose(weights, (2, 3, 4, 1, 0))
        table = options("Conv3DOptions", padding=VALID, strideD=strides[0], strideH=strides[1], strideW=strides[2])
        return b.one("CONV_3D_TRANSPOSE", [b.ints(shape), filters, x], x.dtype, shape, table)
    filters = b.transpose(weights, (1, 2, 3, 0))
    table = options("TransposeConvOptions", padding=VALID, strideH=strides[0], strideW=strides[1])
    return b.one("TRANSPOSE_CONV", [b.ints(shape), filters, x], x.dtype, shape, table)


def split_rows(call: Call, weights: T, count: int) -> list[T]:
    """Weights in equal parts along their first axis."""
    b, rows = call.b, weights.shape[0] // count
    const = weights.const
    if const is None or count == 1:
        return b.split(weights, 0, [rows] * count)
    shape = (rows, *weights.shape[1:])
    return [
        b.lazy(weights.dtype, shape, lambda first=first: const.numpy()[first : first + rows], weights.name)  # type: ignore[misc]
        for first in range(0, weights.shape[0], rows)
    ]


def dilate(call: Call, weights: T, dilations: Sequence[int]) -> T:
    """Weights [I, O, ...] with zeros between the taps, for kernels that know no dilation."""
    b, const = call.b, weights.const
    if all(dilation == 1 for dilation in dilations):
        return weights
    kernel = [(size - 1) * dilation + 1 for size, dilation in zip(weights.shape[2:], dilations)]
    whole = (*weights.shape[:2], *kernel)
    if const is not None:

        def load() -> Array:
            spread = np.zeros(whole, const.dtype.numpy)
            taps = tuple(slice(None, None, dilation) for dilation in dilations)
            spread[(slice(None), slice(None), *taps)] = const.numpy()
            return spread

        return b.lazy(weights.dtype, whole, load, weights.name)
    for axis, dilation in enumerate(dilations, 2):
        before, extent, after = weights.shape[:axis], weights.shape[axis], weights.shape[axis + 1 :]
        if dilation == 1 or extent == 1:
            continue
        column = b.reshape(weights, (int(np.prod(before)), extent, 1, int(np.prod(after))))
        column = b.pad(column, [(0, 0), (0, 0), (0, dilation - 1), (0, 0)])
        column = b.reshape(column, (column.shape[0], extent * dilation, column.shape[3]))
        column = b.slice(column, (0, 0, 0), (column.shape[0], (extent - 1) * dilation + 1, column.shape[2]))
        weights = b.reshape(column, (*before, column.shape[1], *after))
    return weights


def _transpose_pads(
    node: Node, extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int], wanted: Sequence[int]
) -> list[int]:
    """How much of the full result is cut off in front, per axis.

    Source: ONNX ConvTranspose-11: with output_shape or auto_pad the total padding follows from the output's extent, and
    its larger half goes in front unless auto_pad is SAME_UPPER.
    """
    spatial = len(extents)
    mode = node.attr_str("auto_pad", "NOTSET")
    extra = node.attr_ints("output_padding", [0] * spatial)
    if mode == "VALID":
        return [0] * spatial
    if mode == "NOTSET" and not node.has("output_shape"):
        return node.attr_ints("pads", [0] * (2 * spatial))[:spatial]
    result = []
    for extent, size, stride, out, more in zip(extents, kernel, strides, wanted, extra):
        total = max(stride * (extent - 1) + more + size - out, 0)
        result.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return result
