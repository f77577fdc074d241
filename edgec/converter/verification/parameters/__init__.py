"""Values for run-time parameters that depend on each other or on the shape of a result.

The shape given to a Reshape must have as many elements as its data, the starts and ends of a Slice must give the
declared extents.  For every node with such operands among the graph's inputs :func:`find_plans` returns a plan: a
function that draws all of them at once, so that they fit together and give the declared output shape.

Source: the operators' specifications in https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from edgec.converter.verification.parameters import boxes, indices, shapes, signals, windows  # noqa: F401  (HANDLERS)
from edgec.converter.verification.parameters.call import HANDLERS, Call, Draw
from edgec.ir.graph import Graph, Value

_SAME_VALUES = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def _origin(value: Value | None, inputs: set[Value]) -> Value | None:
    """The graph input whose elements a value holds in the same order, or None."""
    while value is not None and value not in inputs:
        node = value.producer
        if node is None or node.op not in _SAME_VALUES or node.domain:
            return None
        value = node.input(0)
    return value


def find_plans(graph: Graph) -> list[tuple[Call, Draw]]:
    """Every node whose operands must be drawn together, and how."""
    inputs = set(graph.inputs)
    plans: list[tuple[Call, Draw]] = []
    for node in graph.nodes:
        handler = HANDLERS.get(node.op) if not node.domain else None
        if handler is None:
            continue
        free = {}
        for position, value in enumerate(node.inputs):
            source = _origin(value, inputs)
            if source is not None and (position or node.op not in _DATA_FIRST):
                free[position] = source
        if free:
            call = Call(node, free)
            draw = handler(call)
            if draw is not None:
                plans.append((call, draw))
    return plans


_DATA_FIRST = frozenset(HANDLERS) - {
    "ConstantOfShape",
    "RandomNormal",
    "RandomUniform",
    "Range",
    "HannWindow",
    "HammingWindow",
    "BlackmanWindow",
    "MelWeightMatrix",
    "NonMaxSuppression",
}
"""Operators whose operand 0 is data and never drawn by a plan."""
