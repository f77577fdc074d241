"""How often a Loop runs whose condition is computed in the loop, but from nothing that the model's inputs can change.

Keras' recurrent layers come as loops that count: ``time < steps`` with a carried ``time`` that starts at 0.  Such a
loop has a constant trip count although its condition is no constant; running the counter alone tells it.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.evaluate import compute
from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import Array

MAX_TRIPS = 100_000
"""Most iterations that are counted."""
LARGEST = 64
"""Most elements of a carried value that takes part in counting."""


def count_trips(node: Node, limit: int | None) -> int | None:
    """The number of iterations of a Loop that starts, None where it depends on what is known only at run time.

    Args:
        limit: its trip count operand, None if it has none.
    """
    body = node.attributes["body"]
    assert isinstance(body, Graph)
    carried = dict(zip(body.inputs[2:], zip(node.inputs[2:], body.outputs[1:])))
    cone = _cone(body, carried)
    if cone is None:
        return None
    needed, nodes = cone
    known: dict[Value, Array] = {}
    for value in needed:
        start = carried[value][0]
        if start is None or start.const is None or start.numpy().size > LARGEST:
            return None
        known[value] = start.numpy()
    for iteration in range(MAX_TRIPS if limit is None else min(limit, MAX_TRIPS)):
        results = {body.inputs[0]: np.array(iteration, np.int64), body.inputs[1]: np.array(True), **known}
        for inner in nodes:
            found = compute(inner, [None if item is None else _value(item, results) for item in inner.inputs])
            if found is None:
                return None
            results.update(zip(inner.outputs, found))
        condition = _value(body.outputs[0], results)
        if condition is None:
            return None
        if not bool(condition.reshape(-1)[0]):
            return iteration + 1
        for value in needed:
            following = _value(carried[value][1], results)
            if following is None or following.size > LARGEST:
                return None
            known[value] = following
    return limit if limit is not None and limit <= MAX_TRIPS else None


def _value(value: Value, results: dict[Value, Array]) -> Array | None:
    return value.numpy() if value.const is not None else results.get(value)


def _cone(body: Graph, carried: dict[Value, tuple[Value | None, Value]]) -> tuple[list[Value], list[Node]] | None:
    """The carried values and nodes that the condition is computed from; None if it takes anything else."""
    inside = set(body.nodes)
    counters = {body.inputs[0], body.inputs[1]}
    needed: list[Value] = []
    wanted: set[Node] = set()
    queue = [body.outputs[0]]
    while queue:
        value = queue.pop()
        if value.const is not None or value in counters:
            continue
        if value in carried:
            if value not in needed:
                needed.append(value)
                queue.append(carried[value][1])
        elif value.producer in inside:
            producer = value.producer
            assert producer is not None
            if producer not in wanted:
                if producer.subgraphs:
                    return None
                wanted.add(producer)
                queue += [item for item in producer.inputs if item is not None]
        else:
            return None
    return needed, [node for node in body.nodes if node in wanted]
