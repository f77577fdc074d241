"""The suite as a whole: which cases run, the rows of the result table, and the floors that they must reach."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .cases import SETS, Case, bound_variant, enumerate_cases
from .judge import FORBIDDEN, Outcome, compiler
from .runner import run_cases

FLOORS: Final = Path(__file__).with_name("floors.json")


@dataclass(frozen=True)
class Row:
    """One line of the result table: how many of `cases` pass."""

    name: str
    title: str
    cases: int
    passed: int
    judged: int  # less those that ONNX Runtime cannot reproduce and those with random outputs

    @property
    def percent(self) -> float:
        return 100.0 * self.passed / self.cases if self.cases else 0.0

    @property
    def percent_of_judged(self) -> float:
        return 100.0 * self.passed / self.judged if self.judged else 0.0


@dataclass
class Results:
    """Outcomes by case key, with the cases that they belong to (raw ones; a bound outcome has its own key)."""

    target: str
    cases: list[Case]
    outcomes: dict[str, Outcome]
    out_of_scope: dict[str, list[str]] = field(default_factory=dict)
    with_data: bool = True  # whether `convert` was given the stored inputs to verify with

    def raw(self, case: Case) -> Outcome | None:
        return self.outcomes.get(case.key)

    def bound(self, case: Case) -> Outcome | None:
        """The outcome with parameters bound; the raw one where binding changes nothing."""
        return self.outcomes.get(f"{case.key}/bound" if case.parameters else case.key)

    def rows(self) -> list[Row]:
        node = [case for case in self.cases if case.set == "node"]
        rows = [
            _row("raw", "node tests, raw, all in scope", map(self.raw, node)),
            _row("bound", "node tests, parameters bound as initializers", map(self.bound, node)),
            _row(
                "core",
                "bound, rank <= 4, no attention / _expanded / training_dropout",
                (self.bound(case) for case in node if case.core),
            ),
        ]
        for name in SETS[1:]:
            rows.append(_row(name, f"{name} set", (self.raw(case) for case in self.cases if case.set == name)))
        return [row for row in rows if row.cases]

    def forbidden(self) -> list[Outcome]:
        """Outcomes that may never occur."""
        return [outcome for outcome in self.outcomes.values() if outcome.outcome in FORBIDDEN]

    def counts(self) -> Counter[str]:
        return Counter(outcome.outcome for outcome in self.outcomes.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "edgec-conformance-1",
            "target": self.target,
            "with_data": self.with_data,
            "rows": {
                row.name: {"cases": row.cases, "passed": row.passed, "percent": round(row.percent, 2)}
                for row in self.rows()
            },
            "counts": dict(self.counts()),
            "outcomes": [outcome.to_json() for outcome in self.outcomes.values()],
            "out_of_scope": self.out_of_scope,
        }


def _row(name: str, title: str, outcomes: Iterable[Outcome | None]) -> Row:
    known = [outcome for outcome in outcomes if outcome is not None]
    passed = sum(outcome.outcome == "pass" for outcome in known)
    apart = sum(outcome.outcome in ("reference", "random") for outcome in known)
    return Row(name, title, len(known), passed, len(known) - apart)


def run_suite(
    data: Path,
    target: str,
    *,
    sets: Sequence[str] = SETS,
    pattern: str = "",
    raw: bool = True,
    jobs: int = 2,
    with_data: bool = True,
    progress: Callable[[Outcome], None] | None = None,
) -> Results:
    """Run the sets under the backend test data folder `data` against `target`.

    With `raw=False`, raw cases that have a bound variant are left out.
    """
    cases, out_of_scope = select(data, sets, pattern)
    bound = [variant for case in cases if case.set == "node" and (variant := bound_variant(case))]
    twice = {variant.name for variant in bound}
    first = [case for case in cases if raw or case.set != "node" or case.name not in twice]
    outcomes = run_cases([*first, *bound], compiler(target), jobs=jobs, with_data=with_data, progress=progress)
    return Results(target, cases, {outcome.key: outcome for outcome in outcomes}, out_of_scope, with_data)


def select(data: Path, sets: Sequence[str] = SETS, pattern: str = "") -> tuple[list[Case], dict[str, list[str]]]:
    """The raw cases in scope, and the names of the others by the type that puts them out of scope."""
    cases: list[Case] = []
    out_of_scope: dict[str, list[str]] = {}
    for name in sets:
        for case in enumerate_cases(data, name, pattern):
            if reason := case.out_of_scope:
                out_of_scope.setdefault(reason, []).append(f"{case.set}/{case.name}")
            else:
                cases.append(case)
    return cases, out_of_scope


def read_results(data: Path, path: Path) -> Results:
    """The results that an earlier run wrote to `path` (`Results.to_json`)."""
    document = json.loads(path.read_text())
    outcomes = {entry["key"]: Outcome(**entry) for entry in document["outcomes"]}
    cases, out_of_scope = select(data)
    known = [case for case in cases if case.key in outcomes or f"{case.key}/bound" in outcomes]
    return Results(document["target"], known, outcomes, out_of_scope, document["with_data"])


def floors(target: str) -> dict[str, int]:
    """The committed floors: row name to the least number of passing cases."""
    return {name: int(count) for name, count in json.loads(FLOORS.read_text()).get(target, {}).items()}
