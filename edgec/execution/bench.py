"""``edgec.bench``: latency with intervals, throughput, memory and cold start of an artifact, or of two side by side."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgec.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNSTABLE,
    EXIT_UNSUPPORTED,
    EdgecError,
    UsageError,
    VerificationError,
)
from edgec.execution.load import locate
from edgec.execution.measure import Row, RowStatus, measure_row
from edgec.execution.samples import Sample, Samples
from edgec.runtime.isolation import DEFAULT_TIMEOUT_S
from edgec.runtime.lease import device_of, lease, to_standard_error
from edgec.runtime.measurement import (
    Duel,
    DuelRules,
    Estimate,
    LatencyRules,
    Status,
    Subject,
    cached_floor,
    floor_key,
    keep_floor,
    measure_floor,
    open_subject,
)
from edgec.runtime.measurement.processors import in_pairs, one_processor, place_of
from edgec.targets.base import SessionSpec

MEASUREMENTS: Final = "measurements.jsonl"
SHARE: Final = 0.5
"""How much of a row's time is for the latency of one artifact where two are compared."""
LEAST_S: Final = 1.0
"""Seconds that a row gets in any case."""


@dataclass(frozen=True)
class Comparison:
    """Two artifacts in the same setting.

    Attributes:
        batch, threads: the setting.
        estimate: the first artifact is the candidate, the other one the incumbent; None where one does not run.
        reason: why there is no estimate.
    """

    batch: int | None
    threads: int | None
    estimate: Estimate | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the document holds it."""
        setting = {"batch": self.batch, "threads": self.threads, "reason": self.reason}
        return setting | {"estimate": None if self.estimate is None else self.estimate.to_json()}


@dataclass
class BenchResult:
    """What was measured.

    Attributes:
        folder, versus: the folders of the artifacts.
        target: the first one's target.
        device: what was leased.
        rows, other_rows: one per setting.
        comparisons: one per setting where there is another artifact.
        waited_s: how long the device was waited for, seconds; not part of any number.
        notes: what the user should know.
    """

    folder: Path
    target: str
    device: str
    versus: Path | None = None
    rows: list[Row] = field(default_factory=list)
    other_rows: list[Row] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    waited_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 when a setting failed, 7 when a number is unstable, 4 when the artifact takes none of the settings."""
        states = [row.status for row in self.rows + self.other_rows]
        if RowStatus.FAILED in states:
            return EXIT_FAILED
        shaky = any(c.estimate is not None and c.estimate.status is Status.UNSTABLE for c in self.comparisons)
        if shaky or RowStatus.UNSTABLE in states:
            return EXIT_UNSTABLE
        return EXIT_UNSUPPORTED if states and set(states) == {RowStatus.UNSUPPORTED} else EXIT_OK

    def to_json(self) -> dict[str, Any]:
        """The document of ``edgec bench --json``."""
        states = {EXIT_OK: "ok", EXIT_UNSTABLE: "unstable", EXIT_UNSUPPORTED: "unsupported"}
        return {
            "schema": "edgec-bench-1",
            "status": states.get(self.exit_code, "error"),
            "target": self.target,
            "device": self.device,
            "waited_s": self.waited_s,
            "rows": [row.to_json() for row in self.rows],
            "versus": None
            if self.versus is None
            else {
                "rows": [row.to_json() for row in self.other_rows],
                "comparisons": [comparison.to_json() for comparison in self.comparisons],
            },
            "notes": self.notes,
            "error": None,
        }


@dataclass(frozen=True)
class _Artifact:
    """An artifact and how it is opened."""

    folder: Path
    manifest: Mapping[str, Any]
    file: Path
    spec: SessionSpec

    @classmethod
    def at(cls, folder: str | Path) -> _Artifact:
        manifest, file, spec = locate(folder)
        return cls(Path(folder), manifest, file, spec)

    def verified_shapes(self) -> dict[str, Sequence[int]]:
        """The shapes that the verification ran with, for extents that the artifact leaves open."""
        listed = (self.manifest.get("verification") or {}).get("inputs") or []
        return {item["name"]: item["shape"] for item in listed if "shape" in item}


