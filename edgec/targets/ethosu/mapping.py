"""Predict which operators of an int8 LiteRT graph Vela puts on the NPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgec.targets.base import NodeSupport, Verdict
from edgec.targets.ethosu.hardware import FAMILIES, Family
from edgec.targets.ethosu.rules import RULES
from edgec.targets.tflite.graph import FlatGraph, FlatOperator


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
            line += f"; the first elsewhere is {away.operator} '{away.name}' ({away.rule}: {away.reason})"
        return [line]


def predict(graph: FlatGraph, families: Sequence[Family] = FAMILIES) -> Mapping:
    """Judge every operator for some families of NPUs; where they disagree the verdict is uncertain."""
    kinds = sorted({family.product == 2 for family in families})
    return Mapping(tuple(_together([_judge(operator, u85) for u85 in kinds]) for operator in graph.operators))


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
