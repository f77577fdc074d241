"""Operators that put pooled or unfolded elements back: Col2Im, MaxUnpool.

Source: ONNX Col2Im-18, MaxUnpool-22 (indices into the flattened result, as in ONNX Runtime).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


@lowers("Col2Im")
def columns_to_image(call: Call) -> T:
    """SCATTER_ND of all columns onto the padded image, which adds what overlaps; then the pads are cut off."""
    b, node = call.b, call.node
    batch, rows, positions = call.dims(0)
    image = [int(extent) for extent in call.const(1, "the image's shape")]
    block = [int(extent) for extent in call.const(2, "the block's shape")]
    spatial, taps = len(image), math.prod(block)
    strides, dilations = node.attr_ints("strides", [1] * spatial), node.attr_ints("dilations", [1] * spatial)
    pads = node.attr_ints("pads", [0] * (2 * spatial))
    padded = [extent + pads[axis] + pads[axis + spatial] for axis, extent in enumerate(image)]
    counts = [
        (extent - (size - 1) * dilation - 1) // stride + 1
        for extent, size, dilation, stride in zip(padded, block, dilations, strides)
    ]
    if math.prod(counts) != positions:
        refuse(f"{positions} columns where the image, block and strides make {math.prod(counts)}")
    places = np.zeros((taps, positions), np.int64)
    for tap, inner in enumerate(itertools.product(*map(range, block))):
        grid = np.zeros(counts, np.int64)
        for axis in range(spatial):
            shape = [1] * spatial
            shape[axis] = counts[axis]
            own = np.arange(counts[axis]) * strides[axis] + inner[axis] * dilations[axis]
            grid = grid + own.reshape(shape) * math.prod(padded[axis + 1 :])
        places[tap] = grid.reshape(-1)
    channels = rows // taps
    # positions lead, so that one row of the scatter is every image and channel at once
    x = b.transpose(b.reshape(call.raw(0), (batch, channels, taps * positions)), (2, 0, 1))
    column = b.constant(places.astype(np.int32).reshape(-1, 1))
    size = math.prod(padded)
    dtype = x.dtype
    x = b.cast(x, DataType.INT32) if dtype in (DataType.INT8, DataType.UINT8) else x
    summed = b.one("SCATTER_ND", [column, x, b.ints((size, batch, channels))], x.dtype, (size, batch, channels))
    y = b.reshape(b.transpose(b.cast(summed, dtype), (1, 2, 0)), (batch, channels, *padded))
    return b.slice(y, (0, 0, *pads[:spatial]), (batch, channels, *image))


@lowers("MaxUnpool")
def max_unpool(call: Call) -> T:
    """SCATTER_ND into zeros at the positions that MaxPool gave."""
    b, x = call.b, call.raw(0)
    shape = call.out_dims()
    indices = b.cast(call.raw(1), DataType.INT32)
    operands = [b.reshape(indices, (x.size, 1)), b.reshape(x, (x.size,)), b.ints((math.prod(shape),))]
    return b.reshape(b.one("SCATTER_ND", operands, x.dtype, (math.prod(shape),)), shape)
