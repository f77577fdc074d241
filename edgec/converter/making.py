"""From the lowered model to a verified artifact, with or without a vendor's tool in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgec.converter import manifest as manifests
from edgec.converter.output import OutputFolder
from edgec.converter.prepare import Progress
from edgec.errors import EXIT_TOOL_MISSING, EdgecError, VerificationError
from edgec.targets.base import Artifact, Lowered, SessionSpec, Target

if TYPE_CHECKING:
    from edgec.converter.verification.report import VerificationReport

PLAN_SCHEMA: Final = "edgec-plan-1"
LOWERED_NUMERICS: Final = "lowered-numerics"
ARTIFACT_STRUCTURE: Final = "artifact-structure"
ARTIFACT_NUMERICS: Final = "artifact-numerics"
ON_DEVICE: Final = "on-device"

Verify = Callable[[Path, SessionSpec], "VerificationReport"]
"""Compares a file, opened as the spec says, with the original; raises VerificationError unless they are the same."""


def make(
    target: Target,
    lowered: Lowered,
    place: OutputFolder,
    stem: str,
    verify: Verify,
    source: Mapping[str, Any],
    progress: Progress,
    quantization: Mapping[str, Any] | None = None,
) -> tuple[Artifact, VerificationReport]:
    """Write the artifact into the working folder of ``place`` and verify it as far as this machine can.

    Where a vendor's tool makes the artifact, what goes into the tool is run on the host first; the artifact is then
    checked by the target, and run where a device is here.  ``report.levels`` says what was reached.

    Args:
        verify: see :data:`Verify`.
        source: entry of the source model for the plan that is left where the tool is missing.
        quantization: likewise, what the manifest would say of the calibration.

    Raises:
        VerificationError: EDG301 to EDG305; what was made is kept as ``*.rejected``.
        EdgecError: EDG510 where the tool is missing: the verified file and ``STEM.plan.json`` are then in the folder.
    """
    progress("writing the artifact")
    file = target.write_lowered(lowered, place.working, stem)
    if file is None:
        artifact = target.compile(lowered, place.working, stem)
        lowered.payload = None  # the weights are in the file now; the verification needs the memory
        progress("verifying")
        return artifact, _verified(place, artifact.main, verify, target.session(artifact.main), lowered)
    progress("verifying what goes into the tool")
    report = _verified(place, file, verify, target.execute_lowered(file), lowered)
    numerics = report.levels.pop(ARTIFACT_NUMERICS, None)
    report.levels = {} if numerics is None else {LOWERED_NUMERICS: numerics}
    progress(f"compiling for {target.name}")
    try:
        artifact = target.compile(lowered, place.working, stem)
    except EdgecError as error:
        if error.exit_code == EXIT_TOOL_MISSING and isinstance(error.details.get("plan"), dict):
            _leave(target, place, file, lowered, report, source, quantization, error)
        raise
    lowered.payload = None
    report.levels[ARTIFACT_STRUCTURE] = "passed"
    if target.runs_here():
        progress("verifying on the device")
        levels = dict(report.levels)
        report = _verified(place, artifact.main, verify, target.session(artifact.main), lowered)
        on_device = report.levels.get(ARTIFACT_NUMERICS)
        report.levels = {**levels, **({} if on_device is None else {ON_DEVICE: on_device})}
    else:
        report.notes.append(f"no {target.name} device is here: the artifact was decoded and checked, but not run")
    return artifact, report


def _verified(
    place: OutputFolder, file: Path, verify: Verify, spec: SessionSpec, lowered: Lowered
) -> VerificationReport:
    try:
        return verify(file, spec)
    except VerificationError as error:
        error.details["rejected"] = str(place.reject(file))
        error.details["notes"] = list(lowered.notes)  # why it failed may stand there, such as calibration data
        raise


def _leave(
    target: Target,
    place: OutputFolder,
    file: Path,
    lowered: Lowered,
    report: VerificationReport,
    source: Mapping[str, Any],
    quantization: Mapping[str, Any] | None,
    error: EdgecError,
) -> None:
    """Publish what a missing tool would be run on, and the plan of the run."""
    plan = error.details["plan"]
    document = {
        "schema": PLAN_SCHEMA,
        "target": target.name,
        "source": dict(source),
        **({} if quantization is None else {"quantization": dict(quantization)}),
        "lowered": manifests.file_entry(file),
        "plan": plan,
        "layouts": {name: list(permutation) for name, permutation in lowered.layouts.items()},
        "quantized_io": {
            name: {"dtype": item.dtype.label, "scale": item.scale, "zero_point": item.zero_point}
            for name, item in lowered.quantized_io.items()
        },
        "notes": list(lowered.notes),
        "versions": manifests.versions(),
        "verification": report.to_json(),
    }
    written = file.with_suffix(".plan.json")
    written.write_text(manifests.to_text(document), encoding="utf-8")
    kept, planned = place.place([file, written])
    command = f"cd '{place.path}' && {plan['command']}"
    error.where = f"the verified '{kept}' and the plan '{planned}' are written"
    error.help = command
    error.details.update(lowered=str(kept), plan_file=str(planned), command=command, verification=report.to_json())
    error.details["notes"] = list(lowered.notes)
