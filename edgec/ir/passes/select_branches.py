"""Compute both branches of an If and select, where the condition is known only at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.inference import infer_node
from edgec.ir.passes.base import Pass, register, remove_dead, rewrite_each
from edgec.ir.passes.control_flow import copy_nodes
from edgec.ir.proto import all_nodes


@register
@dataclass(frozen=True)
class SelectBranches(Pass):
    """``If(c, then, else)`` becomes ``Where(c, then, else)`` for targets without control flow.

    Both branches are computed every time, so this applies only while their nodes together are at most ``limit``, none
    of them is a loop or random, and the two results have the same type and static shape.

    Source: ONNX operator specification, If-25.
    """

    name: ClassVar[str] = "select-branches"
    limit: int = 200

    def apply(self, model: Model) -> bool:
        changed = False
        while rewrite_each(model, "If", lambda graph, node: _select(graph, node, self.limit)):
            changed = True
        return changed


_NEVER = frozenset(
    "Loop Scan RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial".split()
)


def _select(graph: Graph, node: Node, limit: int) -> bool:
    branches = [node.attributes["then_branch"], node.attributes["else_branch"]]
    if any(not isinstance(branch, Graph) for branch in branches):
        return False
    inner = [item for branch in branches for item in all_nodes(branch)]
    if len(inner) > limit or any(item.op in _NEVER for item in inner):
        return False
    if any(item.subgraphs for item in inner):
        return False  # the innermost first
    pairs = list(zip(branches[0].outputs, branches[1].outputs))
    if any(not _alike(first, second) for first, second in pairs):
        return False
    results: list[list[Value]] = []
    for branch, prefix in zip(branches, ("then", "else")):
        mapping: dict[Value, Value] = {}
        for made in copy_nodes(branch, graph, node, mapping, f"{node.name}/{prefix}/"):
            infer_node(made)
        results.append([mapping.get(value, value) for value in branch.outputs])
    condition = node.operand(0)
    if condition.shape != ():
        shape = graph.constant(np.array([], np.int64), f"{node.name}_scalar")
        condition = graph.build(node, "Reshape", [condition, shape]).output
    for value, first, second in zip(node.outputs, *results):
        graph.replace(value, graph.build(node, "Where", [condition, first, second]).output)
    remove_dead(graph, node)
    return True


def _alike(first: Value, second: Value) -> bool:
    """Whether two results can be selected from: tensors of one type and static shape."""
    if first.type_proto is not None or second.type_proto is not None or first.dtype is not second.dtype:
        return False
    return first.is_static and second.is_static and first.dims == second.dims
