"""Find the node of a converted model that first differs from the source, by compiling and running parts of it.

A *prefix* of the graph in topological order is bad when a value that it hands on is below ``below_db``.  The empty
prefix is good; if the whole graph is bad, binary search over prefixes ends at a node that makes a good prefix bad, and
the run of the good one tells how good everything is that the node takes.  Where the outputs hide the error, or it grows
little by little, one dump of all values names the node instead, and one run of the graph up to it confirms that.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final, Unpack

from edgec.converter.bisection.probe import Prober, quality
from edgec.converter.bisection.report import BisectReport, decibels, node_report
from edgec.converter.bisection.steps import FUSED, Step, Steps, Watch, find_steps
from edgec.converter.calibration.options import precision_options, target_options
from edgec.converter.calibration.quantizing import is_quantized
from edgec.converter.options import ConversionKeywords, ConversionOptions, spelled_out
from edgec.converter.prepare import Prepared, Progress, prepare, refuse, silent
from edgec.converter.verification.data import Feeds, load_samples
from edgec.converter.verification.inputs import ATTEMPTS, Generator
from edgec.converter.verification.metrics import Difference
from edgec.converter.verification.reference import Host, InProcess, Reference, ReferenceModel, collect
from edgec.errors import UsageError, VerificationError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.base import parse_pipeline
from edgec.runtime.session import TensorSpec
from edgec.targets import registry
from edgec.targets.base import taking

BELOW_DB: Final = 10.0
"""Signal to noise of a wrong value, decibels, at any precision."""
ABOVE_DB: Final = {"int8": 20.0, "mixed": 20.0, "int16x8": 20.0, "dynamic-int8": 20.0}
ABOVE_FLOAT_DB: Final = 30.0
"""Signal to noise of a right value, decibels, by precision: 8 bits leave about 30 dB, less of some nodes."""
WORST: Final = 10
"""Nodes in the ranking."""
SAMPLES: Final = 3
"""Random samples."""
DATA_SAMPLES: Final = 4
"""Most samples of the user's data that are run."""
ROUNDING: Final = 1e-6
"""Errors below this multiple of what a node takes are rounding, whatever is left of the signal."""


@spelled_out(ConversionKeywords)
def bisect(
    model: str | Path,
    *,
    target: str,
    below_db: float | None = None,
    above_db: float | None = None,
    progress: Progress = silent,
    **options: Unpack[ConversionKeywords],
) -> BisectReport:
    """Find the first node whose result is wrong in the artifact, and the worst ten.

    Inputs and outputs keep the model's layout and stay float32.

    Args:
        below_db: signal to noise of a value that is wrong, decibels; :data:`BELOW_DB` by default.
        above_db: signal to noise of a value that is right; by default 20 where weights or activations are integers,
            else 30, and never less than ``below_db``.
        options: see :class:`edgec.converter.options.ConversionOptions`.

    Raises:
        UsageError: EDG001 for thresholds out of order, for other inputs and outputs, and for files that the target
            takes as they are.
        UnsupportedError: the target cannot hold the model, or the part of it that is needed.
        EdgecError: whatever reading, calibrating and running report.
    """
    path = Path(model)
    chosen = registry.load(target)
    if taking(chosen, path) is not None:
        raise UsageError(
            "EDG001",
            f"'{path.name}' cannot be bisected for {chosen.name}",
            why="it is taken as it is, byte for byte",
            help="give the model that it was made from",
        )
    for name, held in (("io_layout", "ONNX"), ("io_dtype", "float32")):
        if options.get(name) not in (None, held):
            raise UsageError("EDG001", f"{name} can only be {held} here", why="values are compared as the model's own")
    asked = replace(ConversionOptions(**options), io_layout="ONNX", io_dtype="float32")
    wanted = precision_options(chosen, asked)
    below_db, above_db = thresholds(wanted.precision, below_db, above_db)
    lowering = target_options(chosen, asked, wanted)
    prepared = prepare(
        path,
        chosen,
        asked.source,
        options=lowering,
        passes=asked.passes,
        precision=wanted,
        progress=progress,
    )
    refusals = prepared.ask()
    if refusals:
        raise refuse(chosen, refusals)
    reference = _float_reference(prepared)
    rules = chosen.quantization(wanted.precision)
    names = {value.name for node in reference.graph.nodes for value in node.outputs}
    steps = find_steps(prepared.model.graph, names, FUSED if rules is None else rules.fused)
    given = _given(prepared, asked.data)
    with tempfile.TemporaryDirectory(prefix="edgec-bisect-") as folder, _hosting(asked.isolate) as host:
        progress("running the original")
        found = _samples(host, prepared, given, asked.bounds, asked.seed)
        report = BisectReport(
            path.name,
            chosen.name,
            wanted.precision,
            below_db,
            above_db,
            len(steps.steps),
            len(found.feeds),
            None if given else asked.seed,
            notes=list(prepared.notes),
        )
        report.passes_db = _passes_db(host, prepared.imported.model, found, Path(folder))
        if report.passes_db < above_db:
            report.notes.append(f"the canonical model is at {decibels(report.passes_db)} from the original")
        prober = Prober(chosen, lowering, prepared.model, reference, found.feeds, host, Path(folder))
        _Search(steps, prober, report, progress).run()
    return report


