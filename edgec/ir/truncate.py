"""A model cut short, so that it hands out values from its middle."""

from __future__ import annotations

from collections.abc import Mapping

from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model, Value
from edgec.ir.passes.eliminate_dead_code import EliminateDeadCode


def truncate(model: Model, wanted: Mapping[str, Value]) -> Model:
    """A copy whose only outputs are the given values of the main graph, with nothing that they do not depend on.

    Inputs that are no longer needed are gone as well; those that stay keep their names, order, types and shapes.

    Args:
        model: left as it is.
        wanted: name of an output to the value of ``model`` that it hands out.

    Raises:
        KeyError: a value that no node of the main graph computes.
    """
    copy = copy_model(model)
    graph = copy.graph
    copies: dict[Value, Value] = {}
    for node, other in zip(list(model.graph.nodes), list(graph.nodes)):
        copies.update(zip(node.outputs, other.outputs))
    graph.clear_outputs()
    for name, value in wanted.items():
        graph.add_output(name, copies[value])
    EliminateDeadCode().apply(copy)
    graph.inputs = [value for value in graph.inputs if value.use_count]
    return copy
