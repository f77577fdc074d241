"""Predict which operators of an int8 LiteRT graph Vela puts on the NPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgec.targets.base import NodeSupport, Verdict
from edgec.targets.ethosu.hardware import FAMILIES, Family
from edgec.targets.ethosu.rules import RULES
from edgec.targets.tflite.graph import FlatGraph, FlatOperator

SHOWN: Final = 60
"""Characters of a name that a sentence shows; converters join the names of everything that they fused."""


def shortened(name: str, most: int = SHOWN) -> str:
    """The name, its middle left out where it is long."""
    return name if len(name) <= most else f"{name[: most // 2]}...{name[-(most // 2 - 3) :]}"


@dataclass(frozen=True)
class Mapping:
    """The verdict on every operator of a graph, index for index; ``ok`` means predicted on the NPU."""

    nodes: tuple[NodeSupport, ...]

    def positions(self, *verdicts: Verdict) -> list[int]:
        """The operators with one of the verdicts."""
        return [node.index for node in self.nodes if node.verdict in verdicts]

    def facts(self) -> dict[str, Any]:
        """Counts, as JSON holds them."""
        return {
            "operators_on_device": len(self.positions(Verdict.OK)),
            "operators_on_cpu": len(self.positions(Verdict.UNSUPPORTED)),
            "operators_uncertain": len(self.positions(Verdict.UNCERTAIN)),
        }

    def describe(self) -> list[str]:
        """The same in a sentence."""
        line = f"{len(self.positions(Verdict.OK))} of {len(self.nodes)} operators are predicted on the NPU"
        away = next((node for node in self.nodes if node.verdict is not Verdict.OK), None)
        if away is not None:
            reason = shortened(away.reason, 2 * SHOWN)
            line += f"; the first elsewhere is {away.operator} '{shortened(away.name)}' ({away.rule}: {reason})"
        return [line]


def predict(graph: FlatGraph, families: Sequence[Family] = FAMILIES) -> Mapping:
    """Judge every operator for some families of NPUs; where they disagree the verdict is uncertain."""
    kinds = sorted({family.product == 2 for family in families})
    shapes = _shapes_only(graph)
    nodes = []
    for operator in graph.operators:
        if operator.index in shapes:
            nodes.append(NodeSupport(operator.index, operator.name, operator.title, Verdict.OK))
        else:
            nodes.append(_together([_judge(operator, u85) for u85 in kinds]))
    return Mapping(tuple(nodes))


def _shapes_only(graph: FlatGraph) -> set[int]:
    """Operators that compute nothing but the shape operand of a RESHAPE whose result has a fixed shape.

    The batch may be open: Vela takes the shape of the result and drops them.
    """
    needed = {tensor.index for tensor in graph.outputs}
    found: set[int] = set()
    for operator in reversed(graph.operators):
        if not needed.intersection(tensor.index for tensor in operator.outputs):
            found.add(operator.index)
            continue
        fixed = operator.code == "RESHAPE" and all(-1 not in tensor.shape[1:] for tensor in operator.outputs)
        operands = operator.inputs[:1] if fixed else operator.inputs
        needed.update(tensor.index for tensor in operands if tensor is not None)
    return found


def _judge(operator: FlatOperator, u85: bool) -> NodeSupport:
    found = NodeSupport(operator.index, operator.name, operator.title, Verdict.OK)
    for entry in RULES:
        if entry.operators and operator.code not in entry.operators:
            continue
        said = entry.judge(operator, u85)
        if said.verdict is Verdict.OK or (said.verdict is Verdict.UNCERTAIN and found.rule):
            continue
        found = NodeSupport(
            operator.index, operator.name, operator.title, said.verdict, entry.code, said.reason, said.help
        )
        if said.verdict is Verdict.UNSUPPORTED:
            break
    return found


def _together(verdicts: Sequence[NodeSupport]) -> NodeSupport:
    """One verdict of those for U55 and U65, and for the U85 (in this order)."""
    first, last = verdicts[0], verdicts[-1]
    if first.verdict is last.verdict:
        return first
    worse, place = (first, "Ethos-U55 and U65") if first.verdict is not Verdict.OK else (last, "the Ethos-U85")
    return NodeSupport(
        worse.index,
        worse.name,
        worse.operator,
        Verdict.UNCERTAIN,
        worse.rule,
        f"on {place}: {worse.reason}",
        worse.help or "choose the NPU: --option accelerator=ethos-u85-256",
    )
