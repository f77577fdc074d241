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
    feeds = {
        f"x{position}": array
        for position, array in enumerate(operands)
        if array is not None and position not in constant
    }
    lowered = lower(model)
    actual = run(lowered, feeds)
    wanted = (
        reference(model, feeds) if expected is None else {f"y{number}": array for number, array in enumerate(expected)}
    )
    for name, want in wanted.items():
        got = actual[name]
        assert got.dtype == want.dtype and got.shape == want.shape, (name, got.dtype, got.shape, want.dtype, want.shape)
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=relative, atol=absolute)
        else:
            np.testing.assert_array_equal(got, want)
    return lowered
