"""What a bisection found, as a document and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edgec.converter.bisection.probe import quality
from edgec.converter.bisection.steps import Step
from edgec.converter.verification.metrics import Difference, short

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA: Final = "edgec-bisect-1"
SAME, DIFFERS = "same", "differs"


@dataclass(frozen=True)
class ValueReport:
    """One value against the reference."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    difference: Difference

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "sqnr_db": short(quality(self.difference)),
            "relative_l2": short(self.difference.relative_l2),
            "max_abs": short(self.difference.max_abs),
        }


@dataclass(frozen=True)
class NodeReport:
    """One node of the lowered graph, with those that can only be looked at together with it.

    Attributes:
        index: position among the steps of the graph, in topological order.
        sources: names of the nodes of the user's model behind it, the first one that computes first.
        sqnr_db: of the worst of its values; infinite where nothing differs, minus infinity where it is no number.
        before_db: of the worst of the values that it takes from other nodes; infinite where there are none.
    """

    index: int
    node: str
    operator: str
    sources: tuple[str, ...]
    values: tuple[ValueReport, ...]
    sqnr_db: float
    before_db: float

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "node": self.node,
            "operator": self.operator,
            "sources": list(self.sources),
            "sqnr_db": short(self.sqnr_db),
            "exact": self.sqnr_db == math.inf,
            "before_db": short(self.before_db),
            "before_exact": self.before_db == math.inf,
            "values": [value.to_json() for value in self.values],
        }


def node_report(step: Step, found: dict[Any, Difference]) -> NodeReport:
    """A step with what was measured of its values and of those that it reads."""
    values = tuple(
        ValueReport(watch.reference, watch.value.dtype.label, tuple(watch.value.shape or ()), found[watch])
        for watch in step.watches
        if watch in found
    )
    return NodeReport(
        step.index,
        step.sources[0],
        "+".join(node.op for node in step.nodes),
        step.sources,
        values,
        min((quality(value.difference) for value in values), default=math.inf),
        min((quality(found[watch]) for watch in step.reads if watch in found), default=math.inf),
    )


@dataclass
class BisectReport:
    """The first node that differs, and the worst ones.

    Attributes:
        first: None where nothing differs, or where the passes are to blame.
        sharp: whether everything that ``first`` takes is above ``above_db``: it breaks what was right before.
        worst: the nodes with the lowest SQNR, worst first, from one dump of all values.
        nodes: how many places of the graph could be compared.
        runs: truncated models that were compiled and run to find ``first``.
        dump_runs: those that the dump took.
        passes_db: the canonical model against the original, both in their own runtime, the worst output.
    """

    model: str
    target: str
    precision: str
    below_db: float
    above_db: float
    nodes: int
    samples: int
    seed: int | None
    first: NodeReport | None = None
    sharp: bool = False
    worst: list[NodeReport] = field(default_factory=list)
    runs: int = 0
    dump_runs: int = 0
    passes_db: float = math.inf
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """``same`` or ``differs``."""
        return SAME if self.first is None and self.passes_db >= self.below_db else DIFFERS

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.first is not None:
            node = self.first
            place = f"'{node.node}' ({node.operator})"
            db = f"{decibels(node.sqnr_db)} after {decibels(node.before_db)}"
            if self.sharp:
                return f"the first node that differs is {place}: {db}"
            return f"the error grows little by little; {place} is the first below {self.below_db:g} dB: {db}"
        if self.status == DIFFERS:
            return f"the passes changed the function: the canonical model is at {decibels(self.passes_db)}"
        return f"nothing differs: no node is below {self.below_db:g} dB"

    def to_json(self) -> dict[str, Any]:
        """The document that ``edgec bisect --json`` prints (schema ``edgec-bisect-1``)."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "model": self.model,
            "target": self.target,
            "precision": self.precision,
            "verdict": self.verdict,
            "thresholds": {"below_db": self.below_db, "above_db": self.above_db},
            "samples": self.samples,
            "seed": self.seed,
            "nodes": self.nodes,
            "runs": self.runs,
            "dump_runs": self.dump_runs,
            "passes_db": short(self.passes_db),
            "first": None if self.first is None else {**self.first.to_json(), "sharp": self.sharp},
            "worst": [node.to_json() for node in self.worst],
            "notes": list(self.notes),
        }


def decibels(number: float) -> str:
    """A signal-to-noise ratio for people."""
    if number == math.inf:
        return "exact"
    return "no signal" if number == -math.inf else f"{number:.1f} dB"


def render(report: BisectReport) -> RenderableType:
    """The worst nodes as a table, the first one that differs marked, and the verdict."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "node", "operator", "value", "shape", "max abs", "rel L2", "SQNR", "before"):
        right = title in ("#", "max abs", "rel L2", "SQNR", "before")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    listed = list(report.worst)
    if report.first is not None and all(node.index != report.first.index for node in listed):
        listed.insert(0, report.first)
    for node in listed:
        first = report.first is not None and node.index == report.first.index
        style = "bold red" if first else "yellow" if node.sqnr_db < report.below_db else ""
        for value in node.values:
            cells = (
                f"{'>' if first else ''}{node.index}",
                node.node,
                node.operator,
                value.name,
                f"{value.dtype}[{','.join(str(dim) for dim in value.shape)}]",
                f"{value.difference.max_abs:.3g}",
                f"{value.difference.relative_l2:.3g}",
                decibels(quality(value.difference)),
                decibels(node.before_db),
            )
            table.add_row(*(Text(cell, style=style) for cell in cells))
    origin = "of the given data" if report.seed is None else f"drawn at random, seed {report.seed}"
    runs = f"{report.runs} truncated runs and {report.dump_runs} for all values"
    facts = f"{report.nodes} nodes compared on {report.samples} samples {origin}; {runs}"
    good = report.status == SAME
    return Group(
        *([table] if listed else []),
        Text(facts, style="dim"),
        *(Text(f"note: {note}", style="dim") for note in report.notes),
        Text(f"{report.model} for {report.target} at {report.precision}: {report.verdict}", "green" if good else "red"),
    )
