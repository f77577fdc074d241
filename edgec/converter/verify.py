"""Verification: the artifact against the original model in its own runtime.

An artifact is verified when it loads, has the model's interface, runs, and every output that the inputs can change is
as close to the reference as its precision allows: float32 relative L2 <= max(1e-4, 3 x floor), float16 1e-2, int8
SQNR >= 15 dB, integers equal.  The floor is ONNX Runtime with all graph optimisations against none on the same inputs;
float outputs of int8 artifacts are judged without it, and where there are no others it is not measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.converter.verification import judgement
from edgec.converter.verification.data import Feeds, load_samples, renamed
from edgec.converter.verification.inputs import ATTEMPTS, Generator
from edgec.converter.verification.metrics import Difference, same
from edgec.converter.verification.reference import Host, InProcess, Reference, ReferenceModel, collect, departures
from edgec.converter.verification.report import FAILED, PASSED, InputReport, VerificationReport
from edgec.errors import EdgecError, UsageError, VerificationError
from edgec.ir.graph import Model, Value
from edgec.ir.quantization import Affine
from edgec.ir.types import Array, DataType
from edgec.runtime.packages import installed
from edgec.runtime.session import Assignment, Session, TensorSpec
from edgec.targets.base import SessionSpec

if TYPE_CHECKING:
    from edgec.converter.importers.imported import ImportedModel

SAMPLES = 3
"""Random samples that are compared."""

MORE_SAMPLES = 5
"""Random samples that are added while an output stays the same."""

DATA_SAMPLES = 256
"""Most samples of the user's data that are compared."""

LOOSE = 30.0
"""A limit that the floor raised to more than this multiple of its base is pointed out."""

LOST = 0.5
"""A channel of an int8 artifact that is further off than this (relative L2) is pointed out."""

TIMEOUT_S = 600.0
"""Longest time that loading, or one run, may take, seconds."""


def verify(
    artifact: str | Path,
    spec: SessionSpec,
    *,
    imported: ImportedModel,
    data: str | Path | Sequence[Feeds] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    samples: int | None = None,
    isolate: bool = True,
    layouts: Mapping[str, Sequence[int]] | None = None,
    precision: str | None = None,
    quantized_io: Mapping[str, Affine] | None = None,
    meant: Model | None = None,
    timeout_s: float = TIMEOUT_S,
) -> VerificationReport:
    """Compare an artifact with the model that it was made from.

    Args:
        artifact, spec: the file to open, and how.
        imported: the canonical model (for the interface and the domains of random inputs), and how the original is run.
        data: inputs to use, see :func:`edgec.converter.verification.data.load_samples`, or the samples themselves;
            seeded random by default.
        ranges: input name to (low, high) of the random inputs.
        samples: how many inputs; :data:`SAMPLES` random ones by default, all of the data up to :data:`DATA_SAMPLES`.
        isolate: run the reference and the artifact in a worker process.
        layouts: input or output name to the permutation that the artifact applied to it.
        precision: ``float32``, ``float16`` or ``int8``; by default what the model's own types imply.
        quantized_io: input or output name to how the artifact's integers stand for the model's floats.
        meant: a model that departs from the original on purpose, and that the artifact is to compute; how far it
            departs is measured in ONNX Runtime on the same inputs, and allowed on top of the limit.

    Raises:
        VerificationError: EDG302 and EDG303 when the artifact does not load or run; EDG301, EDG304 and EDG305 with the
            report in ``details["verification"]``.
        ModelError: EDG113 when the original cannot be run in its own runtime.
        UsageError: EDG002, EDG005, EDG006 for data and ranges that do not fit.
    """
    model, original = imported.model, imported.original
    inputs = [_input_spec(value) for value in model.graph.inputs]
    given = None if data is None else _load(data, inputs, samples)
    generator = Generator(inputs, model, ranges or {}, seed)
    depends = judgement.dependent_outputs(model.graph)
    fixed: frozenset[str] = frozenset()
    with _host(isolate, timeout_s) as host:
        reference_model = ReferenceModel(host, original)
        if given is not None:
            reference = _run_given(reference_model, given)
        else:
            wanted = 1 if not inputs else SAMPLES if samples is None else max(samples, 1)
            more = MORE_SAMPLES if samples is None and inputs else 0
            generator, reference = _run_random(
                reference_model, generator, inputs, model, ranges or {}, seed, wanted, more, depends
            )
        asked = precision or judgement.precision_of(model.graph)
        reference_model.close(reference)
        if judgement.floors_matter(reference.outputs[0], asked):
            reference_model.floors(reference)
        report = VerificationReport(
            asked,
            len(reference.feeds),
            None if given is not None else seed,
            {"runtime": original.package, "version": _version(original.package)},
            notes=list(reference.notes),
        )
        note = renamed(data, inputs) if isinstance(data, str | Path) else None
        if note is not None:
            report.notes.append(note)
        for item in inputs:
            values = "data" if given is not None else generator.describe(item.name)
            report.inputs.append(InputReport(item.name, str(item.dtype), reference.feeds[0][item.name].shape, values))
        if given is None:
            fixed = frozenset(name for name in generator.planned if _one_value(reference.feeds, name))
        if fixed:  # a shape that the declared output shape dictates takes one value only
            varying = [item.name for item in inputs if item.name not in fixed]
            depends = judgement.dependent_outputs(model.graph, varying)
        forms = _Forms(layouts or {}, quantized_io or {})
        departed = {} if meant is None else departures(host, meant, reference)
        for name, departure in departed.items():
            report.notes.append(f"'{name}' is meant to be off by a relative L2 of {departure.relative_l2:.3g}")
        _compare(host, Path(artifact), spec, model, reference, forms, depends, original.steps, departed, report)
    report.raise_for_failure()
    return report


