"""Softmax, LogSoftmax and Hardmax before opset 13 normalise over all axes from ``axis`` on, not over one."""

from __future__ import annotations

from edgec.converter.importers.onnx.upgrades.table import become, int64s, upgrades
from edgec.ir.graph import Graph, Node
from edgec.ir.types import is_static, static


@upgrades("Softmax", "LogSoftmax", "Hardmax", before=13, typed=True)
def flattened(graph: Graph, node: Node) -> None:
    """Softmax-13: one axis.  Where at most one of the flattened axes is longer than 1 that is the axis; else the
    operand is flattened to two axes, normalised over the second, and takes its own shape again."""
    data, axis = node.operand(0), node.attr_int("axis", 1)
    if data.shape is not None:
        rank = len(data.shape)
        axis += rank if axis < 0 else 0
        long = [position for position in range(axis, rank) if data.shape[position] != 1]
        if len(long) <= 1 and axis < rank:
            node.attributes["axis"] = long[0] if long else axis
            return
    flat = graph.build(node, "Flatten", [data], axis=axis)
    normal = graph.build(node, node.op, [flat.output], axis=-1)
    if is_static(data.shape):
        shape = int64s(graph, node, "shape", static(data.shape))
    else:
        shape = graph.build(node, "Shape", [data]).output
    allow = {"allowzero": 1} if is_static(data.shape) and 0 in static(data.shape) else {}
    become(node, "Reshape", [normal.output, shape], **allow)
