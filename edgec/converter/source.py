"""The nodes of the user's file, in its order, and the way back from a name in the IR to their position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onnx import FunctionProto, GraphProto, NodeProto

from edgec.converter.importers.onnx.reader import open_model


@dataclass(frozen=True)
class SourceNode:
    """A node of the outermost graph: position, name (``OPERATOR_POSITION`` where it has none) and operator."""

    index: int
    name: str
    operator: str


@dataclass
class SourceNodes:
    """All nodes of the outermost graph.

    Attributes:
        by_name: a node's name to its positions (names need not be unique).
        inside: the name of a node in a control-flow body or function to its operator and the positions around it.
        by_input: a value's name to the positions of its consumers.
    """

    nodes: list[SourceNode] = field(default_factory=list)
    by_name: dict[str, list[int]] = field(default_factory=dict)
    inside: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    by_input: dict[str, list[int]] = field(default_factory=dict)

    def places(self, names: Iterable[str], operator: str = "") -> list[int]:
        """Positions of the nodes that these names stand for, ascending.

        A canonical node may come from several source nodes.  Where some of them have its ``operator``, or hold a node
        that has, they are meant, and not the neighbours that were merged into it.
        """
        wanted = list(names)
        outer = {index for name in wanted for index in self.by_name.get(name, ())}
        inner = {pair for name in wanted if name not in self.by_name for pair in self.inside.get(name, ())}
        exact = {index for index in outer if self.nodes[index].operator == operator}
        exact |= {index for kind, index in inner if kind == operator}
        return sorted(exact or outer | {index for _, index in inner})

    def consumers(self, name: str) -> list[int]:
        """Positions of the nodes that take a value."""
        return self.by_input.get(name, [])


def read_source_nodes(path: Path) -> SourceNodes:
    """Read the nodes of a file that the importer has read (and found sound) before."""
    proto = open_model(path).proto
    functions = {(item.domain, item.name): item for item in proto.functions}
    found = SourceNodes()
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        found.nodes.append(SourceNode(index, name, operator))
        found.by_name.setdefault(name, []).append(index)
        for operand in node.input:
            found.by_input.setdefault(operand, []).append(index)
        for below, kind in _inner_names(node, functions, 0):
            places = found.inside.setdefault(below, [])
            if (kind, index) not in places:
                places.append((kind, index))
    return found


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside a sound model that hold its initializers, each once, sorted."""
    found = set()
    for tensor in open_model(path).proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value:
                found.add(path.parent / entry.value)
    return tuple(sorted(found))


def _inner_names(
    node: NodeProto, functions: dict[tuple[str, str], FunctionProto], depth: int
) -> Iterator[tuple[str, str]]:
    if depth > 16:
        return
    bodies: list[Iterable[NodeProto]] = [graph.node for graph in _graphs(node)]
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        bodies.append(function.node)
    for body in bodies:
        for position, below in enumerate(body):
            yield below.name or f"{below.op_type}_{position}", below.op_type
            yield from _inner_names(below, functions, depth + 1)


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
