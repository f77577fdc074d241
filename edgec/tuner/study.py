"""``edgec tune``: from a model and wishes to a confirmed winner, in a folder that can be gone on with."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Unpack

from edgec.converter import manifest as manifests
from edgec.converter.options import ArtifactKeywords, ConversionOptions, spelled_out
from edgec.errors import EdgecError, UsageError
from edgec.runtime.lease import device_of
from edgec.targets import registry
from edgec.targets.base import Target
from edgec.targets.knobs import Circumstances, Setting
from edgec.tuner.confirming import Confirmed, confirm, needs_floor
from edgec.tuner.conversions import FOLDER as CONVERSIONS
from edgec.tuner.conversions import NEEDS_DATA, Conversions, Source
from edgec.tuner.estimating import Estimates
from edgec.tuner.goals import OBJECTIVES, Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.leasing import leased
from edgec.tuner.machine import describe_machine, physical_memory, processors
from edgec.tuner.measurements import Measurements
from edgec.tuner.measuring import LocalMeasurements, Rules
from edgec.tuner.outcome import STORAGE, StudyResult, result_of, storages, winner_entry
from edgec.tuner.samplers import SAMPLERS, SURROGATE
from edgec.tuner.samples import Samples, make_samples
from edgec.tuner.search import Budget, Search, Watch
from edgec.tuner.space import Space, make_space
from edgec.tuner.storage import Mirror

BUDGET_S: Final = 600.0
"""Seconds of measuring where neither a budget nor a number of trials is given."""
VOLATILE: Final = ("notes", "basis", "configurations", "id")
"""What of a study's description may differ when it goes on."""
DESCRIBED: Final = frozenset({"input_shapes", "batch", "target_options"})
"""Options that a study's description names beside the others."""
ESTIMATED: Final = ("ethosu",)
"""Targets whose compiler's estimates stand for measurements."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of a study; the arguments of :func:`tune`, which explains them."""

    model: Path
    target: Target
    output: Path
    goals: Goals
    sampler: str
    knobs: Mapping[str, Sequence[Setting]]
    session: Mapping[str, Setting]
    source: Source
    notes: list[str] = field(default_factory=list)


@spelled_out(ArtifactKeywords)
def tune(
    model: str | Path,
    *,
    target: str,
    output: str | Path,
    objectives: Sequence[str] = ("latency",),
    max_latency_ms: float | None = None,
    max_memory: float | None = None,
    max_device_memory: float | None = None,
    max_drop: float | None = None,
    budget_s: float | None = None,
    trials: int | None = None,
    sampler: str = SURROGATE,
    knobs: Mapping[str, Sequence[Setting]] | None = None,
    session: Mapping[str, Setting] | None = None,
    storage: str | None = None,
    wait: bool = True,
    rules: Rules | None = None,
    progress: Callable[[str], object] = lambda step: None,
    watch: Watch = lambda trial: None,
    **options: Unpack[ArtifactKeywords],
) -> StudyResult:
    """Find the fastest way to run a model; on the folder of a study, go on with it.

    Args:
        model, target: as for :func:`edgec.converter.convert.convert`.
        output: folder of the study: journal, Optuna's storage, conversions.
        objectives: of ``latency``, ``throughput``, ``memory``; several give a Pareto front.
        max_latency_ms, max_memory, max_device_memory, max_drop: limits: milliseconds of one run, bytes that a session
            adds to its process, bytes that it holds on the NVIDIA GPU, share of the quality that may be lost (relative
            L2 error at the worst output).
        budget_s: seconds of measuring, all runs of the study together; ten minutes where ``trials`` is not given.
        trials: number of finished trials.
        sampler: ``surrogate``, or Optuna's ``tpe``, ``nsga2`` or ``random``.
        knobs: knob to the only values that are tried.
        session: session options of every configuration, such as ``{"provider": "cuda"}``.
        storage: URL of an Optuna storage; SQLite in the folder by default.
        wait: wait for a device that another process measures on; an error otherwise.
        rules: how long a measurement may take.
        progress: called with the name of each step; ``watch`` with each trial, as it begins and when it is over.
        options: of every conversion, see :class:`edgec.converter.options.ConversionOptions`.  ``input_shapes`` and
            ``batch`` give the default, the tuner varies the batch where the throughput is an objective; so does
            ``precision``, the target's first where none is given: others are tried where ``max_drop`` allows a loss.
            ``seed`` is that of the search as well.

    Raises:
        EdgecError: see :data:`edgec.errors.CODES`; trials that have finished are kept in any case.
    """
    goals = _goals(
        objectives,
        {"latency": max_latency_ms, "memory": max_memory, "device_memory": max_device_memory, "drop": max_drop},
    )
    device = device_of(session or {})
    if max_device_memory is not None and not device.startswith("cuda"):
        raise UsageError(
            "EDG001",
            f"--max-device-memory is about NVIDIA GPUs, and the sessions run on '{device}'",
            help="--provider cuda, or --max-memory, which is about the process",
        )
    if sampler not in SAMPLERS:
        raise UsageError("EDG001", f"unknown sampler '{sampler}'", why=f"known: {', '.join(SAMPLERS)}")
    chosen = registry.load(target)
    asked = ConversionOptions(**options, max_drop=max_drop)
    shapes = {name: tuple(int(dim) for dim in shape) for name, shape in (asked.input_shapes or {}).items()}
    source = Source(Path(model), shapes, asked.batch, asked)
    wishes = Wishes(
        Path(model),
        chosen,
        Path(output),
        goals,
        sampler,
        dict(knobs or {}),
        dict(session or {}),
        source,
    )
    with Journal(Path(output)) as journal:
        return _run(wishes, journal, storage, Budget(trials, _seconds(budget_s, trials)), rules, wait, progress, watch)


