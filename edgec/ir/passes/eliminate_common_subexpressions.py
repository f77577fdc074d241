"""Compute equal expressions once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.base import Pass, graphs_of, register
from edgec.ir.passes.fold_constants import RANDOM
from edgec.ir.types import DataType


@register
@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Let nodes with the same operator, attributes and operands share one result.

    Constants of at most ``limit`` bytes are compared by their contents, larger ones by identity.  Random operators,
    operators with a state or with control-flow bodies, and Dropout in training mode are never shared.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    limit: int = 65536

    def apply(self, model: Model) -> bool:
        changed = False
        for graph in list(graphs_of(model.graph)):
            changed = _share(graph, self.limit) or changed
        return changed


_NEVER = RANDOM | {"Dropout"}


def _share(graph: Graph, limit: int) -> bool:
    contents: dict[Value, Hashable] = {}
    seen: dict[Hashable, Node] = {}
    changed = False
    for node in graph.nodes:
        if node.op in _NEVER or node.subgraphs or not node.outputs:
            continue
        key = _key(node, contents, limit)
        first = seen.setdefault(key, node)
        if first is node:
            continue
        for old, new in zip(node.outputs, first.outputs):
            if new.shape is None or not new.is_static:
                new.shape = old.shape or new.shape
            graph.replace(old, new)
        first.sources = tuple(dict.fromkeys((*first.sources, *node.sources)))
        graph.remove(node)
        changed = True
    return changed


def _key(node: Node, contents: dict[Value, Hashable], limit: int) -> Hashable:
    operands = tuple(None if value is None else _operand(value, contents, limit) for value in node.inputs)
    attributes = tuple(sorted((name, _attribute(item)) for name, item in node.attributes.items()))
    return node.domain, node.op, len(node.outputs), operands, attributes


def _operand(value: Value, contents: dict[Value, Hashable], limit: int) -> Hashable:
    if value.const is None or value.const.nbytes > limit or value.dtype is DataType.STRING:
        return value
    found = contents.get(value)
    if found is None:
        found = contents[value] = _digest(value.const)
    return found


def _digest(tensor: Tensor) -> Hashable:
    data = tensor.numpy().tobytes()
    return int(tensor.dtype), tensor.shape, data if len(data) <= 64 else hashlib.sha256(data).digest()


def _attribute(item: Any) -> str:
    if isinstance(item, Tensor):
        return repr(id(item)) if item.dtype is DataType.STRING else repr(_digest(item))
    if hasattr(item, "SerializeToString"):
        return repr(item.SerializeToString(deterministic=True))
    return f"{type(item).__name__}:{item!r}"
