"""A small network with one place that int8 cannot hold, and its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.ir.types import Array

BAD = ("spread", "gather")
"""Between these two nodes channels differ by a factor of 400: with one scale the small ones are lost."""


def network(folder: Path, spread: float = 400) -> Path:
    """Conv+Relu twice, the bad place, another Conv and classes: x[1,3,12,12] to y[1,4].

    Args:
        spread: factor between the largest and the smallest channel in the bad place.
    """
    generator = np.random.default_rng(7)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        size = float(np.prod(shape[1:]))
        return numpy_helper.from_array((generator.standard_normal(shape) * (2 / size) ** 0.5).astype(np.float32), name)

    factors = (
        np.geomspace(1 / spread**0.5, spread**0.5, 6).astype(np.float32)[generator.permutation(6)].reshape(1, 6, 1, 1)
    )
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["r2"], "second_activation"),
        helper.make_node("Mul", ["r2", "factors"], ["wide"], "spread"),
        helper.make_node("Div", ["wide", "factors"], ["narrow"], "gather_exact"),
        helper.make_node("MaxPool", ["narrow"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w3", "b3"], ["c3"], "third"),
        helper.make_node("Relu", ["c3"], ["r3"], "third_relu"),
        helper.make_node("GlobalAveragePool", ["r3"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], "classes", transB=1),
    ]
    nodes[5] = helper.make_node("Mul", ["wide", "inverse"], ["narrow"], "gather")
    held = [weights("w1", 6, 3, 3, 3), weights("b1", 6), weights("w2", 6, 6, 3, 3), weights("b2", 6)]
    held += [weights("w3", 8, 6, 3, 3), weights("b3", 8), weights("w4", 4, 8), weights("b4", 4)]
    held += [numpy_helper.from_array(factors, "factors"), numpy_helper.from_array(1 / factors, "inverse")]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        held,
    )
    path = folder / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def samples(count: int = 12, seed: int = 1) -> Array:
    """Inputs [count, 1, 3, 12, 12]."""
    return np.random.default_rng(seed).standard_normal((count, 1, 3, 12, 12)).astype(np.float32)


def saved(folder: Path, name: str = "calibration.npz", **arrays: Array) -> Path:
    """A file of data; :func:`samples` by default."""
    path = folder / name
    np.savez(path, **(arrays or {"x": samples()}))
    return path
