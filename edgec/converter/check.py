"""Say of every node of a model whether a target can hold it, without converting."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Unpack

from edgec.converter.calibration.options import precision_options, target_options
from edgec.converter.importers import source_nodes
from edgec.converter.options import ConversionOptions, TargetKeywords, spelled_out
from edgec.converter.prepare import Inspection, Progress, prepare, silent
from edgec.converter.source import SourceNode, SourceNodes
from edgec.errors import EXIT_UNSUPPORTED, EdgecError
from edgec.targets import registry
from edgec.targets.base import NodeSupport, Placement, Refusal, Verdict, taking

SCHEMA: Final = "edgec-check-1"


@dataclass(frozen=True)
class CheckReport:
    """The verdict on every node of the user's graph, in its order.

    Attributes:
        nodes: one entry per node of the source graph.
        general: refusals that belong to no single node (the file format, an input, an output).
        notes: what was assumed (a batch that was bound, shapes that were dropped).
        facts: what else the target predicts, such as parameter memory; empty for most.
    """

    model: str
    target: str
    nodes: tuple[NodeSupport, ...]
    general: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = field(default=())
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole model: unsupported if anything is, else uncertain if anything is, else ok."""
        found = {node.verdict for node in self.nodes}
        if self.general or Verdict.UNSUPPORTED in found:
            return Verdict.UNSUPPORTED
        return Verdict.UNCERTAIN if Verdict.UNCERTAIN in found else Verdict.OK

    @property
    def summary(self) -> dict[str, Any]:
        """Counts of verdicts, of rules and of the operators that are not ok."""
        verdicts = Counter(str(node.verdict) for node in self.nodes)
        rules = Counter(node.rule for node in self.nodes if node.rule)
        rules.update(refusal.rule for refusal in self.general)
        operators = Counter(node.operator for node in self.nodes if node.verdict is Verdict.UNSUPPORTED)
        return {
            "verdict": str(self.verdict),
            "nodes": len(self.nodes),
            **{str(verdict): verdicts.get(str(verdict), 0) for verdict in Verdict},
            "rules": dict(sorted(rules.items())),
            "unsupported_operators": dict(sorted(operators.items())),
        }

    def to_json(self) -> dict[str, Any]:
        """The document that ``edgec check --json`` prints (schema ``edgec-check-1``)."""
        return {
            "schema": SCHEMA,
            "status": "ok",
            "model": self.model,
            "target": self.target,
            "summary": self.summary,
            "nodes": [
                {
                    "index": node.index,
                    "name": node.name,
                    "operator": node.operator,
                    "verdict": str(node.verdict),
                    "rule": node.rule or None,
                    "reason": node.reason or None,
                    "help": node.help or None,
                }
                for node in self.nodes
            ],
            "general": [{"rule": item.rule, "reason": item.reason, "help": item.help or None} for item in self.general],
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }


@spelled_out(TargetKeywords)
def check(
    model: str | Path,
    *,
    target: str,
    progress: Progress = silent,
    **options: Unpack[TargetKeywords],
) -> CheckReport:
    """Ask a target about every node of a model; the options are those of :func:`edgec.converter.convert.convert`.

    Without calibration data a quantized precision is asked about with made-up ranges.

    Raises:
        ModelError: the file is no valid model (exit code 3).
        UsageError: the options make no sense (exit code 2).
    """
    path = Path(model)
    chosen = registry.load(target)
    asked = ConversionOptions(**options)
    wanted = precision_options(chosen, asked)
    lowering = target_options(chosen, asked, wanted)
    taker = taking(chosen, path)
    if taker is not None:
        from edgec.converter.direct import refuse_unread

        refuse_unread(asked, path)
        progress(f"asking {chosen.name}")
        found = taker.support_lowered(path, lowering)
        return CheckReport(path.name, target, found.nodes, found.general, found.notes, found.facts)
    try:
        prepared = prepare(
            path,
            chosen,
            asked.source,
            options=lowering,
            passes=asked.passes,
            inspection=Inspection(),
            precision=wanted,
            structure_only=True,
            progress=progress,
        )
        progress(f"asking {chosen.name}")
        refusals = prepared.ask()
        placement = Placement() if refusals else chosen.placement(prepared.model, lowering)
    except EdgecError as error:
        if error.exit_code != EXIT_UNSUPPORTED:
            raise
        source = source_nodes(path, asked.source)
        nodes, general = _from_error(source, error)
        return CheckReport(path.name, target, tuple(nodes), tuple(general))
    source = source_nodes(path, asked.source)
    nodes, general = _from_refusals(source, refusals)
    nodes = _off_device(source, nodes, placement.away)
    notes = (*prepared.notes, *placement.notes)
    return CheckReport(path.name, target, tuple(nodes), tuple(general), notes, placement.facts)


