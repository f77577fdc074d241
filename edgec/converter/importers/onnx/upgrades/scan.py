"""Scan-8, which ran over a batch, as Scan-9 per sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.converter.importers.onnx.upgrades.table import int64s, malformed, refuse, upgrades
from edgec.ir.graph import Graph, Node, Value
from edgec.ir.passes.control_flow import copy_graph


@upgrades("Scan", before=9, typed=True)
def scan(graph: Graph, node: Node) -> None:
    """Scan-9: no batch axis and no sequence lengths.  Every sample is taken out, scanned and stacked again."""
    if node.input(0) is not None:
        raise refuse(node, "sequence lengths of Scan-8 have no newer form")
    body = node.attributes["body"]
    if not isinstance(body, Graph):
        raise malformed(node, "body is no graph")
    operands = [value for value in node.inputs[1:] if value is not None]
    extents = {value.shape[0] for value in operands if value.shape}
    batch = next(iter(extents), None)
    if len(extents) != 1 or not isinstance(batch, int) or batch < 1:
        raise refuse(node, "the batch extent is unknown")
    attributes: dict[str, Any] = {"num_scan_inputs": node.attr_int("num_scan_inputs")}
    if "directions" in node.attributes:
        attributes["scan_input_directions"] = node.attributes["directions"]
    results: list[list[Value]] = [[] for _ in node.outputs]
    axis = int64s(graph, node, "batch_axis", [0])
    for sample in range(batch):
        index = graph.constant(np.array(sample, np.int64), f"{node.name}_sample")
        picked = [graph.build(node, "Gather", [value, index], axis=0).output for value in operands]
        inner = copy_graph(body, graph, {})
        made = graph.build(node, "Scan", picked, outputs=len(node.outputs), **attributes, body=inner)
        for position, value in enumerate(made.outputs):
            results[position].append(graph.build(node, "Unsqueeze", [value, axis]).output)
    for value, parts in zip(node.outputs, results):
        graph.replace(value, graph.build(node, "Concat", parts, axis=0).output)
    graph.remove(node)
