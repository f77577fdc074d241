"""Predict which operators of an int8 LiteRT graph the compiler puts on the Edge TPU."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgec.errors import ModelError
from edgec.targets.base import NodeSupport, Verdict
from edgec.targets.edgetpu.rules import RULES, SINGLE_SUBGRAPH
from edgec.targets.tflite.graph import FlatGraph, FlatOperator

_DAMAGE = (ArithmeticError, IndexError, TypeError, ValueError)
"""What rules stumble over when an operator lacks operands, or has some that do not fit."""


@dataclass(frozen=True)
class Mapping:
    """The verdict on every operator of a graph, index for index.

    Attributes:
        nodes: ``ok`` means predicted on the Edge TPU.
        boundary_bytes: bytes that cross between CPU and Edge TPU in one inference, model inputs and outputs included.
        multiplications: of the whole graph.
        multiplications_on_cpu: of the operators that are not predicted on the Edge TPU.
    """

    nodes: tuple[NodeSupport, ...]
    boundary_bytes: int
    multiplications: int
    multiplications_on_cpu: int

    def positions(self, *verdicts: Verdict) -> list[int]:
        """The operators with one of the verdicts."""
        return [node.index for node in self.nodes if node.verdict in verdicts]


def alone(operator: FlatOperator) -> NodeSupport:
    """What the rules say of an operator, its neighbours left aside.

    Raises:
        ModelError: EDG109 when its operands are not what the operator takes.
    """
    doubt = NodeSupport(operator.index, operator.name, operator.title, Verdict.OK)
    for entry in RULES:
        if entry.operators and operator.code not in entry.operators:
            continue
        try:
            found = entry.judge(operator)
        except _DAMAGE as error:
            raise ModelError(
                "EDG109",
                f"{operator.title} '{operator.name}' is malformed",
                where=f"operator {operator.index}",
                why=f"{type(error).__name__}: {error}",
            ) from error
        if found.verdict is Verdict.OK or (found.verdict is Verdict.UNCERTAIN and doubt.rule):
            continue
        node = NodeSupport(
            operator.index, operator.name, operator.title, found.verdict, entry.code, found.reason, found.help
        )
        if found.verdict is Verdict.UNSUPPORTED:
            return node
        doubt = node
    return doubt


@dataclass
class _Before:
    """What lies before an operator, for certain and perhaps: the Edge TPU, or the Edge TPU and then the CPU."""

    device: bool = False
    maybe_device: bool = False
    left: FlatOperator | None = None
    maybe_left: FlatOperator | None = None


def predict(graph: FlatGraph) -> Mapping:
    """Judge every operator.

    An operator is on the Edge TPU when the rules allow it and no operator before it left the Edge TPU for the CPU.
    """
    befores: list[_Before] = []
    nodes: list[NodeSupport] = []
    for operator in graph.operators:
        before = _Before()
        for position in _predecessors(graph, operator):
            other, its = nodes[position], befores[position]
            producer = graph.operators[position]
            on_device, off_device = other.verdict is Verdict.OK, other.verdict is Verdict.UNSUPPORTED
            before.device |= on_device or its.device
            before.maybe_device |= not off_device or its.maybe_device
            before.left = before.left or its.left or (producer if off_device and its.device else None)
            before.maybe_left = (
                before.maybe_left or its.maybe_left or (producer if not on_device and its.maybe_device else None)
            )
        befores.append(before)
        nodes.append(_placed(alone(operator), before))
    return Mapping(tuple(nodes), _boundary(graph, nodes), *_work(graph, nodes))


def _predecessors(graph: FlatGraph, operator: FlatOperator) -> Iterable[int]:
    """Producers that stand before the operator (a damaged file may name later ones)."""
    producers = graph.producers
    found = {producers.get(tensor.index, -1) for tensor in operator.inputs if tensor is not None}
    return sorted(position for position in found if 0 <= position < operator.index)


def _placed(node: NodeSupport, before: _Before) -> NodeSupport:
    if node.verdict is Verdict.UNSUPPORTED:
        return node
    stranding = before.left or before.maybe_left
    if stranding is None:
        return node
    if before.left is None and node.verdict is Verdict.UNCERTAIN:
        return node
    where = f"{stranding.title} '{stranding.name}' (operator {stranding.index})"
    if before.left is not None:
        verdict = Verdict.UNSUPPORTED
        reason = f"single-subgraph: it could run on the Edge TPU, but {where} before it runs on the CPU"
    else:
        verdict = Verdict.UNCERTAIN
        reason = f"single-subgraph: it is stranded if {where} before it runs on the CPU"
    help = f"move or replace {where}"
    return NodeSupport(node.index, node.name, node.operator, verdict, SINGLE_SUBGRAPH, reason, help)


def _boundary(graph: FlatGraph, nodes: list[NodeSupport]) -> int:
    """Bytes of the tensors that enter or leave the Edge TPU's part."""
    inside = {node.index for node in nodes if node.verdict is Verdict.OK}
    producers = graph.producers
    entering = {
        tensor.index: tensor.size
        for position in inside
        for tensor in graph.operators[position].inputs
        if tensor is not None and not tensor.constant and producers.get(tensor.index) not in inside
    }
    wanted = {tensor.index for tensor in graph.outputs}
    for operator in graph.operators:
        if operator.index not in inside:
            wanted.update(tensor.index for tensor in operator.inputs if tensor is not None)
    leaving = {
        tensor.index: tensor.size
        for position in inside
        for tensor in graph.operators[position].outputs
        if tensor.index in wanted
    }
    return sum(entering.values()) + sum(leaving.values())


def _work(graph: FlatGraph, nodes: list[NodeSupport]) -> tuple[int, int]:
    total = rest = 0
    for operator, node in zip(graph.operators, nodes):
        count = multiplications(operator)
        total += count
        rest += 0 if node.verdict is Verdict.OK else count
    return total, rest


def multiplications(operator: FlatOperator) -> int:
    """Multiplications of convolutions and fully connected layers; 0 for everything else."""
    if not operator.outputs:
        return 0
    result = operator.outputs[0].size
    weights = operator.inputs[1] if len(operator.inputs) > 1 else None
    if weights is None:
        return 0
    match operator.code:
        case "CONV_2D" | "FULLY_CONNECTED":
            return result * math.prod(abs(extent) for extent in weights.shape[1:])
        case "DEPTHWISE_CONV_2D":
            return result * math.prod(abs(extent) for extent in weights.shape[1:3])
        case "TRANSPOSE_CONV":
            source = operator.inputs[2] if len(operator.inputs) > 2 else None
            return 0 if source is None else source.size * math.prod(abs(extent) for extent in weights.shape[:3])
    return 0
