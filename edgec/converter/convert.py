"""Turn a model into a proven artifact: import, passes, lowering, writing, verification, and only then into place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgec.converter import manifest as manifests
from edgec.converter.calibration.data import Samples
from edgec.converter.calibration.images import ImageOptions
from edgec.converter.calibration.mixed.options import Metric
from edgec.converter.calibration.options import precision_options, verified_as
from edgec.converter.calibration.quantizing import METHOD
from edgec.converter.importers import source_files
from edgec.converter.making import make
from edgec.converter.output import MANIFEST, REJECTED, OutputFolder, writing
from edgec.converter.prepare import Inspection, Prepared, Progress, prepare, refuse, silent
from edgec.errors import UsageError
from edgec.targets import registry
from edgec.targets.base import Artifact, Lowered, SessionSpec, Target, TargetOptions, taking

if TYPE_CHECKING:
    from edgec.converter.verification.data import Feeds
    from edgec.converter.verification.report import VerificationReport

SCHEMA: Final = "edgec-convert-1"
STEM: Final = "model"
CALIBRATION_SAMPLES: Final = 4
"""Samples of the calibration data that are verified with, where there is no other data."""
LAYOUTS: Final = ("ONNX", "NHWC")


@dataclass(frozen=True)
class ConversionResult:
    """A finished conversion, or with ``plan`` what one would do.

    Attributes:
        artifact: the file to deploy; with ``plan`` where it would be.
        manifest: ``manifest.json`` beside it.
        report: the verification report; None with ``plan``.
        plan: what would be done; None after a conversion.
        notes: everything the user should know (shapes bound, layouts changed, ...).
    """

    artifact: Path
    manifest: Path
    report: VerificationReport | None = None
    plan: dict[str, Any] | None = None
    sidecars: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document that ``edgec convert --json`` prints (schema ``edgec-convert-1``)."""
        planned = self.plan is not None
        return {
            "schema": SCHEMA,
            "status": "planned" if planned else "ok",
            "artifact": None if planned else str(self.artifact),
            "manifest": None if planned else str(self.manifest),
            "sidecars": [str(path) for path in self.sidecars],
            "rejected": None,
            "verification": self.document.get("verification"),
            "operators": self.document.get("artifact", {}).get("operators"),
            "mixed": self.document.get("quantization", {}).get("mixed"),
            "notes": list(self.notes),
            "plan": self.plan,
            "error": None,
        }