def _from_refusals(source: SourceNodes, refusals: Iterable[Refusal]) -> tuple[list[NodeSupport], list[Refusal]]:
    nodes = [_judged(node) for node in source.nodes]
    general = []
    for refusal in refusals:
        places = source.places(refusal.sources or (refusal.node,), refusal.operator)
        if not places:
            general.append(refusal)
        for index in places:
            if nodes[index].verdict is Verdict.OK:
                nodes[index] = replace(
                    nodes[index],
                    verdict=Verdict.UNSUPPORTED,
                    rule=refusal.rule,
                    reason=refusal.reason,
                    help=refusal.help,
                )
    if general:  # the model as a whole is refused, so no node of it can be promised
        rule = general[0].rule
        reason = "the node is fine, but the model as a whole is refused"
        nodes = [
            replace(node, verdict=Verdict.UNCERTAIN, rule=rule, reason=reason) if node.verdict is Verdict.OK else node
            for node in nodes
        ]
    return nodes, general


def _off_device(
    source: SourceNodes, nodes: list[NodeSupport], away: Iterable[tuple[Verdict, Refusal]]
) -> list[NodeSupport]:
    """Nodes that are converted, but that will or may run beside the device."""
    found = list(nodes)
    for verdict, refusal in away:
        for index in source.places(refusal.sources, refusal.operator):
            if found[index].verdict is Verdict.OK or (
                found[index].verdict is Verdict.UNCERTAIN and verdict is Verdict.UNSUPPORTED
            ):
                found[index] = replace(
                    found[index], verdict=verdict, rule=refusal.rule, reason=refusal.reason, help=refusal.help
                )
    return found


def _from_error(source: SourceNodes, error: EdgecError) -> tuple[list[NodeSupport], list[Refusal]]:
    """What an import that ended early says: the nodes it names are unsupported, the others were not examined."""
    rule = str(error.details.get("rule", error.code))
    reason = ": ".join(text for text in (error.message, error.why) if text)
    places = source.places(_named(error))
    for name in error.details.get("inputs", ()):
        places.extend(index for index in source.consumers(str(name)) if index not in places)
    stopped = "the import stopped at another place" if places else "the model as a whole is refused"
    nodes = []
    for node in source.nodes:
        if node.index in places:
            nodes.append(_judged(node, Verdict.UNSUPPORTED, rule, reason, error.help or ""))
        else:
            nodes.append(_judged(node, Verdict.UNCERTAIN, rule, f"not examined: {stopped}"))
    if places:
        return nodes, []
    return nodes, [Refusal("", "", (), rule, reason, error.help or "")]


def _judged(
    node: SourceNode, verdict: Verdict = Verdict.OK, rule: str = "", reason: str = "", help: str = ""
) -> NodeSupport:
    return NodeSupport(node.index, node.name, node.operator, verdict, rule, reason, help)


def _named(error: EdgecError) -> list[str]:
    """The names of nodes that an error speaks of."""
    found: list[str] = []
    for key in ("node", "nodes", "sources"):
        value = error.details.get(key, ())
        found.extend([value] if isinstance(value, str) else [str(item) for item in value])
    for refusal in error.details.get("refusals", ()):
        found.extend(str(item) for item in refusal["sources"])
    if not found:
        found = re.findall(r"node '([^']*)'", f"{error.where or ''} {error.message}")
    return found
