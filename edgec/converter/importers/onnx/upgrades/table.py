"""The table of upgrades: operator -> small functions that bring a node from any older form to that of one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.errors import ModelError, UnsupportedError
from edgec.ir.graph import Attribute, Graph, Node, Tensor, Value

Rewrite = Callable[[Graph, Node], None]


@dataclass(frozen=True)
class Upgrade:
    """One step: nodes of opsets older than ``before`` need it; ``typed`` says that it reads element types or ranks."""

    before: int
    typed: bool
    rewrite: Rewrite


TABLE: dict[str, list[Upgrade]] = {}


def upgrades(*ops: str, before: int, typed: bool = False) -> Callable[[Rewrite], Rewrite]:
    """Register a step for some operators."""

    def register(function: Rewrite) -> Rewrite:
        for op in ops:
            TABLE.setdefault(op, []).append(Upgrade(before, typed, function))
            TABLE[op].sort(key=lambda item: item.before)
        return function

    return register


def int64s(graph: Graph, node: Node, name: str, values: Iterable[int]) -> Value:
    """A constant 1-D int64 operand of a node."""
    return graph.constant(np.array(list(values), np.int64), f"{node.name}_{name}")


def become(node: Node, op: str, inputs: Iterable[Value | None], **attributes: Attribute) -> None:
    """Turn a node into another operator in place, so that its outputs keep their names and users."""
    node.op = op
    node.domain = ""
    node.set_inputs(inputs)
    node.attributes = dict(attributes)


def attribute_to_input(
    graph: Graph, node: Node, name: str, position: int, *, convert: Callable[[Any], Any] | None = None
) -> None:
    """Move an int list attribute to an int64 operand; nothing where it is not given or the operand is there."""
    value = node.attributes.pop(name, None)
    if value is None or node.input(position) is not None:
        return
    items = value if isinstance(value, list) else [value]
    node.set_input(position, int64s(graph, node, name, convert(items) if convert else items))


def known(value: Value | None) -> Tensor | None:
    """The contents of a value that is an initializer, the output of a Constant node, or was computed already."""
    if value is None or value.const is not None:
        return None if value is None else value.const
    producer = value.producer
    if producer is not None and producer.op == "Constant" and not producer.domain:
        from edgec.ir.passes.fold_constants import constant_of

        return constant_of(producer)
    return None


def trim_outputs(node: Node, count: int) -> None:
    """Drop outputs beyond ``count`` that the newest form does not have.

    Raises:
        UnsupportedError: EDG201 when one of them is used.
    """
    for value in node.outputs[count:]:
        if value.use_count:
            raise refuse(node, f"its output '{value.name}' exists only in training")
    node.outputs = node.outputs[:count]


def rank_of(node: Node, position: int) -> int:
    """The rank of an operand.

    Raises:
        UnsupportedError: EDG201 when it is unknown.
    """
    value = node.operand(position)
    if value.shape is None:
        raise refuse(node, f"the old form of the operator needs the rank of '{value.name}', which is unknown")
    return len(value.shape)


def refuse(node: Node, why: str) -> UnsupportedError:
    """The error for a node whose old form has no exact new one."""
    return UnsupportedError(
        "EDG201",
        f"cannot bring '{node.name}' ({node.op}) to the newest form of the operator",
        where=f"node '{node.name}'",
        why=why,
        help="export the model at a newer opset",
    )


def malformed(node: Node, why: str) -> ModelError:
    """The error for a node that breaks its own version's rules."""
    return ModelError("EDG109", f"'{node.name}' ({node.op}) is malformed", where=f"node '{node.name}'", why=why)
