"""Turn a model into a proven artifact: import, passes, lowering, writing, verification, and only then into place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from edgec.converter import manifest as manifests
from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.options import precision_options, target_options, verified_as
from edgec.converter.importers import source_files
from edgec.converter.making import make
from edgec.converter.options import ConversionKeywords, ConversionOptions, spelled_out
from edgec.converter.output import MANIFEST, REJECTED, OutputFolder, writing
from edgec.converter.prepare import Inspection, Prepared, Progress, prepare, refuse, silent
from edgec.errors import UsageError
from edgec.targets import registry
from edgec.targets.base import Artifact, Lowered, SessionSpec, taking

if TYPE_CHECKING:
    from edgec.converter.verification.data import Feeds
    from edgec.converter.verification.report import VerificationReport

SCHEMA: Final = "edgec-convert-1"
STEM: Final = "model"
CALIBRATION_SAMPLES: Final = 4
"""Samples of the calibration data that are verified with, where there is no other data."""


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


@spelled_out(ConversionKeywords)
def convert(
    model: str | Path,
    *,
    target: str,
    output: str | Path,
    print_ir_after: str | Sequence[str] = (),
    check_ir: bool = False,
    plan: bool = False,
    tuned: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    **options: Unpack[ConversionKeywords],
) -> ConversionResult:
    """Convert a model and prove that the artifact computes the same function.

    Args:
        model: an ``.onnx`` or ``.tflite`` file, a SavedModel folder, or a Keras file.
        target: name of a registered target.
        output: folder that receives the artifact and ``manifest.json``; made if it does not exist.
        print_ir_after: passes after which the IR is printed on standard error.
        check_ir: check the canonical form after every pass.
        plan: say what would be done and write nothing.
        tuned: what a study found (:meth:`edgec.tuner.applying.Tuned.entry`): the manifest holds it, and its session
            options stand where sessions of the artifact find them.
        progress: called with the name of each step as it begins.
        options: see :class:`edgec.converter.options.ConversionOptions`.

    Raises:
        EdgecError: see :data:`edgec.errors.CODES`; ``exit_code`` tells the kinds apart.  Unless it was verified, no
            artifact is left but ``*.rejected`` after a failed verification, and what was in the folder stays.
    """
    path = Path(model)
    folder = Path(output)
    asked = ConversionOptions(**options)
    chosen = registry.load(target)
    wanted = precision_options(chosen, asked)
    lowering = target_options(chosen, asked, wanted)
    taker = taking(chosen, path)
    if taker is not None:
        from edgec.converter.direct import convert_file, refuse_unread

        refuse_unread(asked, path)
        return convert_file(path, taker, folder, lowering, asked, plan=plan, progress=progress)
    shown = (print_ir_after,) if isinstance(print_ir_after, str) else tuple(print_ir_after)

    def begin() -> Prepared:
        return prepare(
            path,
            chosen,
            asked.source,
            options=lowering,
            passes=asked.passes,
            inspection=Inspection(shown, check_ir),
            precision=wanted,
            search=not plan,
            progress=progress,
        )

    if plan:
        prepared = begin()
        refusals = prepared.ask()
        if refusals:
            raise refuse(chosen, refusals)
        document = _plan(prepared, folder, asked)
        return ConversionResult(folder / (STEM + chosen.suffix), folder / MANIFEST, plan=document, notes=prepared.notes)
    _keep_source(path, folder / (STEM + chosen.suffix))
    with writing(folder), OutputFolder(folder) as place:
        prepared = begin()
        progress(f"lowering for {chosen.name}")
        lowered = prepared.lower()
        source = manifests.source_entry(path, source_files(path))

        def proven(file: Path, spec: SessionSpec) -> VerificationReport:
            return _verify(prepared, lowered, file, spec, asked)

        quantization = None if prepared.quantized is None else prepared.quantized.entry
        artifact, report = make(chosen, lowered, place, STEM, proven, source, progress, quantization)
        if tuned is not None:
            chosen.write_session(artifact.main, tuned["session"])
        notes = (*lowered.notes, *artifact.notes)
        facts = chosen.inspect(artifact.main)
        document = _manifest(prepared, lowered, artifact, asked, facts, report, notes)
        if tuned is not None:
            document["tuned"] = dict(tuned)
        written = place.working / MANIFEST
        written.write_text(manifests.to_text(document), encoding="utf-8")
        progress("moving into place")
        *sidecars, main, manifest = place.publish((*artifact.sidecars, artifact.main), written)
        return ConversionResult(main, manifest, report, None, tuple(sidecars), notes, document)


def _keep_source(source: Path, artifact: Path) -> None:
    """Refuse to write the artifact over the model it is made from (EDG015)."""
    if source.exists() and artifact.exists() and artifact.samefile(source):
        raise UsageError(
            "EDG015", "the artifact would overwrite the source model", where=str(artifact), help="give -o FOLDER"
        )


def _verify(
    prepared: Prepared, lowered: Lowered, file: Path, spec: SessionSpec, asked: ConversionOptions
) -> VerificationReport:
    """Compare a file with the original model; raises VerificationError unless they compute the same."""
    from edgec.converter.verify import verify
    from edgec.ir.passes.quantize_between import inner_steps

    arrived = prepared.quantized is not None and prepared.quantized.arrived
    calibration = _verified_with(prepared)
    data: Path | list[Feeds] | None = asked.data_path
    if data is None and calibration is not None:
        data = list(islice(calibration.samples(prepared.imported.model), CALIBRATION_SAMPLES))
    return verify(
        file,
        spec,
        imported=prepared.imported,
        data=data,
        ranges=asked.ranges,
        seed=asked.seed,
        isolate=asked.isolate,
        layouts=lowered.layouts,
        precision=None if arrived else verified_as(prepared.precision.precision),
        quantized_io=lowered.quantized_io,
        meant=prepared.imported.model if arrived and inner_steps(prepared.model) else None,
    )


def _verified_with(prepared: Prepared) -> CalibrationData | None:
    """The calibration data, where the artifact is compared on samples of it unless others are given."""
    if prepared.quantized is None or prepared.quantized.arrived:
        return None
    data = prepared.precision.data
    return None if data is None or data.is_random else data


def _plan(prepared: Prepared, folder: Path, asked: ConversionOptions) -> dict[str, Any]:
    """What a conversion would do, in the terms of the manifest."""
    name = STEM + prepared.target.suffix
    calibrated = asked.data_path is None and _verified_with(prepared) is not None
    origin = "random" if asked.data_path is None else asked.data_path.name
    origin = f"the first {CALIBRATION_SAMPLES} samples of the calibration" if calibrated else origin
    inputs = []
    for value in prepared.model.graph.inputs:
        shape = None if value.shape is None else list(value.shape)
        entry: dict[str, Any] = {"name": value.name, "dtype": value.dtype.label, "shape": shape, "from": origin}
        if asked.data is None and not calibrated and value.name in asked.bounds:
            entry["range"] = list(asked.bounds[value.name])
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
        "verification": {"inputs": inputs, "seed": asked.seed if origin == "random" else None},
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
    asked: ConversionOptions,
    facts: Mapping[str, Any],
    report: VerificationReport,
    notes: Sequence[str],
) -> dict[str, Any]:
    imported = prepared.imported
    return {
        "schema": manifests.SCHEMA,
        "target": prepared.target.name,
        "source": {**manifests.source_entry(imported.path, source_files(imported.path)), "opset": imported.opset},
        "options": asked.manifest_entry(
            input_shapes={name: list(shape) for name, shape in sorted(imported.overrides.items())},
            io_layout=prepared.options.io_layout,
            precision=prepared.precision.precision,
        ),
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