def bench(
    folder: str | Path,
    *,
    versus: str | Path | None = None,
    batches: Sequence[int | None] = (None,),
    threads: Sequence[int | None] = (None,),
    samples: Sequence[Sample] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    budget_s: float = 30.0,
    percentiles: bool = False,
    seed: int = 0,
    wait: bool = True,
    record: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit: int | None = None,
    tell: Callable[[str], object] = to_standard_error,
    progress: Callable[[str], object] = lambda step: None,
    **options: Any,
) -> BenchResult:
    """Measure the artifact that a conversion left in a folder, in worker processes, while holding the device's lease.

    Args:
        folder: with ``manifest.json`` in it.
        versus: another such folder to compare with; a ratio below 1 says that `folder` is faster.
        batches, threads: the settings, all combinations; None is what the artifact or its session has by default.
        samples: arrays per input name; random ones without.
        input_shapes: input name to extents, for inputs that leave more open than the batch.
        budget_s: seconds for all that is timed; opening, warming up and the A/A floor come on top.
        percentiles: measure until p90 can be said, if the budget allows it.
        wait: wait for the device while another process has it.
        record: append what was measured to ``measurements.jsonl`` in the folder.
        options: of the session, see :func:`edgec.execution.load.load`.

    Raises:
        UsageError: EDG701 when the device is in use and `wait` is off; EDG040 for an option that the session lacks;
            EDG017 where there is no folder or no manifest in it; EDG002 and EDG005 for a shape of no input, or one that
            the artifact does not have.
        VerificationError: EDG306 where an artifact is missing or has changed.
    """
    artifact = _Artifact.at(folder)
    other = None if versus is None else _Artifact.at(versus)
    device = device_of({**artifact.spec.options, **options})
    result = BenchResult(Path(folder), artifact.manifest["target"], device, None if versus is None else Path(versus))
    sides = [side for side in (artifact, other) if side is not None]
    _check_names(sides, input_shapes or {})
    _check_sources(sides, result.notes)
    settings = [(batch, count) for batch in batches for count in threads]
    share = max(budget_s / len(settings), LEAST_S)
    limits = {"timeout_s": timeout_s, "memory_limit": memory_limit}
    with lease(device, wait=wait, tell=tell) as held:
        result.waited_s = held.waited_s
        for batch, count in settings:
            chosen = {**options, **({} if count is None else {"threads": count})}
            rules = LatencyRules(
                budget_s=share if other is None else share * SHARE / 2, percentiles=percentiles, seed=seed
            )
            for side, rows in zip(sides, (result.rows, result.other_rows)):
                progress(f"{side.folder}: batch {batch or 'default'}, threads {count or 'default'}")
                opener = _opener(side, chosen, _samples(side, batch, samples, input_shapes, seed), limits)
                rows.append(measure_row(functools.partial(opener, None), batch, count, chosen, device, rules))
            if other is not None:
                openers = [
                    _opener(side, chosen, _samples(side, batch, samples, input_shapes, seed), limits) for side in sides
                ]
                rows = [result.rows[-1], result.other_rows[-1]]
                result.comparisons.append(
                    _compare(openers, rows, device, other.spec.factory, share * (1 - SHARE), seed, progress)
                )
    if record:
        _record(artifact, result.rows, device, result.notes)
        if other is not None:
            _record(other, result.other_rows, device, result.notes)
    return result


def _samples(
    side: _Artifact,
    batch: int | None,
    given: Sequence[Sample] | None,
    shapes: Mapping[str, Sequence[int]] | None,
    seed: int,
) -> Samples:
    return Samples(batch, side.verified_shapes(), given, seed, shapes)


def _check_names(sides: Sequence[_Artifact], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a shape for an input that no artifact has.

    Raises:
        UsageError: EDG002.
    """
    listed = [
        [item["name"] for item in (side.manifest.get("verification") or {}).get("inputs") or []] for side in sides
    ]
    names = list(dict.fromkeys(name for part in listed for name in part))
    for name in shapes:
        if all(listed) and name not in names:
            raise UsageError("EDG002", f"'{name}' is no input", where=f"inputs: {', '.join(names)}")


def _check_sources(sides: Sequence[_Artifact], notes: list[str]) -> None:
    """Say when two artifacts do not come from the same model, so that faster is not better."""
    sources = [side.manifest.get("source") or {} for side in sides]
    if len({source.get("sha256") for source in sources}) > 1:
        named = " and ".join(f"'{source.get('name', 'unknown')}'" for source in sources)
        notes.append(f"they were made from different models, {named}: the ratio compares these too")


def _opener(
    side: _Artifact, options: Mapping[str, Any], samples: Samples, limits: Mapping[str, Any]
) -> Callable[[int | None], Subject]:
    """Opens it on the processor of that number, or on any."""
    spec = side.spec

    def opened(processor: int | None) -> Subject:
        processors = None if processor is None else (processor,)
        settings = {**spec.options, **options}
        try:
            return open_subject(spec.factory, side.file, settings, samples.make, processors=processors, **limits)
        except VerificationError as error:
            if "unexpected keyword argument" in error.message:
                target = side.manifest["target"]
                raise UsageError("EDG040", f"{target} has no such session option", why=error.message) from error
            raise

    return opened


def _compare(
    openers: Sequence[Callable[[int | None], Subject]],
    rows: Sequence[Row],
    device: str,
    factory: str,
    budget_s: float,
    seed: int,
    progress: Callable[[str], object],
) -> Comparison:
    """The first artifact against the second, which is the incumbent and gives the floor."""
    mine, other = rows
    setting = (mine.batch, mine.threads)
    for row in rows:
        if row.latency is None:
            return Comparison(*setting, None, row.reasons[0] if row.reasons else "one of them was not measured")
    assert other.latency is not None
    processor = one_processor(device)
    key = floor_key(place_of(device, processor), factory, other.latency.median.value)
    floor = cached_floor(key)
    try:
        if floor is None:
            progress("measuring the A/A floor of the device")
            floor = measure_floor(in_pairs(openers[1], device), key=key, rules=DuelRules(budget_s=5.0, seed=seed))
            keep_floor(floor)
        progress("comparing")
        rules = DuelRules(floor=floor.value, budget_s=budget_s, seed=seed)
        with openers[1](processor) as incumbent, openers[0](processor) as candidate:
            return Comparison(*setting, Duel(incumbent, candidate, rules).run())
    except EdgecError as error:
        return Comparison(*setting, None, error.message)


def _record(artifact: _Artifact, rows: Sequence[Row], device: str, notes: list[str]) -> None:
    """Append a line per row that was measured to ``measurements.jsonl``; where that cannot be written, a note."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = [
        json.dumps(
            {
                "schema": "edgec-measurement-1",
                "date": now,
                "target": artifact.manifest["target"],
                "artifact": artifact.manifest["artifact"]["sha256"],
                "versions": artifact.manifest.get("versions", {}),
                "device": device,
                **row.to_json(),
            },
            ensure_ascii=False,
        )
        + "\n"
        for row in rows
        if row.latency is not None
    ]
    if not lines:
        return
    path = artifact.folder / MEASUREMENTS
    try:
        with _appending(path) as descriptor:
            os.write(descriptor, "".join(lines).encode())
            os.fsync(descriptor)
    except OSError as error:
        notes.append(f"the measurements were not kept: '{path}' cannot be written ({error.strerror})")


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