def verify_folder(
    folder: str | Path,
    *,
    against: str | Path,
    trust: bool = False,
    data: str | Path | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    samples: int | None = None,
    isolate: bool = True,
    session: Mapping[str, Any] | None = None,
) -> VerificationReport:
    """Repeat the verification of a finished conversion, from its ``manifest.json``.

    Args:
        folder: the output folder of a conversion.
        against: the original model.
        trust: let it run code that it brings along, see :func:`edgec.converter.convert.convert`.
        session: options of the artifact's session, such as its delegates; see :func:`edgec.execution.load.load`.

    Raises:
        UsageError: EDG017 when there is no folder or no manifest in it.
        VerificationError: EDG306 when the artifact is not the one that the manifest describes; otherwise see
            :func:`verify`.
    """
    from edgec.converter.importers import open_source
    from edgec.converter.importers.imported import SourceOptions
    from edgec.converter.manifest import source_hash
    from edgec.execution.load import locate, unreadable
    from edgec.ir.passes.base import parse_pipeline

    manifest, artifact, spec = locate(folder)
    try:
        options, source, layouts = manifest["options"], manifest["source"]["sha256"], manifest["layouts"]
        precision = manifest["verification"]["precision"]
    except (KeyError, TypeError) as error:
        raise unreadable(Path(folder), error) from error
    reading = SourceOptions(options.get("input_shapes") or None, None, options.get("signature"), trust)
    imported = open_source(against, reading)
    for item in parse_pipeline("fold-constants"):
        item.apply(imported.model)
    meant = _meant(open_source(against, reading).model, manifest.get("pipeline") or "")
    notes = []
    if source_hash(Path(against)) != source:
        notes.append(f"'{Path(against).name}' is not the file that the artifact was made from")
    try:
        report = verify(
            artifact,
            SessionSpec(spec.factory, {**spec.options, **(session or {})}),
            imported=imported,
            data=data,
            ranges=ranges or manifest.get("quantization", {}).get("input_ranges"),
            seed=seed,
            samples=samples,
            isolate=isolate,
            layouts=layouts,
            precision=precision,
            quantized_io=_quantized_io(manifest),
            meant=meant,
        )
    except EdgecError as error:
        found = error.details.get("verification")
        if isinstance(found, dict):
            found["notes"] = notes + found["notes"]
        raise
    report.notes[:0] = notes
    return report


