"""Pooling of every rank and attribute equals ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples


@st.composite
def pools(draw: st.DrawFn) -> onnx.ModelProto:
    """MaxPool (with indices or without), AveragePool and LpPool over 1 to 3 axes."""
    op = draw(st.sampled_from(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"]))
    spatial = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    strides = [draw(st.integers(1, 4)) for _ in range(spatial)]
    dilations = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(spatial)]
    mode = draw(st.sampled_from(["pads", "pads", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode.startswith("SAME"):
        dilations = [1] * spatial
        strides = [min(stride, size) for stride, size in zip(strides, kernel)]  # else ONNX Runtime pads negatively
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    attributes: dict[str, object] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    extents = [draw(st.integers(1 if mode.startswith("SAME") else size, 12)) for size in reach]
    if mode == "pads":
        attributes["pads"] = [draw(st.integers(0, size - 1)) for _ in range(2) for size in kernel]
    elif mode:
        attributes["auto_pad"] = mode
    if draw(st.booleans()):
        attributes["ceil_mode"] = 1
    b = ModelBuilder()
    dtype = np.float32
    if op == "AveragePool" and draw(st.booleans()):
        attributes["count_include_pad"] = 1
    if op == "LpPool":
        attributes["p"] = draw(st.integers(1, 3))
    if op == "MaxPool" and draw(st.sampled_from([False, False, True])):
        dtype = draw(st.sampled_from([np.int8, np.uint8]))
    x = b.input((draw(st.integers(1, 2)), draw(st.integers(1, 3)), *extents), dtype)
    if op == "MaxPool" and draw(st.booleans()):
        attributes["storage_order"] = draw(st.sampled_from([0, 0, 0, 1]))
        y = b.add("MaxPool", x, outputs=2, **attributes)
        return b.build(y, f"{y}_1")
    if dtype is np.float32 and draw(st.booleans()):
        x = b.add("Relu", x)
    return b.build(b.add(op, x, **attributes))


@examples(80)
@given(pools(), st.sampled_from(["ONNX", "NHWC"]))
def test_pools(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout)


@st.composite
def global_pools(draw: st.DrawFn) -> onnx.ModelProto:
    """Global pools over 0 to 4 spatial axes."""
    op = draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]))
    b = ModelBuilder(opset=21)
    x = b.input([draw(st.integers(1, 4)) for _ in range(draw(st.integers(3, 5)))])
    attributes = {"p": draw(st.integers(1, 3))} if op == "GlobalLpPool" else {}
    return b.build(b.add(op, x, **attributes))


@examples(15)
@given(global_pools(), st.sampled_from(["ONNX", "NHWC"]))
def test_global_pools(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, refusal=False)
