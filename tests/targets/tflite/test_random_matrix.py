"""Matrix products of every rank, broadcast and element type equal ONNX Runtime's."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples
from tests.targets.tflite.test_random_arithmetic import broadcast_operand

NUMBERS = (np.float32, np.float32, np.float32, np.float32, np.float16, np.int32, np.int64)


@st.composite
def products(draw: st.DrawFn) -> onnx.ModelProto:
    """MatMul of operands of rank 1 to 6, either of them constant or transposed or with a bias and activation."""
    b = ModelBuilder(draw(st.integers(0, 99)))
    rows, inner, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    batch = [draw(st.integers(1, 3)) for _ in range(draw(st.sampled_from([0, 0, 1, 2, 3, 4])))]
    number = draw(st.sampled_from(NUMBERS))
    left: list[int] = [*broadcast_operand(draw, batch), rows, inner]
    right: list[int] = [*broadcast_operand(draw, batch), inner, columns]
    vector = draw(st.sampled_from(["", "", "", "left", "right", "both"]))
    if vector in ("left", "both"):
        left = [inner]
    if vector in ("right", "both"):
        right = [inner]
    operands = []
    for shape in (left, right):
        swapped = len(shape) >= 2 and draw(st.sampled_from([False, False, True]))
        given_shape = [*shape[:-2], shape[-1], shape[-2]] if swapped else shape
        if draw(st.sampled_from([False, False, True])):
            value = b.constant(b.random.integers(-4, 5, given_shape).astype(number))
        else:
            value = b.input(given_shape, number)
        if swapped:
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            value = b.add("Transpose", value, perm=order)
        operands.append(value)
    y = b.add("MatMul", *operands)
    if number is np.float32 and vector not in ("right", "both") and draw(st.booleans()):
        y = b.add("Add", y, b.weights(columns))
    if np.dtype(number).kind == "f" and draw(st.booleans()):
        y = b.add("Relu", y)
    return b.build(y)


@examples(60)
@given(products(), st.sampled_from(["ONNX", "NHWC"]))
def test_matrix_products(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)


@st.composite
def gemms(draw: st.DrawFn) -> onnx.ModelProto:
    """Gemm with every attribute and every broadcast of C."""
    b = ModelBuilder(draw(st.integers(0, 99)))
    rows, inner, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    number = draw(st.sampled_from([np.float32, np.float32, np.float32, np.float16]))
    a_swapped, b_swapped = draw(st.booleans()), draw(st.booleans())
    shapes = [[inner, rows] if a_swapped else [rows, inner], [columns, inner] if b_swapped else [inner, columns]]
    bias = draw(st.sampled_from([None, [columns], [1], [], [rows, columns], [1, columns], [rows, 1], [1, 1]]))
    if bias is not None:
        shapes.append(bias)
    operands = [
        b.constant(b.random.integers(-4, 5, shape).astype(number)) if draw(st.booleans()) else b.input(shape, number)
        for shape in shapes
    ]
    attributes: dict[str, object] = {"transA": int(a_swapped), "transB": int(b_swapped)}
    if draw(st.booleans()):
        attributes["alpha"] = draw(st.sampled_from([0.5, 0.0, -1.5]))
    if draw(st.booleans()):
        attributes["beta"] = draw(st.sampled_from([0.25, 0.0, -2.0]))
    y = b.add("Gemm", *operands, **attributes)
    return b.build(b.add("Relu", y) if number is np.float32 and draw(st.booleans()) else y)


@examples(60)
@given(gemms(), st.sampled_from(["ONNX", "NHWC"]))
def test_gemms(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)
