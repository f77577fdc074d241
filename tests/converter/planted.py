"""A target that makes a mistake in one node, and small models to make it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Graph, Model, Node, Value
from edgec.targets import registry
from edgec.targets.base import Lowered, TargetOptions

MISTAKES = ("sign", "scale", "order")


class Planted:
    """A target that lowers everything but one value right.

    Args:
        name: of the target that does the work.
        value: of the graph that is lowered; behind the node that computes it the mistake is made.
        mistake: ``sign`` flips it, ``scale`` gives twice the number, ``order`` reverses the last
            axis that has more than one entry.
    """

    def __init__(self, name: str, value: str, mistake: str):
        self._target, self._value, self._mistake = registry.load(name), value, mistake
        self.lowered = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """Lower a copy with the mistake, wherever its node is part of the model."""
        self.lowered += 1
        copy = copy_model(model)
        for node in list(copy.graph.nodes):
            for value in node.outputs:
                if value.name == self._value:
                    spoil(copy.graph, value, self._mistake)
                    return self._target.lower(copy, options)
        return self._target.lower(copy, options)


def spoil(graph: Graph, value: Value, mistake: str) -> None:
    """Let everybody read a wrong value."""
    assert value.producer is not None
    if mistake == "order":
        axis = max(axis for axis, extent in enumerate(value.shape or ()) if extent != 1)
        backwards = graph.constant(np.arange(value.shape[axis], dtype=np.int64)[::-1].copy(), "backwards")
        op, operands, attributes = "Gather", [value, backwards], {"axis": axis}
    else:
        factor = graph.constant(np.array(-1 if mistake == "sign" else 2, value.dtype.numpy), "factor")
        op, operands, attributes = "Mul", [value, factor], {}
    wrong = graph.value(f"{value.name}_wrong", value.dtype, value.shape)
    graph.replace(value, wrong)
    graph.insert_after(value.producer, Node(op, operands, [wrong], attributes, name="mistake"))


class Builder:
    """A small ONNX model with seeded weights, one node after the other; every node is named after its result."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """A float32 initializer."""
        size = scale if scale is not None else 1.4 / np.sqrt(np.prod(shape[1:]) or 1)
        return self.constant((self.rng.standard_normal(shape) * size).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *operands: str, count: int = 1, **attributes: object) -> str:
        """A node; the name of its first result."""
        name = f"{op.lower()}_{len(self.nodes)}"
        results = [name, *(f"{name}_{number}" for number in range(1, count))]
        self.nodes.append(helper.make_node(op, list(operands), results, name=name, **attributes))
        return name

    def conv(self, x: str, into: int, out: int, kernel: int = 3) -> str:
        """A convolution with bias that keeps the size."""
        pads = [kernel // 2] * 4
        return self.add("Conv", x, self.weight(out, into, kernel, kernel), self.weight(out, scale=0.1), pads=pads)

    def save(self, path: Path, *outputs: str) -> Path:
        """Write the model."""
        handed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, path.stem, [self.input], handed, self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(proto), path)
        return path


def chain(path: Path) -> Path:
    """Twenty elementwise and matrix operators in a row."""
    b = Builder((4, 16), 1)
    x = "x"
    for position in range(6):
        x = b.add("Gemm", x, b.weight(16, 16), b.weight(16))
        x = b.add(("Tanh", "Sigmoid", "Elu", "LeakyRelu")[position % 4], x)
    return b.save(path, b.add("Softmax", x))


def residual(path: Path) -> Path:
    """Convolutions with shortcuts around them."""
    b = Builder((1, 3, 12, 12), 2)
    x = b.conv("x", 3, 8)
    for _ in range(4):
        y = b.add("Relu", b.conv(x, 8, 8))
        x = b.add("Add", x, b.conv(y, 8, 8, 1))
    return b.save(path, b.add("GlobalAveragePool", x))


def branches(path: Path) -> Path:
    """Three arms of different depth that are joined."""
    b = Builder((1, 4, 10, 10), 3)
    stem = b.add("Relu", b.conv("x", 4, 6))
    arms = [b.conv(stem, 6, 4, 1)]
    arms.append(b.conv(b.add("Sigmoid", b.conv(stem, 6, 6)), 6, 4))
    arms.append(b.conv(b.add("MaxPool", stem, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]), 6, 4, 1))
    joined = b.add("Concat", *arms, axis=1)
    return b.save(path, b.conv(joined, 12, 5), b.add("ReduceMean", joined, axes=[2, 3]))


def attention(path: Path) -> Path:
    """One self-attention block."""
    b = Builder((1, 6, 16), 4)
    heads = []
    for _ in range(3):
        y = b.add("Add", b.add("MatMul", "x", b.weight(16, 16)), b.weight(16))
        y = b.add("Reshape", y, b.constant(np.array([1, 6, 2, 8], np.int64)))
        heads.append(b.add("Transpose", y, perm=[0, 2, 1, 3]))
    scores = b.add("MatMul", heads[0], b.add("Transpose", heads[1], perm=[0, 1, 3, 2]))
    mixed = b.add("MatMul", b.add("Softmax", b.add("Mul", scores, b.constant(np.float32(0.35)))), heads[2])
    mixed = b.add("Reshape", b.add("Transpose", mixed, perm=[0, 2, 1, 3]), b.constant(np.array([1, 6, 16], np.int64)))
    return b.save(path, b.add("Add", "x", b.add("MatMul", mixed, b.weight(16, 16))))


def gated(path: Path) -> Path:
    """A small branch, hardly visible in the output: the error is hidden there."""
    b = Builder((2, 12), 5)
    main = b.add("Gemm", "x", b.weight(12, 12, scale=3.0))
    side = b.add("Sigmoid", b.add("Gemm", "x", b.weight(12, 12)))
    small = b.add("Mul", b.add("Sin", b.add("Tanh", side)), b.constant(np.float32(0.01)))
    x = b.add("Add", main, small)
    return b.save(path, b.add("Neg", x))


def shuffle(path: Path) -> Path:
    """Channels that are split, moved and joined again."""
    b = Builder((1, 8, 6, 6), 6)
    x = b.conv("x", 8, 8)
    for _ in range(2):
        left = b.add("Split", x, axis=1, count=2)
        y = b.add("HardSwish", b.conv(f"{left}_1", 4, 4))
        x = b.add("Concat", left, y, axis=1)
        x = b.add("Reshape", x, b.constant(np.array([1, 2, 4, 6, 6], np.int64)))
        x = b.add("Transpose", x, perm=[0, 2, 1, 3, 4])
        x = b.add("Reshape", x, b.constant(np.array([1, 8, 6, 6], np.int64)))
    return b.save(path, x)


def pyramid(path: Path) -> Path:
    """Down and up again, with skips and two outputs."""
    b = Builder((1, 3, 16, 16), 7)
    one = b.add("Relu", b.conv("x", 3, 6))
    two = b.add("Relu", b.conv(b.add("AveragePool", one, kernel_shape=[2, 2], strides=[2, 2]), 6, 8))
    three = b.add("Relu", b.conv(b.add("MaxPool", two, kernel_shape=[2, 2], strides=[2, 2]), 8, 8))
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    up = b.add(
        "Resize", three, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    joined = b.conv(b.add("Concat", up, two, axis=1), 16, 6)
    return b.save(path, b.add("Sigmoid", b.conv(joined, 6, 2, 1)), b.conv(three, 8, 4, 1))


def norms(path: Path) -> Path:
    """Means, variances and powers, written out."""
    b = Builder((3, 20), 8)
    x = "x"
    for _ in range(3):
        x = b.add("Gemm", x, b.weight(20, 20), b.weight(20))
        centred = b.add("Sub", x, b.add("ReduceMean", x, axes=[1]))
        size = b.add("Sqrt", b.add("ReduceMean", b.add("Mul", centred, centred), axes=[1]))
        x = b.add("Exp", b.add("Tanh", b.add("Div", centred, size)))
    return b.save(path, x)


SYNTHETIC = (chain, residual, branches, attention, gated, shuffle, pyramid, norms)
