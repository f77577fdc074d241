"""Forms from before opset 7, as far as they have an exact new one (PyTorch's first exporters wrote opset 6)."""

from __future__ import annotations

from edgec.converter.importers.onnx.upgrades.table import int64s, rank_of, refuse, upgrades
from edgec.ir.graph import Graph, Node


@upgrades("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater", before=7, typed=True)
def broadcast(graph: Graph, node: Node) -> None:
    """Version 7: NumPy broadcasting.  Before, ``axis`` said where the second operand's axes begin in the first's."""
    wanted = int(node.attributes.pop("broadcast", 0))
    axis = node.attributes.pop("axis", None)
    node.attributes.pop("consumed_inputs", None)
    if not wanted or axis is None:
        return
    left, right = rank_of(node, 0), rank_of(node, 1)
    start = int(axis) + (left if int(axis) < 0 else 0)
    missing = left - start - right
    if missing < 0:
        raise refuse(node, f"broadcasting from axis {axis} does not fit ranks {left} and {right}")
    if missing:
        axes = int64s(graph, node, "axes", range(right, right + missing))
        node.set_input(1, graph.build(node, "Unsqueeze", [node.operand(1), axes]).output)


@upgrades("PRelu", before=7, typed=True)
def prelu(graph: Graph, node: Node) -> None:
    """PRelu-7: NumPy broadcasting.  Before, a 1-D slope of more than one element was per channel (axis 1)."""
    node.attributes.pop("consumed_inputs", None)
    slope = node.operand(1)
    left, right = rank_of(node, 0), rank_of(node, 1)
    if right == 1 and left > 2 and slope.shape is not None and slope.shape[0] != 1:
        axes = int64s(graph, node, "axes", range(1, left - 1))
        node.set_input(1, graph.build(node, "Unsqueeze", [slope, axes]).output)


@upgrades("Gemm", before=7)
def gemm(graph: Graph, node: Node) -> None:
    """Gemm-7: C always broadcasts."""
    node.attributes.pop("broadcast", None)


@upgrades("RNN", "LSTM", "GRU", before=7)
def recurrent(graph: Graph, node: Node) -> None:
    """Version 7: whether the sequence is handed out follows from the outputs in use."""
    node.attributes.pop("output_sequence", None)


@upgrades("Concat", before=4)
def concat(graph: Graph, node: Node) -> None:
    """Concat-4: the axis has no default; it was 1."""
    node.attributes.setdefault("axis", 1)


@upgrades("Selu", before=6)
def selu(graph: Graph, node: Node) -> None:
    """Selu-6: the defaults have more digits."""
    node.attributes.setdefault("alpha", 1.6732)
    node.attributes.setdefault("gamma", 1.0507)


@upgrades("LpPool", "GlobalLpPool", before=2)
def lp_pool(graph: Graph, node: Node) -> None:
    """Version 2: p is an integer."""
    order = node.attr_float("p", 2.0)
    if order != int(order):
        raise refuse(node, f"p is {order}")
    node.attributes["p"] = int(order)


@upgrades("Tile", before=6)
def tile(graph: Graph, node: Node) -> None:
    """Tile-6: repeats per axis; version 1 tiled one axis."""
    raise refuse(node, "the first form of Tile is not read")


@upgrades(
    *"Abs Ceil Clip Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log Max Mean Min Neg Reciprocal Relu "
    "Selu Sigmoid Sqrt Sum Tanh".split(),
    before=6,
)
def consumed_inputs(graph: Graph, node: Node) -> None:
    """Version 6: the hint about in-place computing is gone."""
    node.attributes.pop("consumed_inputs", None)
