"""Outputs that hold numbers of different sizes in one tensor, such as boxes (0..320) beside scores (0..1).

One int8 scale for both would round the small ones away, and a correlation over the whole output would not show it.  So
the operator that joins them, what follows it, and the arithmetic just before it stay in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.quantization import Range

RATIO: Final = 8.0
"""Parts whose largest numbers differ by more than this lose three of their eight bits to the common scale."""

LIGHT: Final = frozenset(
    "Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Identity Concat Add Sub Mul Div Sigmoid Softmax Tanh Exp "
    "Clip Relu Pow Sqrt Gather Expand Tile Pad Cast".split()
)
"""Operators that move numbers or compute one from a few: keeping them in float costs next to nothing."""


@dataclass(frozen=True)
class Tail:
    """Nodes to keep in float, by name, and which operator asked for it.

    Attributes:
        joins: per joining operator its source name, and the largest numbers of its operands.
    """

    nodes: frozenset[str]
    joins: tuple[tuple[str, tuple[float, ...]], ...]


def float_tail(graph: Graph, ranges: Mapping[str, Range]) -> Tail:
    """What to keep in float so that no output loses its small numbers to its large ones."""
    near = _near_outputs(graph)
    joins = [(node, sizes) for node in near if node.op == "Concat" and (sizes := _mixed(node, ranges))]
    kept: dict[Node, None] = {}
    for node, _ in joins:
        kept.update(dict.fromkeys(_after(node)))
        kept.update(dict.fromkeys(_before(node)))
    described = tuple((node.sources[0] if node.sources else node.name, sizes) for node, sizes in joins)
    return Tail(frozenset(node.name for node in kept), described)


def _near_outputs(graph: Graph) -> list[Node]:
    """The nodes from which only light operators lead to an output."""
    found: dict[Node, None] = {}
    pending = [value.producer for value in graph.outputs if value.producer is not None]
    while pending:
        node = pending.pop()
        if node in found or node.op not in LIGHT or node.domain:
            continue
        found[node] = None
        pending.extend(value.producer for value in node.inputs if value is not None and value.producer is not None)
    return list(found)


def _mixed(node: Node, ranges: Mapping[str, Range]) -> tuple[float, ...]:
    """The largest absolute number of every operand, where they are far apart; empty where they are not."""
    sizes = [size for value in node.inputs if value is not None and (size := _size(value, ranges)) is not None]
    if len(sizes) < 2 or max(sizes) <= RATIO * min(sizes):
        return ()
    return tuple(sizes)


def _size(value: Value, ranges: Mapping[str, Range]) -> float | None:
    if value.const is not None:
        return float(abs(value.numpy()).max()) if value.numpy().size else None
    found = ranges.get(value.name)
    return None if found is None else max(-found.low, found.high)


def _after(node: Node) -> list[Node]:
    found: dict[Node, None] = {}
    pending = [node]
    while pending:
        item = pending.pop()
        if item not in found:
            found[item] = None
            pending.extend(user for value in item.outputs for user in value.users)
    return list(found)


def _before(node: Node) -> list[Node]:
    """Light operators that lead to the node alone."""
    found: dict[Node, None] = {node: None}
    pending = [node]
    while pending:
        for value in pending.pop().inputs:
            producer = None if value is None else value.producer
            if producer is None or producer in found or producer.op not in LIGHT or producer.domain:
                continue
            if all(user in found for result in producer.outputs for user in result.users):
                found[producer] = None
                pending.append(producer)
    return list(found)
