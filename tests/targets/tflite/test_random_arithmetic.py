"""Elementwise operators over every rank, broadcast and element type equal ONNX Runtime's, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.tflite.random_models import ModelBuilder, assert_holds, examples

FLOATS = (np.float32, np.float32, np.float32, np.float16)
INTEGERS = (np.int32, np.int64, np.uint8, np.int8)


def broadcast_operand(draw: st.DrawFn, dims: list[int]) -> list[int]:
    """A shape that broadcasts to another: some axes of extent 1, some leading axes missing."""
    kept = [1 if draw(st.sampled_from([False, False, True])) else dim for dim in dims]
    return kept[draw(st.sampled_from([0, 0, 0, len(kept) // 2, len(kept)])) :]


def operand(draw: st.DrawFn, b: ModelBuilder, shape: list[int], dtype: Any, positive: bool = False) -> str:
    """An input or a constant; ``positive`` keeps divisors away from zero."""
    if positive or draw(st.sampled_from([False, False, True])):
        array = b.random.integers(1, 5, shape).astype(dtype)
        return b.constant(array if positive or np.dtype(dtype).kind in "iu" else array - array.dtype.type(2.5))
    return b.input(shape, dtype)


@st.composite
def binaries(draw: st.DrawFn) -> onnx.ModelProto:
    """Two or three operands that broadcast, of rank 0 to 7."""
    dims = [draw(st.integers(1, 3)) for _ in range(draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 6, 6, 7])))]
    kind = draw(
        st.sampled_from(["arithmetic", "divide", "compare", "logic", "extremum", "where", "pow", "mod", "prelu"])
    )
    b = ModelBuilder(draw(st.integers(0, 99)))
    number = draw(st.sampled_from([*FLOATS, *INTEGERS]))
    shapes = [dims, broadcast_operand(draw, dims)]
    if draw(st.booleans()):
        shapes.reverse()
    if kind == "logic":
        op = draw(st.sampled_from(["And", "Or", "Xor"]))
        return b.build(b.add(op, *(b.input(shape, np.bool_) for shape in shapes)))
    if kind == "where":
        number = draw(st.sampled_from([*FLOATS, *INTEGERS]))
        condition = b.input(broadcast_operand(draw, dims), np.bool_)
        return b.build(b.add("Where", condition, *(operand(draw, b, shape, number) for shape in shapes)))
    if kind == "pow":
        number = draw(st.sampled_from([*FLOATS, np.int32, np.int64]))
        base = b.add("Abs", operand(draw, b, shapes[0], number))
        exponent = b.random.integers(0, 4, shapes[1]).astype(draw(st.sampled_from([np.float32, np.int32, np.int64])))
        return b.build(b.add("Pow", base, b.constant(exponent)))
    if kind == "mod":
        operands = [operand(draw, b, shapes[0], number), operand(draw, b, shapes[1], number, positive=True)]
        return b.build(b.add("Mod", *operands, fmod=int(np.dtype(number).kind == "f" or draw(st.booleans()))))
    if kind == "prelu":
        number = draw(st.sampled_from([np.float32, np.float32, np.int32, np.int64]))
        return b.build(b.add("PRelu", b.input(dims, number), operand(draw, b, broadcast_operand(draw, dims), number)))
    if kind == "divide":
        operands = [operand(draw, b, shapes[0], number), operand(draw, b, shapes[1], number, positive=True)]
        return b.build(b.add("Div", *operands))
    if kind == "compare":
        number = draw(st.sampled_from([*FLOATS, *INTEGERS, np.bool_]))
        op = draw(st.sampled_from(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]))
        if number is np.bool_:
            return b.build(b.add("Equal", *(b.input(shape, np.bool_) for shape in shapes)))
        return b.build(b.add(op, *(operand(draw, b, shape, number) for shape in shapes)))
    if kind == "extremum":
        op = draw(st.sampled_from(["Max", "Min", "Sum", "Mean"]))
        number = draw(st.sampled_from(FLOATS if op in ("Sum", "Mean") else [*FLOATS, *INTEGERS]))
        shapes.append(broadcast_operand(draw, dims))
        return b.build(b.add(op, *(operand(draw, b, shape, number) for shape in shapes[: draw(st.integers(1, 3))])))
    op = draw(st.sampled_from(["Add", "Sub", "Mul"]))
    y = b.add(op, *(operand(draw, b, shape, number) for shape in shapes))
    return b.build(b.add("Relu", y) if draw(st.booleans()) else y)


@examples(60)
@given(binaries(), st.sampled_from(["ONNX", "NHWC"]))
def test_operators_of_several_operands(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)


UNARY: dict[str, tuple[Any, ...]] = {
    "Abs": (*FLOATS, *INTEGERS),
    "Neg": (*FLOATS, np.int32, np.int64, np.int8),
    "Sign": (*FLOATS, *INTEGERS),
    "Relu": (*FLOATS, np.int32, np.int64, np.int8),
    "Clip": (*FLOATS, *INTEGERS),
    "Not": (np.bool_,),
    **dict.fromkeys(
        ["Ceil", "Floor", "Round", "Exp", "Sin", "Cos", "Tanh", "Sigmoid", "Erf", "Reciprocal", "Identity"], FLOATS
    ),
    **dict.fromkeys(
        ["LeakyRelu", "HardSwish", "HardSigmoid", "Gelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Softplus"],
        FLOATS,
    ),
    **dict.fromkeys(["Mish", "Softsign", "Softmax", "LogSoftmax", "Hardmax", "Tan", "Atan", "Asinh"], FLOATS),
}


@st.composite
def unaries(draw: st.DrawFn) -> onnx.ModelProto:
    """One operand of rank 0 to 7, every element type; casts between all types."""
    op = draw(st.sampled_from([*UNARY, "Cast", "Cast", "Cast"]))
    dims = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 8)))]
    b = ModelBuilder()
    if op == "Cast":
        types = [np.float32, np.float16, *INTEGERS, np.bool_]
        source, result = draw(st.sampled_from(types)), draw(st.sampled_from(types))
        x = b.input(dims, source)
        if np.dtype(source).kind in "fi" and np.dtype(result).kind == "u":
            x = b.add("Abs", x)
        return b.build(b.add("Cast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(result))))
    number = draw(st.sampled_from(UNARY[op]))
    x = b.input(dims, number)
    attributes: dict[str, Any] = {}
    if op in ("LeakyRelu", "HardSigmoid", "Elu", "Celu", "Selu", "ThresholdedRelu") and draw(st.booleans()):
        attributes["alpha"] = draw(st.sampled_from([0.3, 1.5]))
    if op in ("Softmax", "LogSoftmax", "Hardmax") and dims:
        attributes["axis"] = draw(st.integers(-len(dims), len(dims) - 1))
    if op == "Gelu":
        attributes["approximate"] = draw(st.sampled_from(["none", "tanh"]))
    if op == "Clip":
        low = b.constant(2, number) if draw(st.booleans()) else ""
        high = b.input((), number) if draw(st.booleans()) else b.constant(4, number)
        return b.build(b.add("Clip", x, low, high))
    return b.build(b.add(op, x, **attributes))


@examples(60)
@given(unaries(), st.sampled_from(["ONNX", "NHWC"]))
def test_operators_of_one_operand(model: onnx.ModelProto, io_layout: str) -> None:
    assert_holds(model, io_layout=io_layout, tolerance=1e-3)