def convert(
    model: str | Path,
    *,
    target: str,
    output: str | Path,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    signature: str | None = None,
    trust: bool = False,
    data: str | Path | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    io_layout: str | None = None,
    precision: str | None = None,
    calibration: str | Path | Samples | None = None,
    method: str = METHOD,
    io_dtype: str | None = None,
    max_drop: float | None = None,
    raise_to: str | None = None,
    metric: str | Metric | None = None,
    cache: str | Path | None = None,
    images: ImageOptions | None = None,
    passes: str | None = None,
    print_ir_after: str | Sequence[str] = (),
    check_ir: bool = False,
    plan: bool = False,
    target_options: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Any] | None = None,
    isolate: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> ConversionResult:
    """Convert a model and prove that the artifact computes the same function.

    Args:
        model: an ``.onnx`` or ``.tflite`` file, a SavedModel folder, or a Keras file.
        target: name of a registered target.
        output: folder that receives the artifact and ``manifest.json``; made if it does not exist.
        input_shapes: input name to the shape that replaces the declared one.
        batch: extent of the first dimension where it is unknown.
        signature: of a SavedModel; ``serving_default``, or its only one, by default.
        trust: let the model run code that it brings along (Lambda layers, custom objects).
        data: samples to verify with (``.npz``, ``.npy`` or a folder of them); seeded random ones by default.
        ranges: input name to (low, high) of the random samples.
        io_layout: ``ONNX`` keeps the model's shapes, ``NHWC`` turns 4-D image inputs and outputs channels-last; by
            default what the target prefers.
        precision: one that the target has: ``float32``, ``int8``, ``int16x8`` (int16 activations), ``float16``,
            ``dynamic-int8`` (weights only, float32 inputs and outputs) or ``mixed`` (int8, but for the nodes that lose
            too much); by default ``int8`` with calibration data, else the target's first.
        calibration: typical inputs to quantize with (``.npz``, ``.npy``, a folder of them or of images, a callable
            that gives an iterable of samples, or ``random`` to try); they are verified with as well, unless ``data`` is
            given.
        images: how the images of a calibration folder become inputs.
        method: how ranges follow from the data: ``minmax``, ``percentile``, ``entropy`` or ``mse``.
        io_dtype: ``int8`` (``int16`` of int16x8) makes inputs and outputs integers, ``float16`` of float16 makes them
            that; by default what the target prefers.
        max_drop: what ``mixed`` precision may lose, a share of ``metric``: 0.01 of a score by default, 0.05 of the
            relative L2.
        metric: ``top-1`` (the default where ``data`` has labels), ``top-5``, ``relative-l2`` of the worst output, or a
            function that scores outputs by labels.
        raise_to: what ``mixed`` precision raises nodes to, such as ``float32`` or ``float16``; by default what the
            target prefers.
        cache: folder for calibration statistics; the user's cache folder by default.
        passes: a pipeline instead of the target's own.
        print_ir_after: passes after which the IR is printed on standard error.
        check_ir: check the canonical form after every pass.
        plan: say what would be done and write nothing.
        target_options: options of this target only, such as ``{"segments": 2}`` of edgetpu.
        tuned: what a study found (:meth:`edgec.tuner.applying.Tuned.entry`): the manifest holds it, and its session
            options stand where sessions of the artifact find them.
        isolate: run the reference and the artifact in a process of their own, so that a crash there becomes an error.
        seed: of the random samples.
        progress: called with the name of each step as it begins.

    Raises:
        EdgecError: see :data:`edgec.errors.CODES`; ``exit_code`` tells the kinds apart.  Unless it was verified, no
            artifact is left but ``*.rejected`` after a failed verification, and what was in the folder stays.
    """
    path = Path(model)
    folder = Path(output)
    if io_layout not in (None, *LAYOUTS):
        raise UsageError("EDG001", f"unknown io_layout {io_layout!r}", why=f"known: {LAYOUTS}")
    chosen = registry.load(target)
    wanted = precision_options(
        chosen,
        precision,
        calibration,
        method,
        io_dtype,
        cache,
        seed,
        ranges or {},
        images,
        data,
        max_drop,
        raise_to,
        isolate,
        metric,
    )
    extra = known_options(chosen, target_options or {})
    options = TargetOptions(io_layout or chosen.io_layout, wanted.precision, extra, wanted.mixed.raise_to)
    taker = taking(chosen, path)
    if taker is not None:
        from edgec.converter.direct import DirectSamples, convert_file

        unused: dict[str, object] = {"input_shapes": input_shapes, "batch": batch, "passes": passes}
        unused.update(signature=signature, precision=precision, calibration=calibration, io_dtype=io_dtype)
        _refuse_options(
            [name for name, value in unused.items() if value] + ["io_layout"] * (io_layout is not None), path
        )
        direct = DirectSamples(None if data is None else Path(data), dict(ranges or {}), seed, isolate)
        return convert_file(path, taker, folder, options, direct, plan=plan, progress=progress)
    shown = (print_ir_after,) if isinstance(print_ir_after, str) else tuple(print_ir_after)

    def begin() -> Prepared:
        return prepare(
            path,
            chosen,
            input_shapes=input_shapes,
            batch=batch,
            signature=signature,
            trust=trust,
            options=options,
            passes=passes,
            inspection=Inspection(shown, check_ir),
            precision=wanted,
            progress=progress,
        )

    samples = _Samples(None if data is None else Path(data), dict(ranges or {}), seed, isolate, signature, trust)
    if plan:
        prepared = begin()
        refusals = prepared.ask()
        if refusals:
            raise refuse(chosen, refusals)
        document = _plan(prepared, folder, samples)
        return ConversionResult(folder / (STEM + chosen.suffix), folder / MANIFEST, plan=document, notes=prepared.notes)
    _keep_source(path, folder / (STEM + chosen.suffix))
    with writing(folder), OutputFolder(folder) as place:
        prepared = begin()
        progress(f"lowering for {chosen.name}")
        lowered = prepared.lower()
        source = manifests.source_entry(path, source_files(path))

        def proven(file: Path, spec: SessionSpec) -> VerificationReport:
            return _verify(prepared, lowered, file, spec, samples)

        artifact, report = make(chosen, lowered, place, STEM, proven, source, progress)
        if tuned is not None:
            chosen.write_session(artifact.main, tuned["session"])
        notes = (*lowered.notes, *artifact.notes)
        facts = chosen.inspect(artifact.main)
        document = _manifest(prepared, lowered, artifact, samples, facts, report, notes)
        if tuned is not None:
            document["tuned"] = dict(tuned)
        written = place.working / MANIFEST
        written.write_text(manifests.to_text(document), encoding="utf-8")
        progress("moving into place")
        *sidecars, main, manifest = place.publish((*artifact.sidecars, artifact.main), written)
        return ConversionResult(main, manifest, report, None, tuple(sidecars), notes, document)