def _meant(model: Model, pipeline: str) -> Model | None:
    """What the passes of a conversion made of the model where they rounded further than it does; else None."""
    from edgec.ir.passes.base import parse_pipeline
    from edgec.ir.passes.quantize_between import QuantizeBetween, inner_steps

    passes = parse_pipeline(pipeline)
    if not any(isinstance(item, QuantizeBetween) for item in passes):
        return None
    for item in passes:
        item.apply(model)
    return model if inner_steps(model) else None


def _quantized_io(manifest: Mapping[str, Any]) -> dict[str, Affine]:
    listed = manifest.get("quantization", {}).get("quantized_io", {})
    return {
        name: Affine(DataType[item["dtype"].upper()], item["scale"], item["zero_point"])
        for name, item in listed.items()
    }


# the reference


@contextmanager
def _host(isolate: bool, timeout_s: float) -> Iterator[Host]:
    if not isolate:
        yield InProcess()
        return
    from edgec.runtime.isolation import Workers

    with Workers(timeout_s=timeout_s, memory_limit=_physical_memory()) as workers:
        yield workers


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _input_spec(value: Value) -> TensorSpec:
    dtype = np.dtype(object) if value.dtype is DataType.STRING else value.dtype.numpy
    return TensorSpec(value.name, dtype, value.shape or ())


def _load(data: str | Path | Sequence[Feeds], inputs: list[TensorSpec], samples: int | None) -> list[Feeds]:
    if not isinstance(data, (str, Path)):
        return list(data)
    limit = DATA_SAMPLES if samples is None else max(samples, 1)
    given: list[Feeds] = []
    for feeds in load_samples(data, inputs, fill=True):
        given.append(feeds)
        if len(given) == limit:
            break
    if not given:
        raise UsageError("EDG005", f"'{data}' holds no samples")
    return given


def _one_value(feeds: list[Feeds], name: str) -> bool:
    return all(same(item[name], feeds[0][name]) for item in feeds[1:])


def _run_given(model: ReferenceModel, given: list[Feeds]) -> Reference:
    try:
        reference = collect(model, given.__getitem__, len(given), 0, set())
    except VerificationError as error:
        raise model.refused(error) from error
    if len(given) == 1:
        reference.notes.append("one sample: whether the outputs depend on the inputs was not tried")
    return reference


def _run_random(
    reference_model: ReferenceModel,
    generator: Generator,
    inputs: list[TensorSpec],
    model: Model,
    ranges: Mapping[str, tuple[float, float]],
    seed: int,
    wanted: int,
    more: int,
    depends: set[str],
) -> tuple[Generator, Reference]:
    """Random samples; where the reference refuses them, others are tried before the model is given up."""
    first: VerificationError | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            generator = Generator(inputs, model, ranges, seed, attempt)
        generator.wider_from = wanted if more else None
        try:
            return generator, collect(reference_model, generator.draw, wanted, more, depends)
        except VerificationError as error:
            first = first or error
            if error.details.get("signal") or "timeout_s" in error.details:
                break
    assert first is not None
    problem = reference_model.refused(first)
    problem.help = "give real inputs with --data, or ranges with --range NAME:low,high"
    raise problem from first


# the artifact


