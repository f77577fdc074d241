"""Small broken and odd models for the fault tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def model(
    nodes: Sequence[NodeProto],
    *,
    shape: Sequence[int | str] = (1, 4),
    opsets: Sequence[tuple[str, int]] = (("", 17),),
    initializers: Sequence[TensorProto] = (),
    input_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model with the input ``x`` and the output ``y``, both float32 of one shape."""
    graph = helper.make_graph(
        list(nodes),
        "fault",
        [helper.make_tensor_value_info("x", input_type, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        list(initializers),
    )
    imports = [helper.make_opsetid(domain, number) for domain, number in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def relu(shape: Sequence[int | str] = (1, 4)) -> onnx.ModelProto:
    """y = relu(x)."""
    return model([helper.make_node("Relu", ["x"], ["y"], name="relu")], shape=shape)


def cyclic() -> onnx.ModelProto:
    """Two nodes that wait for each other."""
    first = helper.make_node("Add", ["x", "b"], ["a"], name="first")
    return model([first, helper.make_node("Relu", ["a"], ["b"], name="second"), helper.make_node("Relu", ["b"], ["y"])])


def wrong_type() -> onnx.ModelProto:
    """Add of a float and an int64."""
    weight = numpy_helper.from_array(np.ones(4, np.int64), "w")
    return model([helper.make_node("Add", ["x", "w"], ["y"], name="add")], initializers=[weight])


def short_tensor() -> onnx.ModelProto:
    """An initializer whose bytes do not fill its shape."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"\0" * 12)
    return model([helper.make_node("Add", ["x", "w"], ["y"], name="add")], initializers=[weight])


def unknown_operator(domain: str = "") -> onnx.ModelProto:
    """A node whose operator nobody defines."""
    opsets = [("", 17)] + ([(domain, 1)] if domain else [])
    return model([helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain=domain)], opsets=opsets)


def external(location: str) -> onnx.ModelProto:
    """y = x + w, with w in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    return model([helper.make_node("Add", ["x", "w"], ["y"], name="add")], initializers=[weight])


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write the message as it is, without the checks of ``onnx.save``."""
    path.write_bytes(proto.SerializeToString())
    return path
