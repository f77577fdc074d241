"""Small ONNX models for sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_net(
    path: Path, batch: int | str | None = 1, size: int = 64, channels: int = 8, layers: int = 3, seed: int = 0
) -> Path:
    """``layers`` 3x3 convolutions with ReLU on ``x`` [batch, channels, size, size]; ``y`` their mean by channel."""
    generator = np.random.default_rng(seed)
    nodes, constants, value = [], [], "x"
    for layer in range(layers):
        weight = generator.standard_normal((channels, channels, 3, 3)).astype(np.float32) / 8
        constants.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], f"conv{layer}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        value = f"r{layer}"
    nodes.append(helper.make_node("ReduceMean", [value], ["y"], "mean", axes=[2, 3], keepdims=0))
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, [batch, channels, size, size])],
        [helper.make_tensor_value_info("y", kind, [batch, channels])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def sample(batch: int = 1, size: int = 64, channels: int = 8, seed: int = 0) -> np.ndarray:
    """An input of :func:`save_net`."""
    return np.random.default_rng(seed).standard_normal((batch, channels, size, size)).astype(np.float32)


def save_product(path: Path, extent: int = 512) -> Path:
    """``y`` = ``x`` [1, extent] times a constant of 4 * extent * extent bytes."""
    weight = np.random.default_rng(0).standard_normal((extent, extent)).astype(np.float32)
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "product",
        [helper.make_tensor_value_info("x", kind, [1, extent])],
        [helper.make_tensor_value_info("y", kind, [1, extent])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
