"""Write a float model as plain ONNX with QuantizeLinear and DequantizeLinear, for anybody's tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from edgec.converter.calibration.options import precision_options
from edgec.converter.calibration.quantizing import quantize
from edgec.converter.options import ConversionOptions, QuantizeKeywords, spelled_out
from edgec.converter.output import OutputFolder, writing
from edgec.converter.prepare import Progress, prepare, silent
from edgec.errors import UsageError, VerificationError
from edgec.ir.graph import Model
from edgec.targets import registry
from edgec.targets.base import SessionSpec

if TYPE_CHECKING:
    from edgec.converter.verification.data import Feeds
    from edgec.converter.verification.report import VerificationReport

SCHEMA: Final = "edgec-quantize-1"
RULES: Final = "tflite"
"""Whose rules are written: they are the strictest, so that other tools take the result as well."""
PASSES: Final = "onnxruntime"
"""Whose passes run before: they keep to operators that every tool knows."""
RUNTIME: Final = SessionSpec("edgec.runtime.onnxruntime:open_session", {"optimise": True})
VERIFIED: Final = 4
"""Samples of the calibration data that are verified with."""


@dataclass(frozen=True)
class QuantizeResult:
    """A quantized ONNX file.

    Attributes:
        model: the file.
        report: how close it is to the float model, both in their own runtimes.
        files: all files written; the data file of models over 2 GB is the second.
        notes: everything the user should know.
        entry: how it was quantized, as in a manifest.
    """

    model: Path
    opset: int
    report: VerificationReport
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    entry: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document that ``edgec quantize --json`` prints (schema ``edgec-quantize-1``)."""
        return {
            "schema": SCHEMA,
            "status": "ok",
            "model": str(self.model),
            "files": [str(path) for path in self.files],
            "opset": self.opset,
            "quantization": self.entry,
            "notes": list(self.notes),
            "verification": self.report.to_json(),
        }


@spelled_out(QuantizeKeywords)
def quantize_model(
    model: str | Path,
    output: str | Path,
    *,
    progress: Progress = silent,
    **options: Unpack[QuantizeKeywords],
) -> QuantizeResult:
    """Quantize a model to int8 QDQ ONNX, and compare it with the original.

    Args:
        model: an ``.onnx`` or ``.tflite`` file, a SavedModel folder, or a Keras file.
        output: the ``.onnx`` file to write.
        progress: called with the name of each step as it begins.
        options: see :class:`edgec.converter.options.ConversionOptions`.

    Raises:
        EdgecError: see :data:`edgec.errors.CODES`.  No file is left but ``*.rejected`` after a failed verification.
    """
    source, destination = Path(model), Path(output)
    if source.exists() and destination.exists() and source.samefile(destination):
        raise UsageError("EDG015", "the ONNX file would overwrite the source", where=str(destination), help="-o FILE")
    if destination.is_dir():
        raise UsageError("EDG010", f"'{destination}' is a folder", help="give the name of the file: -o model_int8.onnx")
    target = registry.load(RULES)
    asked = ConversionOptions(**options, precision="int8")
    wanted = precision_options(target, asked)
    rules = target.quantization("int8")
    assert rules is not None
    with writing(destination.parent), OutputFolder(destination.parent) as place:
        prepared = prepare(source, registry.load(PASSES), asked.source, progress=progress)
        made = quantize(prepared.imported.model, rules, wanted, progress=progress)
        progress("writing the ONNX file")
        written = place.working / destination.name
        files, opset = _write(made.model, written)
        progress("verifying")
        data: list[Feeds] | None = None
        if wanted.data is not None and not wanted.data.is_random and not made.arrived:
            data = list(islice(wanted.data.samples(prepared.imported.model), VERIFIED))
        from edgec.converter.verify import verify

        try:
            report = verify(
                written,
                RUNTIME,
                imported=prepared.imported,
                data=data,
                seed=asked.seed,
                isolate=asked.isolate,
                precision=None if made.arrived else "int8",
            )
        except VerificationError as error:
            error.details["rejected"] = str(place.reject(written))
            raise
        placed = place.place(files)
        notes = (*prepared.imported.notes, *made.notes)
        return QuantizeResult(placed[0], opset, report, tuple(placed), notes, made.entry)


def _write(model: Model, path: Path) -> tuple[list[Path], int]:
    from edgec.ir.lowest_opset import lowest_ir_version, lowest_opset
    from edgec.ir.writer import write_model

    opset = lowest_opset(model)
    return write_model(model, path, opset=opset, ir_version=lowest_ir_version(model, opset)), opset
