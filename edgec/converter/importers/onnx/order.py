"""Nodes into an order in which they can run.  Files should be sorted; some tools write them otherwise."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto

from edgec.errors import ModelError


def free_names(graph: GraphProto) -> set[str]:
    """Names that a control-flow body takes from the graphs around it."""
    inside = {entry.name for entry in graph.input}
    inside.update(item.name for item in graph.initializer)
    inside.update(name for node in graph.node for name in node.output)
    wanted = {name for node in graph.node for name in operands_of(node)}
    wanted.update(entry.name for entry in graph.output)
    return wanted - inside


def operands_of(node: NodeProto) -> set[str]:
    """Names of the values that must exist before a node runs, those that its bodies capture included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= free_names(attribute.g)
        for body in attribute.graphs:
            names |= free_names(body)
    return names


def sort_nodes(graph: GraphProto, outer: frozenset[str] = frozenset()) -> bool:
    """Sort the nodes of a graph and of its bodies in place, keeping the order where it is right; True if it changed.

    Raises:
        ModelError: EDG106 naming the nodes of a cycle, or the first node whose operand nothing produces.
    """
    known = {entry.name for entry in graph.input} | {item.name for item in graph.initializer}
    known.update(item.values.name for item in graph.sparse_initializer)
    changed = False
    ready: set[str] = set(known)
    sorted_already = True
    needs: list[set[str]] = []
    for node in graph.node:
        wanted = operands_of(node) - outer
        needs.append(wanted)
        if sorted_already and not wanted <= ready:
            sorted_already = False
        ready.update(node.output)
    if not sorted_already:
        _reorder(graph, needs, known)
        changed = True
    around = outer | frozenset(ready) if any(_bodies(node) for node in graph.node) else frozenset()
    for node in graph.node:
        for body in _bodies(node):
            changed = sort_nodes(body, around) or changed
    return changed


def name_nodes(proto: ModelProto) -> None:
    """Give every nameless node the name that messages call it by (operator and position), before positions change.

    Raises:
        ModelError: EDG109 for a name that is no UTF-8 (protobuf hands such text out as bytes).
    """
    _check_names(proto.graph)
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        _name(nodes)


def _name(nodes: Iterable[NodeProto]) -> None:
    for position, node in enumerate(nodes):
        for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
            _check_text(text)
        if not node.name:
            node.name = f"{node.op_type}_{position}"
        for body in _bodies(node):
            _check_names(body)
            _name(body.node)


def _check_names(graph: GraphProto) -> None:
    _check_text(graph.name)
    for item in graph.initializer:
        _check_text(item.name)
    for entry in (*graph.input, *graph.output, *graph.value_info):
        _check_text(entry.name)
        for dim in entry.type.tensor_type.shape.dim:
            _check_text(dim.dim_param)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ModelError("EDG109", f"the name {text!r} is no UTF-8 text")


def _bodies(node: NodeProto) -> list[GraphProto]:
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def _reorder(graph: GraphProto, needs: list[set[str]], known: set[str]) -> None:
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name:
                producer.setdefault(name, index)
    waiting: list[int] = []
    users: dict[int, list[int]] = {}
    for index, wanted in enumerate(needs):
        before: set[int] = set()
        for name in wanted - known:
            if name not in producer:
                node = graph.node[index]
                label = node.name or f"{node.op_type}_{index}"
                raise ModelError(
                    "EDG106",
                    f"'{label}' ({node.op_type}) uses '{name}'",
                    where=f"node '{label}'",
                    why="no input, initializer or node produces it",
                )
            before.add(producer[name])
        waiting.append(len(before))
        for earlier in before:
            users.setdefault(earlier, []).append(index)
    heap = [index for index, count in enumerate(waiting) if not count]
    order: list[int] = []
    while heap:
        index = heapq.heappop(heap)
        order.append(index)
        for user in users.get(index, ()):
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(heap, user)
    if len(order) < len(graph.node):
        raise _cycle(graph, needs, producer, {index for index, count in enumerate(waiting) if count})
    nodes = [graph.node[index] for index in order]
    copies = [NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def _cycle(graph: GraphProto, needs: list[set[str]], producer: dict[str, int], stuck: set[int]) -> ModelError:
    """Walk backwards among the nodes that wait until one comes again."""
    index = min(stuck)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = min(producer[name] for name in needs[index] if producer.get(name) in stuck)
    loop = path[path.index(index) :][::-1]
    labels = [graph.node[item].name or f"{graph.node[item].op_type}_{item}" for item in loop]
    return ModelError(
        "EDG106",
        "the graph has a cycle: " + " -> ".join(f"'{label}'" for label in [*labels[:8], labels[0]]),
        where=f"node '{labels[0]}'",
        why="each of these nodes needs the output of the one before it",
    )