def thresholds(precision: str, below_db: float | None, above_db: float | None) -> tuple[float, float]:
    """Signal to noise of wrong and of right values, decibels, as given or by the precision.

    Raises:
        UsageError: EDG001 where they are the wrong way round.
    """
    below = BELOW_DB if below_db is None else below_db
    above = max(ABOVE_DB.get(precision, ABOVE_FLOAT_DB), below) if above_db is None else above_db
    if not below <= above:
        raise UsageError("EDG001", f"--below {below:g} is more than --above {above:g}")
    return below, above


def _float_reference(prepared: Prepared) -> Model:
    """The float graph with the names of the graph that is lowered."""
    model = prepared.imported.model
    if prepared.quantized is None or prepared.quantized.arrived or is_quantized(model):
        return model
    copy = copy_model(model)
    for item in parse_pipeline(prepared.quantized.preparing):
        item.apply(copy)
    return copy


class _Search:
    def __init__(self, steps: Steps, prober: Prober, report: BisectReport, progress: Progress):
        self.steps, self.prober, self.report, self.progress = steps, prober, report, progress

    def run(self) -> None:
        """Fill the report."""
        steps, report = self.steps, self.report
        if not steps.steps:
            report.notes.append("no node of the model computes a value that can be compared")
            return
        if steps.hidden:
            names = ", ".join(f"'{node.name}'" for node in steps.hidden[:4])
            report.notes.append(f"not compared, because nothing comparable comes after: {names}")
        self.progress("running the whole model")
        whole = self._probe(steps.outputs)
        found = self._search(whole) if self._bad(whole) else None
        taken = self.prober.runs
        self.progress("dumping all values")
        dump, missing = self.prober.dump([watch for step in steps.steps for watch in step.watches])
        report.dump_runs = self.prober.runs - taken
        report.runs = taken
        if missing:
            report.notes.append(f"{len(missing)} values cannot be handed out by the target, and are not ranked")
        reports = [node_report(step, dump) for step in steps.steps if any(w in dump for w in step.watches)]
        report.worst = sorted(
            (item for item in reports if item.sqnr_db < math.inf), key=lambda item: (item.sqnr_db, item.index)
        )[:WORST]
        if found is not None:
            report.first = node_report(steps.steps[found[0]], found[1])
            report.sharp = report.first.before_db >= report.above_db
        if report.first is None or not report.sharp:
            self._from_dump(dump)

    def _probe(self, watches: Sequence[Watch]) -> dict[Watch, Difference]:
        return self.prober.compare(watches)

    def _bad(self, found: Mapping[Watch, Difference]) -> bool:
        return any(quality(item) < self.report.below_db for item in found.values())

    def _search(self, whole: dict[Watch, Difference]) -> tuple[int, dict[Watch, Difference]]:
        """The step that makes a good prefix bad, and what is known of its values and of those that it reads."""
        good, bad = 0, len(self.steps.steps)
        before: dict[Watch, Difference] = {}
        after = whole
        while bad - good > 1:
            middle = (good + bad) // 2
            self.progress(f"bisecting: nodes {good} to {bad} of {len(self.steps.steps)}")
            found = self._probe(self.steps.frontier(middle))
            if self._bad(found):
                bad, after = middle, found
            else:
                good, before = middle, found
        return bad - 1, {**before, **after}

    def _from_dump(self, dump: Mapping[Watch, Difference]) -> None:
        """The first step whose values are wrong while all that it takes is right, confirmed by a run up to it."""
        report = self.report
        for step in self.steps.steps:
            if report.first is not None and step.index >= report.first.index:
                return
            if not self._breaks(step, dump):
                continue
            self.progress("confirming what the dump says")
            report.runs += 1
            found = self._probe([*step.reads, *step.watches])
            if self._breaks(step, found):
                if report.first is None:
                    report.notes.append("the outputs hardly show the error; all values were looked at to find it")
                report.first, report.sharp = node_report(step, found), True
            else:
                report.notes.append(
                    f"'{step.sources[0]}' differs only where all values are handed out, not in the artifact"
                )
            return

    def _breaks(self, step: Step, found: Mapping[Watch, Difference]) -> bool:
        if any(watch not in found or quality(found[watch]) < self.report.above_db for watch in step.reads):
            return False
        size = max((_rms(found[watch].reference_energy, found[watch]) for watch in step.reads), default=0.0)
        return any(
            quality(found[watch]) < self.report.below_db
            and (found[watch].infinities or _rms(found[watch].error_energy, found[watch]) > ROUNDING * size)
            for watch in step.watches
            if watch in found
        )


