"""Inlining of If and unrolling of Loop and Scan where condition and trip count are constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgec.errors import ModelError
from edgec.ir.graph import Attribute, Graph, Node, Tensor, Value
from edgec.ir.passes.base import remove_dead
from edgec.ir.passes.trip_count import count_trips


def copy_nodes(body: Graph, into: Graph, anchor: Node, mapping: dict[Value, Value], prefix: str) -> list[Node]:
    """Copy a body's nodes before ``anchor``; ``mapping`` takes body values to outer values and is extended."""
    made = []
    for node in body.nodes:
        outputs = []
        for value in node.outputs:
            copy = Value(into.unique(f"{prefix}{value.name}"), value.dtype, value.shape, type_proto=value.type_proto)
            mapping[value] = copy
            outputs.append(copy)
        inputs = [None if value is None else mapping.get(value, value) for value in node.inputs]
        attributes = {key: _copy_attribute(item, into, mapping) for key, item in node.attributes.items()}
        copied = Node(
            node.op,
            inputs,
            outputs,
            attributes,
            name=f"{prefix}{node.name}",
            domain=node.domain,
            sources=(*anchor.sources, *node.sources),
        )
        into.insert_before(anchor, copied)
        made.append(copied)
    return made


def _copy_attribute(attribute: Attribute, parent: Graph, mapping: Mapping[Value, Value]) -> Attribute:
    if isinstance(attribute, Graph):
        return copy_graph(attribute, parent, dict(mapping))
    if isinstance(attribute, list) and attribute and isinstance(attribute[0], Graph):
        return [copy_graph(item, parent, dict(mapping)) for item in attribute]
    return attribute


def copy_graph(graph: Graph, parent: Graph | None, mapping: dict[Value, Value]) -> Graph:
    """A deep copy of a body whose outer values are translated by ``mapping``."""
    fresh = Graph(graph.name)
    fresh.parent = parent
    for value in graph.inputs:
        copy = Value(fresh.unique(value.name), value.dtype, value.shape, type_proto=value.type_proto)
        mapping[value] = copy
        fresh.inputs.append(copy)
    for node in graph.nodes:
        outputs = []
        for value in node.outputs:
            copy = Value(fresh.unique(value.name), value.dtype, value.shape, type_proto=value.type_proto)
            mapping[value] = copy
            outputs.append(copy)
        inputs = [None if value is None else mapping.get(value, value) for value in node.inputs]
        attributes = {key: _copy_attribute(item, fresh, mapping) for key, item in node.attributes.items()}
        fresh.append(
            Node(node.op, inputs, outputs, attributes, name=node.name, domain=node.domain, sources=node.sources)
        )
    for name, value in zip(graph.output_names, graph.outputs):
        fresh.add_output(name, mapping.get(value, value))
    return fresh


def inline_if(graph: Graph, node: Node) -> list[Node] | None:
    """Put the taken branch of an If with constant condition in its place; None when the condition is not constant."""
    condition = node.operand(0)
    if condition.const is None:
        return None
    taken = node.attributes["then_branch" if bool(condition.numpy().reshape(-1)[0]) else "else_branch"]
    assert isinstance(taken, Graph)
    mapping: dict[Value, Value] = {}
    made = copy_nodes(taken, graph, node, mapping, f"{node.name}/")
    for result, value in zip(node.outputs, taken.outputs):
        graph.replace(result, mapping.get(value, value))
    remove_dead(graph, node)
    return made


def unroll_loop(graph: Graph, node: Node, budget: int) -> list[Node] | None:
    """Unroll a Loop with a constant trip count and a condition that stays true or does not depend on the inputs.

    Returns None when trip count or condition are known only at run time.

    Raises:
        ModelError: EDG112 when unrolling would make more than ``budget`` nodes.
    """
    body = node.attributes["body"]
    assert isinstance(body, Graph)
    trip, start = node.input(0), node.input(1)
    if (trip is not None and trip.const is None) or (start is not None and start.const is None):
        return None
    if start is not None and not bool(start.numpy().reshape(-1)[0]):
        count = 0
    elif trip is None:
        counted = count_trips(node, None)
        if counted is None:
            return None
        count = counted
    else:
        count = max(int(trip.numpy().reshape(-1)[0]), 0)
        if count and not _condition_stays(body):
            counted = count_trips(node, count)
            if counted is None:
                return None
            count = counted
    _within(node, body, count, budget)
    carried = list(node.inputs[2:])
    states: list[Value] = [value for value in carried if value is not None]
    scanned: list[list[Value]] = [[] for _ in node.outputs[len(states) :]]
    made: list[Node] = []
    for iteration in range(count):
        mapping: dict[Value, Value] = {
            body.inputs[0]: graph.constant(np.array(iteration, np.int64), f"{node.name}_iteration"),
            body.inputs[1]: graph.constant(np.array(True), f"{node.name}_condition"),
        }
        mapping.update(zip(body.inputs[2:], states))
        made += copy_nodes(body, graph, node, mapping, f"{node.name}/{iteration}/")
        results = [mapping.get(value, value) for value in body.outputs[1:]]
        states = results[: len(states)]
        for position, value in enumerate(results[len(states) :]):
            scanned[position].append(value)
    for result, value in zip(node.outputs, states):
        graph.replace(result, value)
    for result, parts in zip(node.outputs[len(states) :], scanned):
        if not result.use_count:
            continue
        if not parts:
            return made or None
        made += _stack(graph, node, parts, result, 0)
    remove_dead(graph, node)
    return made


