"""Convolutions and transposed convolutions of every rank and attribute equal ONNX Runtime's."""

from __future__ import annotations

import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

ACTIVATIONS = ("", "", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "Elu", "PRelu")


def _activated(b: ModelBuilder, value: str, name: str, spatial: int, channels: int) -> str:
    if not name:
        return value
    if name == "Clip":
        return b.add("Clip", value, b.constant(0.0, "float32"), b.constant(6.0, "float32"))
    if name == "PRelu":
        return b.add("PRelu", value, b.weights(channels, *(1,) * spatial))
    return b.add(name, value)


@st.composite
def convolutions(draw: st.DrawFn) -> onnx.ModelProto:
    """Conv over 1 to 3 axes: groups, multipliers, dilations, strides, pads, auto_pad, run-time weights, activations."""
    spatial = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2, 3, 4]))
    per_group = draw(st.integers(1, 3))
    out_per_group = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    strides = [draw(st.integers(1, 3)) for _ in range(spatial)]
    dilations = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(spatial)]
    mode = draw(st.sampled_from(["pads", "pads", "", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]))
    if mode.startswith("SAME"):
        dilations = [1] * spatial  # ONNX Runtime supports nothing else
    attributes: dict[str, object] = {"strides": strides, "dilations": dilations, "group": group}
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    extents = [draw(st.integers(1 if mode.startswith("SAME") else size, 11)) for size in reach]
    if mode == "pads":
        attributes["pads"] = [draw(st.integers(0, 3)) for _ in range(2 * spatial)]
    elif mode:
        attributes["auto_pad"] = mode
    b = ModelBuilder(draw(st.integers(0, 99)))
    channels = group * out_per_group
    x = b.input((draw(st.integers(1, 2)), group * per_group, *extents))
    shape = (channels, per_group, *kernel)
    operands = [x, b.input(shape) if draw(st.sampled_from([False, False, True])) else b.weights(*shape)]
    bias = draw(st.sampled_from(["", "constant", "input"]))
    if bias:
        operands.append(b.weights(channels) if bias == "constant" else b.input((channels,)))
    y = b.add("Conv", *operands, **attributes)
    return b.build(_activated(b, y, draw(st.sampled_from(ACTIVATIONS)), spatial, channels))


@examples(60)
@given(convolutions(), st.sampled_from(["ONNX", "NHWC"]))
def test_convolutions(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> onnx.ModelProto:
    """ConvTranspose over 1 to 3 axes: output_padding, output_shape, pads, groups, dilations, auto_pad."""
    spatial = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, out_per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    strides = [draw(st.integers(1, 3)) for _ in range(spatial)]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(spatial)]
    extents = [draw(st.integers(1, 6)) for _ in range(spatial)]
    attributes: dict[str, object] = {"strides": strides, "dilations": dilations, "group": group}
    mode = draw(st.sampled_from(["pads", "pads", "", "SAME_UPPER", "SAME_LOWER", "VALID", "shape"]))
    if mode == "pads":
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * spatial)]
    elif mode == "shape":
        attributes["output_shape"] = [
            extent * stride + draw(st.integers(0, stride + 1)) for extent, stride in zip(extents, strides)
        ]
        if draw(st.booleans()):
            attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    elif mode:
        attributes["auto_pad"] = mode
    if not mode.startswith("SAME") and draw(st.booleans()):  # ONNX and ONNX Runtime disagree on the two together
        attributes["output_padding"] = [draw(st.integers(0, max(stride - 1, 0))) for stride in strides]
    b = ModelBuilder(draw(st.integers(0, 99)))
    x = b.input((draw(st.integers(1, 2)), group * per_group, *extents))
    shape = (group * per_group, out_per_group, *kernel)
    operands = [x, b.input(shape) if draw(st.sampled_from([False, False, False, True])) else b.weights(*shape)]
    channels = group * out_per_group
    bias = draw(st.sampled_from(["", "constant", "input"]))
    if bias:
        operands.append(b.weights(channels) if bias == "constant" else b.input((channels,)))
    y = b.add("ConvTranspose", *operands, **attributes)
    return b.build(_activated(b, y, draw(st.sampled_from(ACTIVATIONS)), spatial, channels))


@examples(60)
@given(transposed_convolutions(), st.sampled_from(["ONNX", "NHWC"]))
def test_transposed_convolutions(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout)
