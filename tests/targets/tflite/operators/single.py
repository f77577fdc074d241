"""One-node models: lowered, run in LiteRT and compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto
from edgec.targets.base import Lowered, TargetOptions
from edgec.targets.tflite import TARGET

from ..lowered import run

OPSET = 22


def node_model(
    op: str,
    operands: Sequence[np.ndarray | None],
    *,
    constant: Sequence[int] = (),
    outputs: int = 1,
    opset: int = OPSET,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; operands whose positions are in `constant` become initializers, the others inputs."""
    names = ["" if array is None else f"x{position}" for position, array in enumerate(operands)]
    results = [f"y{number}" for number in range(outputs)]
    node = helper.make_node(op, names, results, name=op, **attributes)
    held = [(name, array) for name, array in zip(names, operands, strict=True) if array is not None]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in held
        if int(name[1:]) not in constant
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in held if int(name[1:]) in constant]
    declared = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph([node], op, inputs, declared, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


WEIGHTS = {"MatMulInteger": (0, 1, 3), "QLinearMatMul": (0, 3, 5), "QLinearConv": (0, 3, 5)}
"""Where data, weights and the zero point of these stand."""


def unsigned(op: str, operands: Sequence[np.ndarray | None]) -> Sequence[np.ndarray | None]:
    """The same operands with uint8 weights beside uint8 data.

    On x86-64 CPUs without VNNI ONNX Runtime limits sums of two products of uint8 by int8 to 16 bits.
    """
    data, weights, zero = WEIGHTS.get(op, (0, 0, 0))
    first, second = operands[data], operands[weights]
    if not zero or first is None or second is None or first.dtype != np.uint8 or second.dtype != np.int8:
        return operands
    found = [*operands, *[None] * (zero + 1 - len(operands))]
    origin = found[zero]
    found[weights] = (second.astype(np.int16) + 128).astype(np.uint8)
    found[zero] = np.asarray(128 if origin is None else origin.astype(np.int16) + 128, np.uint8)
    return found


def expectation(
    op: str, operands: Sequence[np.ndarray | None], constant: Sequence[int], outputs: int, attributes: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes, with exact products."""
    exact = unsigned(op, operands)
    model = node_model(op, exact, constant=constant, outputs=outputs, **attributes)
    return reference(model, feeds_of(exact, constant))


def feeds_of(operands: Sequence[np.ndarray | None], constant: Sequence[int]) -> dict[str, np.ndarray]:
    """The operands that are inputs."""
    return {
        f"x{position}": array
        for position, array in enumerate(operands)
        if array is not None and position not in constant
    }


def lower(model: onnx.ModelProto) -> Lowered:
    """The lowered model."""
    held = model_from_proto(model)
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(held)
    return TARGET.lower(held, TargetOptions())


def assert_same(
    op: str,
    operands: Sequence[np.ndarray | None],
    *,
    constant: Sequence[int] = (),
    outputs: int = 1,
    relative: float = 1e-5,
    absolute: float = 1e-6,
    expected: Sequence[np.ndarray] | None = None,
    **attributes: Any,
) -> Lowered:
    """LiteRT computes what ONNX Runtime does (or `expected`); integers exactly.  Returns the program."""
    model = node_model(op, operands, constant=constant, outputs=outputs, **attributes)
    lowered = lower(model)
    actual = run(lowered, feeds_of(operands, constant))
    wanted = (
        expectation(op, operands, constant, outputs, attributes)
        if expected is None
        else {f"y{number}": array for number, array in enumerate(expected)}
    )
    for name, want in wanted.items():
        got = actual[name]
        assert got.dtype == want.dtype and got.shape == want.shape, (name, got.dtype, got.shape, want.dtype, want.shape)
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=relative, atol=absolute)
        else:
            np.testing.assert_array_equal(got, want)
    return lowered