def _seconds(budget_s: float | None, trials: int | None) -> float | None:
    return BUDGET_S if budget_s is None and trials is None else budget_s


def _run(
    wishes: Wishes,
    journal: Journal,
    storage: str | None,
    budget: Budget,
    rules: Rules | None,
    wait: bool,
    progress: Callable[[str], object],
    watch: Watch,
) -> StudyResult:
    progress("reading the model")
    source, samples = _samples(wishes)
    if "drop" in wishes.goals.limits:
        wishes.notes.append(samples.what_is_lost)
    space = _space(wishes, source, samples)
    measurements = _measurements(wishes, source, samples, space, rules, wait, progress)
    header = _header(wishes, source, space, measurements.basis)
    if journal.entries and _differing(journal.entries[0], header) and _is_unused(journal.entries):
        progress("nothing was measured in the study that was here: it begins anew")
        shutil.rmtree(wishes.output / CONVERSIONS, ignore_errors=True)
        journal.restart()
    if journal.entries:
        _require_same(journal.entries[0], header, wishes.output)
    else:
        journal.append(header)
    name = f"{wishes.model.stem}-{wishes.target.name}-{journal.entries[0].get('id', 'study')}"
    mirror = Mirror(wishes.output, storage, name, space, wishes.goals, dict(header["machine"]))
    _note_storage(journal, mirror)
    finished = result_of(wishes.output, journal.entries)
    try:
        search = Search(
            space,
            wishes.goals,
            measurements,
            journal,
            mirror,
            sampler=wishes.sampler,
            seed=wishes.source.options.seed,
            watch=watch,
        )
        progress("measuring")
        why = search.run(budget)
        if finished.finish is not None and len(finished.trials) == len(search.trials):
            return finished

        def floor(*, anew: bool = False) -> float:
            progress(f"measuring {'again ' if anew else ''}what equals differ by")
            return _floor(measurements, journal, space.default, anew=anew)

        needed = needs_floor(search.trials, wishes.goals)
        least = floor() if needed else 0.0
        progress("confirming the winner")
        found = confirm(search.trials, wishes.goals, measurements, least, functools.partial(floor, anew=True))
        _finish(journal, search, why, found, floor() if needed else None)
    finally:
        measurements.close()
        mirror.close()
    return result_of(wishes.output, journal.entries)


