"""Convolutions; weights go from LiteRT's order of axes to ONNX's.

Source: LiteRT kernels conv.cc, depthwise_conv.cc, conv3d.cc, transpose_conv.cc; ONNX Conv-22, ConvTranspose-22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value

SAME = schema.Padding.SAME


def padding(
    x: Value, same: bool, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """The attribute for LiteRT's padding of a channels-first image: numbers, or a mode while extents are unknown."""
    if not same:
        return {}
    extents = (x.shape or ())[2:]
    before, after = [], []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations):
        if not isinstance(extent, int):
            return {"auto_pad": "SAME_UPPER"}
        total = max((-(-extent // stride) - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return {"pads": [*before, *after]} if any(before) or any(after) else {}


def _positive(call: Call, *numbers: int) -> None:
    if any(number < 1 for number in numbers):
        raise ValueError(f"strides or dilations {numbers} at {call.op.title} '{call.op.name}'")


def _convolve(call: Call, weights: Value, strides: list[int], dilations: list[int], group: int, options: Any) -> None:
    _positive(call, *strides, *dilations)
    x = call.image()
    kernel = list(weights.dims[2:])
    pads = padding(x, options.Padding() == SAME, kernel, strides, dilations)
    y = call.e.one(
        "Conv",
        x,
        weights,
        call.bias(2, 1),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=group,
        **pads,
    )
    call.give_image(call.activated(y, options.FusedActivationFunction()))


@reads("CONV_2D")
def conv_2d(call: Call) -> None:
    """Conv; weights [out, height, width, in / group]."""
    options = call.options(schema.Conv2DOptions)
    weights = call.weights(1, (0, 3, 1, 2))
    channels = call.tensor(0).shape[3]
    group, rest = divmod(channels, max(weights.dims[1], 1))
    if rest or group < 1:
        raise ValueError(f"{channels} channels and weights for {weights.dims[1]} at '{call.op.name}'")
    strides, dilations = [options.StrideH(), options.StrideW()], [options.DilationHFactor(), options.DilationWFactor()]
    _convolve(call, weights, strides, dilations, group, options)


@reads("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> None:
    """Conv with as many groups as channels; weights [1, height, width, out]."""
    options = call.options(schema.DepthwiseConv2DOptions)
    weights = call.weights(1, (3, 0, 1, 2))
    strides, dilations = [options.StrideH(), options.StrideW()], [options.DilationHFactor(), options.DilationWFactor()]
    _convolve(call, weights, strides, dilations, call.tensor(0).shape[3], options)


@reads("CONV_3D")
def conv_3d(call: Call) -> None:
    """Conv over three axes; weights [depth, height, width, in / group, out]."""
    options = call.options(schema.Conv3DOptions)
    weights = call.weights(1, (4, 3, 0, 1, 2))
    strides = [options.StrideD(), options.StrideH(), options.StrideW()]
    dilations = [options.DilationDFactor(), options.DilationHFactor(), options.DilationWFactor()]
    group = call.tensor(0).shape[4] // max(weights.dims[1], 1)
    _convolve(call, weights, strides, dilations, group, options)


def _transposed(
    call: Call,
    weights: Value,
    data: int,
    strides: list[int],
    dilations: list[int],
    options: Any,
) -> None:
    """ConvTranspose with the result's extents as they are given."""
    _positive(call, *strides, *dilations)
    x = call.image(data)
    kernel = list(weights.dims[2:])
    extents = _result_extents(call, len(kernel))
    before, after, more = [], [], []
    for extent, out, size, stride, dilation in zip(x.shape[2:] if x.shape else (), extents, kernel, strides, dilations):
        if not isinstance(extent, int):
            call.refuse("the extents of the image are known only at run time")
        whole = (extent - 1) * stride + (size - 1) * dilation + 1
        total = max(whole - out, 0) if options.Padding() == SAME else 0
        before.append(total // 2)
        after.append(total - total // 2)
        more.append(max(out - whole, 0))
        if options.Padding() != SAME and out < whole:  # VALID: what lies behind is cut off
            after[-1] = whole - out
    attributes: dict[str, Any] = {"output_padding": more} if any(more) else {}
    y = call.e.one(
        "ConvTranspose",
        x,
        weights,
        call.bias(3, 1, data),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=[*before, *after],
        **attributes,
    )
    call.give_image(call.activated(y, options.FusedActivationFunction()))


def _result_extents(call: Call, spatial: int) -> list[int]:
    """The extents of the result's image, from the operand that gives them or else from the file."""
    given = call.known(0)
    if given is not None:
        extents = [int(extent) for extent in given.reshape(-1)[1 : 1 + spatial]]
    else:
        extents = [int(extent) for extent in call.result().signature[1 : 1 + spatial]]
    if len(extents) != spatial or any(extent < 1 for extent in extents):
        call.refuse("the extents of the result are known only at run time")
    return extents


@reads("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> None:
    """ConvTranspose; weights [out, height, width, in]."""
    options = call.options(schema.TransposeConvOptions)
    weights = call.weights(1, (3, 0, 1, 2))
    _transposed(call, weights, 2, [options.StrideH(), options.StrideW()], [1, 1], options)


@reads("CONV_3D_TRANSPOSE")
def conv_3d_transpose(call: Call) -> None:
    """ConvTranspose over three axes; weights [depth, height, width, out, in]."""
    options = call.options(schema.Conv3DOptions)
    weights = call.weights(1, (4, 3, 0, 1, 2))
    strides = [options.StrideD(), options.StrideH(), options.StrideW()]
    dilations = [options.DilationDFactor(), options.DilationHFactor(), options.DilationWFactor()]
    _transposed(call, weights, 2, strides, dilations, options)