def known_options(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """The target's own options; EDG001 for those it does not have."""
    for name in given:
        if name not in target.option_names:
            known = ", ".join(target.option_names) or "none"
            raise UsageError("EDG001", f"the target {target.name} has no option '{name}'", why=f"known: {known}")
    return dict(given)


def _refuse_options(names: Sequence[str], path: Path) -> None:
    if names:
        raise UsageError(
            "EDG001",
            f"{', '.join(names)} cannot be given here",
            why=f"'{path.name}' is taken as it is, byte for byte",
            help="leave it out, or convert the model that the file was made from",
        )


def _keep_source(source: Path, artifact: Path) -> None:
    """Refuse to write the artifact over the model it is made from (EDG015)."""
    if source.exists() and artifact.exists() and artifact.samefile(source):
        raise UsageError(
            "EDG015", "the artifact would overwrite the source model", where=str(artifact), help="give -o FOLDER"
        )


@dataclass(frozen=True)
class _Samples:
    """Where the inputs of the verification come from, how it runs, and how the source is read for it."""

    data: Path | None
    ranges: dict[str, tuple[float, float]]
    seed: int
    isolate: bool
    signature: str | None
    trust: bool


def _verify(
    prepared: Prepared, lowered: Lowered, file: Path, spec: SessionSpec, samples: _Samples
) -> VerificationReport:
    """Compare a file with the original model; raises VerificationError unless they compute the same."""
    from edgec.converter.verify import verify

    arrived = prepared.quantized is not None and prepared.quantized.arrived
    calibration = None if prepared.quantized is None or arrived else prepared.precision.data
    data: Path | list[Feeds] | None = samples.data
    if data is None and calibration is not None and not calibration.is_random:
        data = list(islice(calibration.samples(prepared.imported.model), CALIBRATION_SAMPLES))
    return verify(
        file,
        spec,
        imported=prepared.imported,
        data=data,
        ranges=samples.ranges,
        seed=samples.seed,
        isolate=samples.isolate,
        layouts=lowered.layouts,
        precision=_held_to(prepared, arrived),
        quantized_io=lowered.quantized_io,
    )


def _held_to(prepared: Prepared, arrived: bool) -> str | None:
    """The limit of the comparison: that of int8 too where a model that arrived quantized was rounded further."""
    from edgec.ir.passes.quantize_between import inner_steps

    if not arrived:
        return verified_as(prepared.precision.precision)
    return verified_as("int8") if inner_steps(prepared.model) else None


def _plan(prepared: Prepared, folder: Path, samples: _Samples) -> dict[str, Any]:
    """What a conversion would do, in the terms of the manifest."""
    name = STEM + prepared.target.suffix
    origin = "random" if samples.data is None else samples.data.name
    inputs = []
    for value in prepared.model.graph.inputs:
        shape = None if value.shape is None else list(value.shape)
        entry: dict[str, Any] = {"name": value.name, "dtype": value.dtype.label, "shape": shape, "from": origin}
        if samples.data is None and value.name in samples.ranges:
            entry["range"] = list(samples.ranges[value.name])
        inputs.append(entry)
    return {
        "target": prepared.target.name,
        "source": prepared.imported.path.name,
        "pipeline": prepared.pipeline,
        "passes_changed": prepared.changed,
        "operators": _operators(prepared),
        "output": str(folder),
        "files": [name, *(STEM + suffix for suffix in prepared.target.sidecars), MANIFEST],
        "rejected": name + REJECTED,
        "verification": {"inputs": inputs, "seed": samples.seed if samples.data is None else None},
        "notes": list(prepared.notes),
        "tool": prepared.target.tool_plan(prepared.options, STEM),
    }


def _operators(prepared: Prepared) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in prepared.model.graph.nodes:
        name = f"{node.domain}.{node.op}" if node.domain else node.op
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _manifest(
    prepared: Prepared,
    lowered: Lowered,
    artifact: Artifact,
    samples: _Samples,
    facts: Mapping[str, Any],
    report: VerificationReport,
    notes: Sequence[str],
) -> dict[str, Any]:
    imported = prepared.imported
    options = prepared.options
    return {
        "schema": manifests.SCHEMA,
        "target": prepared.target.name,
        "source": {**manifests.source_entry(imported.path, source_files(imported.path)), "opset": imported.opset},
        "options": {
            "input_shapes": {name: list(shape) for name, shape in sorted(imported.overrides.items())},
            "signature": samples.signature,
            "trust": samples.trust,
            "io_layout": options.io_layout,
            "precision": prepared.precision.precision,
            "data": None if samples.data is None else manifests.data_entries(samples.data),
            "ranges": {name: list(pair) for name, pair in sorted(samples.ranges.items())},
            "seed": samples.seed,
        },
        "pipeline": prepared.pipeline,
        "passes_changed": prepared.changed,
        **({} if prepared.quantized is None else {"quantization": prepared.quantized.entry}),
        "artifact": {
            **manifests.file_entry(artifact.main),
            **{k: v for k, v in facts.items() if k != "size"},
            **artifact.facts,
        },
        "sidecars": [manifests.file_entry(path) for path in artifact.sidecars],
        "layouts": {name: list(permutation) for name, permutation in lowered.layouts.items()},
        "notes": list(notes),
        "versions": manifests.versions(),
        "verification": report.to_json(),
    }