def _goals(objectives: Sequence[str], limits: Mapping[str, float | None]) -> Goals:
    for objective in objectives:
        if objective not in OBJECTIVES:
            raise UsageError("EDG001", f"unknown objective '{objective}'", why=f"known: {', '.join(OBJECTIVES)}")
    if not objectives or len(set(objectives)) != len(objectives):
        raise UsageError("EDG001", "every objective once, and at least one")
    return Goals(tuple(objectives), {name: limit for name, limit in limits.items() if limit is not None})


def _samples(wishes: Wishes) -> tuple[Source, Samples]:
    """The samples, and the source with the shapes at the default batch filled in.

    Raises:
        UsageError: EDG202 where a dimension other than the leading one is unknown.
    """
    source = wishes.source
    samples = make_samples(source)
    shapes: dict[str, tuple[int, ...]] = {}
    for value in samples.imported.model.graph.inputs:
        given = samples.feeds[0][value.name].shape
        unknown = [axis for axis, dim in enumerate(value.shape or ()) if not isinstance(dim, int)]
        if any(axis > 0 for axis in unknown):
            raise UsageError(
                "EDG202",
                f"the input '{value.name}' has dimensions that are not known",
                why="a time means nothing without the shape that it was measured at",
                help=f"--input-shape {value.name}:{','.join(str(dim) for dim in given)}",
            )
        shapes[value.name] = tuple(int(dim) for dim in given)
    leading = {shape[0] for shape in shapes.values() if shape}
    scalars = any(not shape for shape in shapes.values())
    batch = leading.pop() if len(leading) == 1 and not scalars else None
    return Source(source.model, shapes, batch, source.options), samples


def _space(wishes: Wishes, source: Source, samples: Samples) -> Space:
    target = wishes.target
    precision = wishes.source.options.precision or target.precisions[0]
    if precision not in target.precisions:
        known = ", ".join(target.precisions)
        raise UsageError("EDG001", f"the target {target.name} has no precision '{precision}'", why=f"known: {known}")
    precisions = _precisions(wishes, precision)
    weights = sum(value.const.size * 4 for value in samples.imported.model.graph.constants() if value.const is not None)
    options = {**wishes.session, **(source.options.target_options or {})}
    circumstances = Circumstances(
        processors(), source.batch, precision, precisions, weights, options, wishes.goals.limits.get("drop")
    )
    frozen: dict[str, str] = {}
    if "throughput" not in wishes.goals.objectives:
        frozen["batch"] = "a smaller batch always has the lower latency"
    return make_space(target.knobs(circumstances), wishes.knobs, frozen)


def _precisions(wishes: Wishes, default: str) -> tuple[str, ...]:
    """What may be tried: nothing but the default where no loss is allowed."""
    known = wishes.target.precisions
    asked = [str(value) for value in wishes.knobs.get("precision", ())]
    if len(known) < 2:
        return (default,)
    if "drop" not in wishes.goals.limits and not asked:
        wishes.notes.append(f"only {default} is tried: --max-drop says how much of the quality may be lost")
        return (default,)
    found = []
    for precision in known:
        if precision != default and precision in NEEDS_DATA and wishes.source.options.calibration is None:
            wishes.notes.append(f"{precision} is not tried: it needs --calibration")
            continue
        found.append(precision)
    return tuple(found)