def _compare(
    host: Host,
    artifact: Path,
    spec: SessionSpec,
    model: Model,
    reference: Reference,
    forms: _Forms,
    depends: set[str],
    steps: int,
    departed: Mapping[str, Difference],
    report: VerificationReport,
) -> None:
    session = host.open(spec.factory, artifact, dict(spec.options))
    report.notes += _left(spec, session)
    report.interface = judgement.interface_problems(model.graph, session, forms.layouts, forms.quantized_io)
    report.levels["artifact-structure"] = FAILED if report.interface else PASSED
    if report.interface:
        return
    differences = {name: Difference() for name in model.graph.output_names}
    flat: dict[str, set[float]] = {name: set() for name in differences}
    for feeds, expected in zip(reference.feeds, reference.outputs):
        for name, array in _run(session, feeds, forms).items():
            if name in differences:
                differences[name].add(expected[name], array)
                if array.dtype.kind == "f" and array.size:
                    flat[name].update((float(array.min()), float(array.max())))
    session.close()
    for name in model.graph.output_names:
        report.outputs.append(
            judgement.judge(
                name,
                model.graph,
                reference.outputs[0][name],
                differences[name],
                reference.floors.get(name),
                report.precision,
                depends=name in depends,
                constant=name in reference.constant,
                steps=steps,
                departure=departed.get(name),
            )
        )
    for output in report.outputs:
        if report.precision == "int8" and output.status == FAILED and len(flat[output.name]) == 1:
            largest = max(float(np.abs(item[output.name]).max()) for item in reference.outputs)
            report.notes.append(
                f"'{output.name}' of the artifact is {min(flat[output.name]):.3g} everywhere, the original's numbers "
                f"reach {largest:.3g}: for these inputs they differ by less than a step of 8 bits; give inputs for "
                "which they differ by more"
            )
        worst = output.difference.worst_channel
        if report.precision == "int8" and worst is not None and len(output.shape) > 2 and worst[1] > LOST:
            report.notes.append(
                f"channel {worst[0]} of '{output.name}' is off by {worst[1]:.0%} of its size (relative L2), whatever "
                "the error of the whole output"
            )
        loose = output.threshold is not None and report.precision != "int8"
        if loose and (output.threshold or 0) > LOOSE * judgement.limit_of(report.precision):
            report.notes.append(
                f"the limit for '{output.name}' is loose: for these inputs it is hardly above the reference's own "
                "rounding; --data with real inputs proves more"
            )
    report.levels["artifact-numerics"] = PASSED if report.passed else FAILED


@dataclass(frozen=True)
class _Forms:
    """How the artifact's inputs and outputs differ from the model's: permutations, and integers instead of floats."""

    layouts: Mapping[str, Sequence[int]]
    quantized_io: Mapping[str, Affine]


def _left(spec: SessionSpec, session: Session) -> list[str]:
    """What the delegates, the accelerator or the provider that were asked for left to the CPU."""
    if not {"delegates", "accelerator", "provider"} & set(spec.options):
        return []
    taken: Assignment | None = getattr(session, "assignment", lambda: None)()
    return [] if taken is None else [taken.describe()]


def _run(session: Session, feeds: Feeds, forms: _Forms) -> dict[str, Array]:
    """Run an artifact with inputs and outputs as the model has them."""
    given = {}
    for spec in session.inputs:
        array, held = feeds[spec.name], forms.quantized_io.get(spec.name)
        given[spec.name] = _permuted(array if held is None else held.quantized(array), forms.layouts.get(spec.name))
    results = session.run(given)
    restored = {}
    for name, array in results.items():
        held = forms.quantized_io.get(name)
        array = array if held is None else held.real(array)
        permutation = forms.layouts.get(name)
        inverse = None if permutation is None or array.ndim != len(permutation) else np.argsort(permutation)
        restored[name] = _permuted(array, None if inverse is None else [int(axis) for axis in inverse])
    return restored


def _permuted(array: Array, permutation: Sequence[int] | None) -> Array:
    return array if permutation is None else np.ascontiguousarray(np.transpose(array, tuple(permutation)))


def _version(package: str) -> str:
    found = installed(package)
    return "unknown" if found is None else found[1]


def render(report: VerificationReport) -> Any:
    """The report as a table for a terminal."""
    from edgec.converter.verification.render import render as table

    return table(report.to_json())
