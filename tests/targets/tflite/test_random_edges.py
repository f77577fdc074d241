"""Edges of what a model may hold: tensors without elements, unusual names, values that are handed out twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

NAMES = ("x:0", "serving_default_x:0", "a/b/c", "model::layer::0", "größe", "入力", "with space", "0", "x.1", "-", "%7")


@st.composite
def renamed(draw: st.DrawFn) -> onnx.ModelProto:
    """A small model whose inputs and outputs have unusual names."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=4, max_size=4, unique=True))
    b = ModelBuilder()
    x, other = b.input((1, 2, 3, 3), name=names[0]), b.input((1, 2, 3, 3), name=names[1])
    y = b.add("Conv", x, b.weights(2, 2, 1, 1))
    b.nodes.append(onnx.helper.make_node("Add", [y, other], [names[2]], name="n:/1"))
    b.nodes.append(onnx.helper.make_node("Relu", [names[2]], [names[3]], name="n:/2"))
    return b.build(*names[2:])


@examples(15)
@given(renamed(), st.sampled_from(["ONNX", "NHWC"]))
def test_any_name(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, refusal=False)


@pytest.mark.parametrize("io_layout", ["ONNX", "NHWC"])
def test_an_input_an_intermediate_value_and_a_constant_are_outputs(io_layout: str) -> None:
    b = ModelBuilder()
    x = b.input((1, 2, 3, 3))
    y = b.add("Conv", x, b.weights(2, 2, 1, 1))
    z = b.add("Relu", y)
    model = b.build(x, y, z, b.weights(2, 3), b.add("Identity", z), b.add("Identity", x))
    assert_holds(model, io_layout=io_layout, refusal=False)


@pytest.mark.parametrize("io_layout", ["ONNX", "NHWC"])
def test_an_unused_input_stays(io_layout: str) -> None:
    b = ModelBuilder()
    x = b.input((1, 2, 3, 3))
    b.input((2, 2), np.int64)
    assert_holds(b.build(b.add("Relu", x)), io_layout=io_layout, refusal=False)


ONE_OPERAND = (
    "Relu",
    "Sigmoid",
    "Erf",
    "Softmax",
    "Identity",
    "Transpose",
    "Flatten",
    "Neg",
    "Cast",
    "ReduceSum",
    "ReduceMax",
    "ReduceMean",
    "ReduceProd",
    "Shape",
    "Size",
    "NonZero",
    "ArgMax",
    "GlobalAveragePool",
    "MaxPool",
    "LayerNormalization",
)


@st.composite
def empty_tensors(draw: st.DrawFn) -> onnx.ModelProto:
    """One operator on a tensor of which some extent is 0."""
    rank = draw(st.integers(1, 5))
    dims = [draw(st.integers(1, 3)) for _ in range(rank)]
    empty = draw(st.integers(0, rank - 1))
    dims[empty] = 0
    b = ModelBuilder()
    number: Any = draw(st.sampled_from([np.float32, np.float32, np.int32, np.int64]))
    axis = draw(st.integers(0, rank - 1))
    kind = draw(
        st.sampled_from(["one", "one", "one", "two", "concat", "slice", "pad", "matmul", "gather", "expand", "reshape"])
    )
    if kind == "slice":
        dims[empty] = 2
        x = b.input(dims, number)
        bounds = [b.constant([v], np.int64) for v in (1, 1, axis)]
        return b.build(b.add("Slice", x, *bounds))
    x = b.input(dims, number)
    if kind == "two":
        other = [1 if draw(st.booleans()) else dim for dim in dims]
        return b.build(b.add(draw(st.sampled_from(["Add", "Mul", "Less", "Max"])), x, b.input(other, number)))
    if kind == "concat":
        other = list(dims)
        other[empty] = draw(st.sampled_from([0, 2]))
        return b.build(b.add("Concat", x, b.input(other, number), axis=empty))
    if kind == "pad":
        pads = [draw(st.integers(0, 1)) for _ in range(2 * rank)]
        return b.build(b.add("Pad", x, b.constant(pads, np.int64)))
    if kind == "matmul":
        return b.build(b.add("MatMul", x, b.input((dims[-1], 2), number)))
    if kind == "gather":
        indices = b.constant(np.zeros([0, 2][: draw(st.integers(1, 2))], np.int64))
        return b.build(b.add("Gather", b.input([2, 3], number), indices, axis=draw(st.integers(0, 1))))
    if kind == "expand":
        return b.build(b.add("Expand", x, b.constant([1 if dim else 0 for dim in dims], np.int64)))
    if kind == "reshape":
        return b.build(b.add("Reshape", x, b.constant([3, 0], np.int64), allowzero=1))
    if np.dtype(number).kind == "f":
        op = draw(st.sampled_from([op for op in ONE_OPERAND if rank > 2 or "Pool" not in op]))
    else:
        op = draw(st.sampled_from(["Identity", "Transpose", "Neg", "ReduceSum", "ReduceMax", "Shape", "NonZero"]))
    attributes: dict[str, Any] = {}
    if op == "Cast":
        attributes["to"] = onnx.TensorProto.INT32
    if op == "MaxPool" and rank > 2:
        attributes["kernel_shape"] = [1] * (rank - 2)
    operands = [x, b.constant([axis], np.int64)] if op.startswith("Reduce") else [x]
    if op == "LayerNormalization":
        operands.append(b.constant(np.ones(dims[-1], np.float32)))
    return b.build(b.add(op, *operands, **attributes))


@examples(80)
@given(empty_tensors(), st.sampled_from(["ONNX", "NHWC"]))
def test_tensors_without_elements(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout)
