"""Transposed convolutions whose blocks tile the result: a 1x1 CONV_2D computes the blocks, DEPTH_TO_SPACE places them.

Where the kernel is as large as its stride, every pixel of the operand makes one block of the result and no two blocks
overlap.  Each result is then the sum of one pixel's products: a 1x1 convolution, whose channels are the positions in a
block times the channels of the result, in the order of DEPTH_TO_SPACE.  Scales and bias repeat for every position.

That is exact in integers, and the same products in floats, whose sum now begins with the bias.  With XNNPACK it took
0.02 to 0.94 of the time of TRANSPOSE_CONV, for every shape that was measured (docs/architecture.md): none is left out.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.types import Array
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.program import T


def tiles(call: Call) -> bool:
    """Whether a transposed convolution makes one square block of every pixel, side by side.

    Always no where DEPTH_TO_SPACE is not to be written (:attr:`Lowerer.depth_to_space`).
    """
    node, dims = call.node, call.dims(1)
    if not call.lowerer.depth_to_space or len(dims) != 4 or dims[2] != dims[3]:
        return False
    block = dims[2]
    if node.attr_int("group", 1) != 1 or node.attr_ints("strides", [1, 1]) != [block, block]:
        return False
    if any(node.attr_ints("output_padding", [0])):
        return False
    if block > 1 and node.attr_ints("dilations", [1, 1]) != [1, 1]:
        return False
    # pads are never negative, so a result of the full extent has none, whatever they follow from
    return [extent * block for extent in call.dims(0)[2:]] == list(call.out_dims()[2:])


def filter_shape(call: Call) -> tuple[int, int, int, int]:
    """The shape of the 1x1 convolution's weights, [positions * outputs, 1, 1, inputs]."""
    inputs, outputs, height, width = call.dims(1)
    return (height * width * outputs, 1, 1, inputs)


def as_filters(weights: Array) -> Array:
    """Weights of a transposed convolution, [inputs, outputs, block, block], as those of the 1x1 convolution."""
    return np.ascontiguousarray(weights.transpose(2, 3, 1, 0).reshape(-1, 1, 1, weights.shape[0]))


def repeat_scales(call: Call, tensor: T) -> None:
    """Give scales and zero points per channel of the result to every position; those of a whole tensor stay one."""
    count = call.dims(1)[2] ** 2
    if len(tensor.scale) > 1:
        tensor.scale, tensor.zero_point = np.tile(tensor.scale, count), np.tile(tensor.zero_point, count)


def repeated(call: Call, bias: T) -> T:
    """A bias per channel of the result as one per channel of all positions, and its scales with it."""
    count, const = call.dims(1)[2] ** 2, bias.const
    if const is None:
        return call.b.tile(bias, [count])
    made = call.b.lazy(bias.dtype, (bias.shape[0] * count,), lambda: np.tile(const.numpy(), count), bias.name)
    if bias.scale is not None:
        made.scale, made.zero_point = bias.scale, bias.zero_point
        repeat_scales(call, made)
    return made


def blocks(call: Call, filters: T, bias: T) -> T:
    """The blocks as channels, [N, H, W, positions * outputs]."""
    x = call.x(0)
    table = options(
        "Conv2DOptions",
        padding=schema.Padding.VALID,
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    return call.b.one("CONV_2D", [x, filters, bias], x.dtype, (*x.shape[:3], filters.shape[0]), table)


def placed(call: Call, y: T) -> T:
    """Blocks that are channels side by side in the image; a block of one pixel is there already.

    XNNPACK takes DEPTH_TO_SPACE of blocks above 1 only.
    """
    block = call.dims(1)[2]
    if block == 1:
        return y
    return call.b.one("DEPTH_TO_SPACE", [y], y.dtype, call.out_shape(), options("DepthToSpaceOptions", blockSize=block))