def unroll_scan(graph: Graph, node: Node, budget: int) -> list[Node] | None:
    """Unroll a Scan (opset 9 and later) whose scanned extent is static; None when it is not.

    Raises:
        ModelError: EDG112 when unrolling would make more than ``budget`` nodes.
    """
    body = node.attributes["body"]
    assert isinstance(body, Graph)
    scans = node.attr_int("num_scan_inputs")
    operands = [value for value in node.inputs if value is not None]
    states, sequences = operands[: len(operands) - scans], operands[len(operands) - scans :]
    in_axes = node.attr_ints("scan_input_axes", [0] * scans)
    in_directions = node.attr_ints("scan_input_directions", [0] * scans)
    extents = []
    for value, axis in zip(sequences, in_axes):
        extent = None if value.shape is None else value.shape[axis]
        if not isinstance(extent, int):
            return None
        extents.append(extent)
    count = extents[0]
    outs = len(node.outputs) - len(states)
    out_axes = node.attr_ints("scan_output_axes", [0] * outs)
    out_directions = node.attr_ints("scan_output_directions", [0] * outs)
    _within(node, body, count, budget)
    scanned: list[list[Value]] = [[] for _ in range(outs)]
    made: list[Node] = []
    total = len(states)
    for iteration in range(count):
        mapping: dict[Value, Value] = dict(zip(body.inputs, states))
        for value, inner, axis, direction in zip(sequences, body.inputs[total:], in_axes, in_directions):
            index = count - 1 - iteration if direction else iteration
            picked = graph.build(
                node, "Gather", [value, graph.constant(np.array(index, np.int64), "index")], axis=axis, hint=node.name
            )
            made.append(picked)
            mapping[inner] = picked.output
        made += copy_nodes(body, graph, node, mapping, f"{node.name}/{iteration}/")
        results = [mapping.get(value, value) for value in body.outputs]
        states = results[:total]
        for position, value in enumerate(results[total:]):
            scanned[position].append(value)
    for result, value in zip(node.outputs, states):
        graph.replace(result, value)
    for result, parts, axis, direction in zip(node.outputs[total:], scanned, out_axes, out_directions):
        if result.use_count:
            made += _stack(graph, node, parts[::-1] if direction else parts, result, axis)
    remove_dead(graph, node)
    return made


def _stack(graph: Graph, node: Node, parts: list[Value], result: Value, axis: int) -> list[Node]:
    """Concatenate per-iteration results along a new axis and let that stand for ``result``."""
    made = []
    axes = graph.constant(np.array([axis], np.int64), f"{node.name}_axis")
    pieces = []
    for part in parts:
        lifted = Node(
            "Unsqueeze", [part, axes], [graph.value(f"{part.name}_item")], name=node.name, sources=node.sources
        )
        graph.insert_before(node, lifted)
        made.append(lifted)
        pieces.append(lifted.output)
    joined = Node(
        "Concat", pieces, [graph.value(f"{result.name}_stacked")], {"axis": axis}, name=node.name, sources=node.sources
    )
    graph.insert_before(node, joined)
    made.append(joined)
    graph.replace(result, joined.output)
    return made


def _condition_stays(body: Graph) -> bool:
    """Whether the body hands out a condition that is constant true, or its own incoming condition."""
    value: Value | None = body.outputs[0]
    while value is not None and value.producer is not None:
        producer = value.producer
        if producer.op == "Constant":
            tensor = producer.attributes.get("value")
            return isinstance(tensor, Tensor) and bool(tensor.numpy().reshape(-1)[0])
        if producer.op not in ("Identity", "Cast"):
            return False
        value = producer.input(0)
    if value is None:
        return False
    if value.const is not None:
        return bool(value.numpy().reshape(-1)[0])
    return value is body.inputs[1]


def _within(node: Node, body: Graph, count: int, budget: int) -> None:
    if count * len(body) > budget:
        raise ModelError(
            "EDG112",
            f"unrolling '{node.name}' ({node.op}) {count} times would make {count * len(body)} nodes",
            where=f"node '{node.name}'",
            why=f"the limit is {budget} nodes",
            help="--passes 'fold-constants{unroll=N},...' raises the limit",
        )
