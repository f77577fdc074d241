"""Upsample and the first Resize, which sampled from x_out / scale, in terms of today's Resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.converter.importers.onnx.upgrades.table import become, known, malformed, upgrades
from edgec.ir.graph import Graph, Node, Value


@upgrades("Upsample", before=7)
def upsample_sides(graph: Graph, node: Node) -> None:
    """Upsample-7: one list of scales instead of one attribute per image axis."""
    if "scales" not in node.attributes:
        height, width = node.attr_float("height_scale"), node.attr_float("width_scale")
        node.attributes = {"mode": node.attr_str("mode", "nearest"), "scales": [1.0, 1.0, height, width]}


@upgrades("Upsample", before=9)
def upsample_scales(graph: Graph, node: Node) -> None:
    """Upsample-9: the scales are an operand."""
    scales = node.attributes.pop("scales", None)
    if not isinstance(scales, list):
        raise malformed(node, "scales are missing")
    node.set_input(1, graph.constant(np.array(scales, np.float32), f"{node.name}_scales"))


@upgrades("Upsample", before=27)
def upsample(graph: Graph, node: Node) -> None:
    """Upsample is Resize since opset 10."""
    _resize(graph, node, node.operand(0), node.operand(1))


@upgrades("Resize", before=11)
def resize(graph: Graph, node: Node) -> None:
    """Resize-11: the operand roi came before the scales, and the way of sampling became a choice."""
    _resize(graph, node, node.operand(0), node.operand(1))


def _resize(graph: Graph, node: Node, data: Value, scales: Value) -> None:
    """Asymmetric coordinates.  Nearest took the sample below when enlarging and the one above when shrinking (ONNX
    Runtime's definition, which the stored outputs of ONNX's own tests follow), so mixed scales take two steps."""
    mode = "nearest" if node.attr_str("mode", "nearest") == "nearest" else "linear"
    tensor = known(scales)
    factors = [1.0] if tensor is None else [float(item) for item in tensor.numpy().reshape(-1)]
    shrinks = mode == "nearest" and any(factor < 1 for factor in factors)
    if shrinks and any(factor > 1 for factor in factors):
        first = _scales(graph, node, [min(factor, 1.0) for factor in factors])
        data = graph.build(node, "Resize", [data, None, first], **_attributes(mode, True)).output
        scales, shrinks = _scales(graph, node, [max(factor, 1.0) for factor in factors]), False
    become(node, "Resize", [data, None, scales], **_attributes(mode, shrinks))


def _scales(graph: Graph, node: Node, factors: Sequence[float]) -> Value:
    return graph.constant(np.array(factors, np.float32), f"{node.name}_scales")


def _attributes(mode: str, shrinks: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        attributes["nearest_mode"] = "ceil" if shrinks else "floor"
    return attributes


@upgrades("Resize", before=27)
def empty_operands(graph: Graph, node: Node) -> None:
    """Resize-13: what is not used is left out; before, and in many exporters since, it was an empty tensor."""
    for position in (1, 2, 3):
        tensor = known(node.input(position))
        if tensor is not None and tensor.size == 0:
            node.set_input(position, None)
    if node.input(1) is not None and node.attr_str("coordinate_transformation_mode", "half_pixel") != (
        "tf_crop_and_resize"
    ):
        node.set_input(1, None)
    while node.inputs and node.inputs[-1] is None:
        node.set_inputs(node.inputs[:-1])
