"""Give an ONNX model from tf2onnx one order and one set of names, so that the same source gives the same bytes.

tf2onnx walks sets of objects, numbers what it makes by the way, and puts addresses into names.  Here the nodes are put
into the order in which the outputs need them, numbers in names are given anew in that order, and constants are called
after the node that uses them first.  Names of inputs and outputs, and the names that nodes have from TensorFlow, stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NUMBERED = re.compile(r"(__\d+)+$")
_ADDRESS = re.compile(r"\d{9,}")


def canonicalise(proto: Any) -> None:
    """Reorder and rename in place."""
    graph = proto.graph
    fixed = {entry.name for entry in (*graph.input, *graph.output)}
    _Names(fixed).graph(graph, {name: name for name in fixed})
    del graph.value_info[:]


class _Names:
    """The names given so far, over all bodies: an inner value never takes the name of an outer one."""

    def __init__(self, taken: Iterable[str]):
        self.taken = set(taken)

    def give(self, wanted: str) -> str:
        """The name, numbered where it is taken."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}__{number}"
        self.taken.add(name)
        return name

    def graph(self, graph: Any, outer: dict[str, str]) -> None:
        """Order and rename one graph; ``outer`` takes old to new names of values that it sees from outside."""
        known = dict(outer)
        constants = {entry.name: entry for entry in graph.initializer}
        for entry in graph.input:
            if entry.name not in known:
                known[entry.name] = self.give(_plain(entry.name))
            entry.name = known[entry.name]
        nodes = _in_order(graph)
        for node in nodes:
            node.name = self.give(_plain(node.name) or node.op_type)
            for position, name in enumerate(node.input):
                if name in constants and name not in known:
                    known[name] = self.give(f"{node.name}/{position}")
            for position, name in enumerate(node.output):
                if name and name not in known:
                    known[name] = self.give(f"{node.name}:{position}")
            for body in _bodies(node):
                for name in _mentioned(body):
                    if name in constants and name not in known:
                        known[name] = self.give(f"{node.name}/constant")
                self.graph(body, known)
            node.input[:] = [known.get(name, name) for name in node.input]
            node.output[:] = [known.get(name, name) for name in node.output]
        for entry in graph.output:
            if entry.name in constants and entry.name not in known:
                known[entry.name] = self.give(_plain(entry.name))
            entry.name = known.get(entry.name, entry.name)
        kept = [entry for name, entry in constants.items() if name in known]
        for entry in kept:
            entry.name = known[entry.name]
        order = {name: position for position, name in enumerate(known.values())}
        _replace(graph.initializer, sorted(kept, key=lambda entry: order[entry.name]))
        _replace(graph.node, nodes)


def _plain(name: str) -> str:
    """A name without the numbers that differ from run to run."""
    return _ADDRESS.sub("", _NUMBERED.sub("", name))


def _in_order(graph: Any) -> list[Any]:
    """The nodes in the order in which the outputs, one after the other, need them; then those that none needs."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    wanted = [producers[entry.name] for entry in graph.output if entry.name in producers]
    done: dict[int, None] = {}
    stack = [(index, False) for index in reversed([*wanted, *range(len(graph.node))])]
    while stack:
        index, ready = stack.pop()
        if index in done:
            continue
        if ready:
            done[index] = None
            continue
        stack.append((index, True))
        node = graph.node[index]
        needs = [*node.input, *(name for body in _bodies(node) for name in _mentioned(body))]
        before = [producers[name] for name in needs if name in producers and producers[name] not in done]
        stack += [(other, False) for other in reversed(before) if other != index]
    return [graph.node[index] for index in done]


def _mentioned(body: Any) -> list[str]:
    """Every name that a body and the bodies in it take, in order."""
    found: dict[str, None] = {}
    for node in body.node:
        found |= dict.fromkeys(node.input)
        for inner in _bodies(node):
            found |= dict.fromkeys(_mentioned(inner))
    found |= dict.fromkeys(entry.name for entry in body.output)
    return list(found)


def _bodies(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _replace(field: Any, entries: list[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del field[:]
    field.extend(copies)