def _rms(energy: float, difference: Difference) -> float:
    return math.sqrt(energy / max(difference.elements, 1))


# inputs


def _hosting(isolate: bool) -> AbstractContextManager[Host]:
    if not isolate:
        return nullcontext(InProcess())
    from edgec.runtime.isolation import Workers

    return Workers()


def _specs(prepared: Prepared) -> list[TensorSpec]:
    inputs = prepared.imported.model.graph.inputs
    return [TensorSpec(value.name, value.dtype.numpy, value.shape or ()) for value in inputs]


def _given(prepared: Prepared, data: str | Path | None) -> list[Feeds]:
    """The user's samples, else those of the calibration; empty where random ones are to be drawn."""
    calibration = None if prepared.quantized is None or prepared.quantized.arrived else prepared.precision.data
    if data is not None:
        found = list(islice(load_samples(data, _specs(prepared), fill=True), DATA_SAMPLES))
        if not found:
            raise UsageError("EDG005", f"'{data}' holds no samples")
        return found
    if calibration is not None and not calibration.is_random:
        return list(islice(calibration.samples(prepared.imported.model), DATA_SAMPLES))
    return []


def _samples(
    host: Host, prepared: Prepared, given: list[Feeds], ranges: Mapping[str, tuple[float, float]], seed: int
) -> Reference:
    """Inputs that the original accepts, and its outputs: the given ones, else the random ones of the verification."""
    imported, specs = prepared.imported, _specs(prepared)
    original = ReferenceModel(host, imported.original)
    failure: VerificationError | None = None
    try:
        for attempt in range(1 if given else ATTEMPTS):
            draw = given.__getitem__ if given else Generator(specs, imported.model, ranges, seed, attempt).draw
            try:
                return collect(original, draw, len(given) or (SAMPLES if specs else 1), 0, set())
            except VerificationError as error:
                failure = failure or error
                if error.details.get("signal") or "timeout_s" in error.details:
                    break
    finally:
        original.session.close()
    assert failure is not None
    raise original.refused(failure) from failure


def _passes_db(host: Host, canonical: Model, samples: Reference, folder: Path) -> float:
    """The canonical model in ONNX Runtime against the original in its own runtime: the worst output, decibels."""
    from edgec.converter.bisection.probe import REFERENCE
    from edgec.ir.writer import write_model

    path = folder / "canonical.onnx"
    write_model(canonical, path)
    session = host.open(REFERENCE, path, {"optimise": False})
    found: dict[str, Difference] = {}
    for feeds, expected in zip(samples.feeds, samples.outputs):
        for name, array in session.run({spec.name: feeds[spec.name] for spec in session.inputs}).items():
            if name in expected and expected[name].dtype != object:
                found.setdefault(name, Difference()).add(expected[name], array)
    session.close()
    return min((quality(item) for item in found.values()), default=math.inf)
