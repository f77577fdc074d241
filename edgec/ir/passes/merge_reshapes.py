"""Write a chain of operators that only change the shape as one Reshape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each

SHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@register
@dataclass(frozen=True)
class MergeReshapes(Pass):
    """Of Reshape, Squeeze, Unsqueeze and Flatten in a row, only the last shape matters.

    The last one becomes a Reshape of what enters the first, or goes away if the shapes are equal.  All shapes involved
    are static.  The others stay where something else uses them.
    """

    name: ClassVar[str] = "merge-reshapes"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, SHAPING, _merge)


def _merge(graph: Graph, node: Node) -> bool:
    if not node.output.is_static:
        return False
    first: Value = node.operand(0)
    above: list[Node] = []
    while first.producer is not None and first.producer.op in SHAPING and not first.producer.domain:
        if first.producer.graph is not graph:
            break
        above.append(first.producer)
        first = first.producer.operand(0)
    if not above or not first.is_static:
        return False
    sources = tuple(dict.fromkeys(name for item in (*reversed(above), node) for name in item.sources))
    if first.dims == node.output.dims:
        replace_node(graph, node, first)
        return True
    made = reshape(graph, node, first, node.output.dims)
    made.sources = sources
    replace_node(graph, node, made.output)
    return True


def reshape(graph: Graph, before: Node, value: Value, dims: tuple[int, ...]) -> Node:
    """A new Reshape to a static shape."""
    wanted = graph.constant(np.array(dims, np.int64), f"{before.name}_shape")
    return graph.build(before, "Reshape", [value, wanted], hint=before.name, allowzero=int(0 in dims))