def _measurements(
    wishes: Wishes,
    source: Source,
    samples: Samples,
    space: Space,
    rules: Rules | None,
    wait: bool,
    progress: Callable[[str], object],
) -> Measurements:
    conversions = Conversions(wishes.target, source, space, wishes.output, progress)
    if wishes.target.name in ESTIMATED:
        if "drop" in wishes.goals.limits:
            raise UsageError("EDG001", f"--max-drop needs a device: {wishes.target.name} is only estimated here")
        return Estimates(conversions)
    if not wishes.target.runs_here():
        raise EdgecError(
            "EDG521",
            f"no device for {wishes.target.name} is here, and its compiler estimates no times",
            help="tune on the device's host",
        )
    return LocalMeasurements(
        wishes.target,
        space,
        conversions,
        source,
        samples,
        wishes.session,
        rules or Rules(memory_limit=None if wishes.session.get("provider") else physical_memory()),
        judges_drop="drop" in wishes.goals.limits,
        per_sample=wishes.goals.objectives[0] == "throughput",
        lease=lambda: leased(wishes.session, wait=wait),
    )


def _header(wishes: Wishes, source: Source, space: Space, basis: str) -> dict[str, Any]:
    given = source.options.study_entry()
    points = space.points
    return {
        "kind": "study",
        "schema": SCHEMA,
        "model": {
            "path": os.fspath(wishes.model),
            "name": wishes.model.name,
            "sha256": manifests.source_hash(wishes.model),
        },
        "target": wishes.target.name,
        "goals": wishes.goals.to_json(),
        "seed": source.options.seed,
        "sampler": wishes.sampler,
        "knobs": space.describe(),
        "configurations": None if points is None else len(points),
        "batch": source.batch,
        "input_shapes": {name: list(shape) for name, shape in sorted(source.input_shapes.items())},
        "options": {name: value for name, value in given.items() if name not in DESCRIBED},
        "target_options": given.get("target_options", {}),
        "session": dict(wishes.session),
        "basis": basis,
        "id": secrets.token_hex(4),
        "machine": describe_machine(),
        "notes": list(wishes.notes),
    }


def _note_storage(journal: Journal, mirror: Mirror) -> None:
    """Write down where Optuna's copy of the study is, when that is new; without any password."""
    known = storages(journal.entries)
    if mirror.database.shown != (known[-1] if known else None):
        journal.append({"kind": STORAGE, "where": mirror.database.shown})


def _is_unused(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a study ended before its first trial did, for example through an option that nothing here has."""
    return all(entry["kind"] in ("study", STORAGE, "begin") for entry in entries)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two studies differ in."""
    import json

    now = json.loads(json.dumps(now))
    differing = [name for name in now if name not in VOLATILE and before.get(name) != now[name]]
    if before["model"]["sha256"] == now["model"]["sha256"] and "model" in differing:
        differing.remove("model")
    return differing


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to mix two studies (EDG811)."""
    differing = _differing(before, now)
    if differing:
        first = differing[0]
        raise UsageError(
            "EDG811",
            f"'{folder}' holds another study",
            why=f"{', '.join(differing)} differ: {first} was {_brief(before.get(first))}, now {_brief(now[first])}",
            help="give the options of that study, or another folder with -o; --trials and --budget may differ",
        )


def _brief(value: Any) -> str:
    if isinstance(value, Mapping) and {"name", "sha256"} <= value.keys():
        return f"'{value['name']}' (sha256 {value['sha256'][:8]}...)"
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _floor(
    measurements: Measurements, journal: Journal, default: Mapping[str, Setting], *, anew: bool = False
) -> float:
    """The A/A floor that the winner is judged by: measured once in a study, unless it is measured anew."""
    if not isinstance(measurements, LocalMeasurements):
        return 0.0
    known = [] if anew else [entry for entry in journal.entries if entry["kind"] == "floor"]
    if known:
        return float(known[-1]["value"])
    found = measurements.floor(default, anew=anew)
    journal.append({"kind": "floor", "value": found.value, "ratios": list(found.ratios)})
    return found.value


def _finish(journal: Journal, search: Search, why: str, found: Confirmed, floor: float | None) -> None:
    winner = None if found.trial is None else winner_entry(found.trial, found.values, found.intervals)
    journal.append(
        {
            "kind": "finish",
            "trials": len(search.trials),
            "why": why,
            "winner": winner,
            "gain": None if found.gain is None else found.gain.to_json(),
            "floor": floor,
            "notes": list(found.notes),
        }
    )
