"""Operators of the domain ai.onnx.ml in terms of the default domain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node
from edgec.ir.passes.base import Pass, graphs_of, register, replace_node
from edgec.ir.types import DataType

DOMAIN = "ai.onnx.ml"


@register
@dataclass(frozen=True)
class RewriteMl(Pass):
    """``Binarizer(x)`` becomes ``Cast(x > threshold)``, ``ArrayFeatureExtractor(x, i)`` a Gather along the last axis,
    ``Scaler(x)`` ``(x - offset) * scale``.

    Source: ONNX-ML operator specification, Binarizer-1, ArrayFeatureExtractor-1, Scaler-1.
    """

    name: ClassVar[str] = "rewrite-ml"

    def apply(self, model: Model) -> bool:
        changed = False
        for graph in graphs_of(model.graph):
            for node in graph.nodes:
                rewrite = _TABLE.get(node.op) if node.domain == DOMAIN else None
                if rewrite is not None and rewrite(graph, node):
                    changed = True
        return changed


def _binarizer(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.dtype is not DataType.FLOAT:
        return False
    threshold = graph.constant(np.array(node.attr_float("threshold", 0.0), np.float32), f"{node.name}_threshold")
    above = graph.build(node, "Greater", [x, threshold]).output
    replace_node(graph, node, graph.build(node, "Cast", [above], to=int(DataType.FLOAT)).output)
    return True


def _array_feature_extractor(graph: Graph, node: Node) -> bool:
    x, indices = node.operand(0), node.operand(1)
    if x.shape is None or not indices.is_static or not node.output.is_static:
        return False
    flat = graph.constant(np.array([-1], np.int64), f"{node.name}_flat")
    listed = graph.build(node, "Reshape", [indices, flat]).output
    picked = graph.build(node, "Gather", [x, listed], axis=len(x.shape) - 1).output
    shape = graph.constant(np.array(node.output.dims, np.int64), f"{node.name}_shape")
    replace_node(graph, node, graph.build(node, "Reshape", [picked, shape]).output)
    return True


def _scaler(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.dtype is not DataType.FLOAT:
        return False
    offset = graph.constant(np.array(node.attributes.get("offset", [0.0]), np.float32), f"{node.name}_offset")
    scale = graph.constant(np.array(node.attributes.get("scale", [1.0]), np.float32), f"{node.name}_scale")
    moved = graph.build(node, "Sub", [x, offset]).output
    replace_node(graph, node, graph.build(node, "Mul", [moved, scale]).output)
    return True


_TABLE: dict[str, Callable[[Graph, Node], bool]] = {
    "Binarizer": _binarizer,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Scaler": _scaler,
}
