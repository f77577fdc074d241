"""Remove what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.graph import Model
from edgec.ir.passes.base import Pass, graphs_of, register


@register
@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Remove nodes none of whose outputs is used, last to first, in the graph and in control-flow bodies.

    A node with one used output keeps its other outputs.  Inputs and outputs of the model always stay.
    """

    name: ClassVar[str] = "eliminate-dead-code"

    def apply(self, model: Model) -> bool:
        changed = False
        for graph in reversed(list(graphs_of(model.graph))):
            for node in reversed(list(graph.nodes)):
                if node.graph is graph and not any(value.use_count for value in node.outputs):
                    graph.remove(node)
                    changed = True
        return changed
