"""Turn a model of any known format into an ONNX file, and prove that it computes the same function."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from edgec.converter.importers import TENSORFLOW, family_of, open_source
from edgec.converter.importers.imported import ImportedModel, SourceOptions
from edgec.converter.options import ConversionOptions, ImportKeywords, spelled_out
from edgec.converter.output import OutputFolder, writing
from edgec.converter.prepare import Progress, silent
from edgec.errors import UnsupportedError, UsageError, VerificationError
from edgec.targets.base import SessionSpec

if TYPE_CHECKING:
    from edgec.converter.verification.report import VerificationReport
    from edgec.ir.graph import Graph

SCHEMA: Final = "edgec-import-1"
RUNTIME: Final = SessionSpec("edgec.runtime.onnxruntime:open_session", {"optimise": True})


@dataclass(frozen=True)
class ImportResult:
    """A finished import.

    Attributes:
        model: the ONNX file.
        opset: of its default domain.
        report: how close it is to the original in the original's own runtime.
        files: all files written; the data file of models over 2 GB is the second.
        notes: everything the user should know.
    """

    model: Path
    opset: int
    report: VerificationReport
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document that ``edgec import --json`` prints (schema ``edgec-import-1``)."""
        return {
            "schema": SCHEMA,
            "status": "ok",
            "model": str(self.model),
            "files": [str(path) for path in self.files],
            "opset": self.opset,
            "inputs": self.facts.get("inputs", []),
            "outputs": self.facts.get("outputs", []),
            "operators": self.facts.get("operators", {}),
            "size": sum(path.stat().st_size for path in self.files),
            "notes": list(self.notes),
            "verification": self.report.to_json(),
        }


@spelled_out(ImportKeywords)
def import_(
    model: str | Path,
    output: str | Path,
    *,
    opset: int | None = None,
    timeout_s: float | None = None,
    memory_bytes: int | None = None,
    log: str | Path | None = None,
    progress: Progress = silent,
    **options: Unpack[ImportKeywords],
) -> ImportResult:
    """Write a model as ONNX and compare ONNX Runtime on it with the original in its own runtime.

    Args:
        model: an ``.onnx`` or ``.tflite`` file, a SavedModel folder, or a Keras file.
        output: the ``.onnx`` file to write.
        opset: to write.  By default 17 for the TensorFlow family, and otherwise the lowest that means the same.
        timeout_s, memory_bytes: what TensorFlow and tf2onnx may use, by default 900 s and the machine's memory.
        log: a file that receives what TensorFlow and tf2onnx print.
        progress: called with the name of each step as it begins.
        options: see :class:`edgec.converter.options.ConversionOptions`.

    Raises:
        EdgecError: see :data:`edgec.errors.CODES`.  No file is left but ``*.rejected`` after a failed verification.
    """
    source, destination = Path(model), Path(output)
    if source.exists() and destination.exists() and source.samefile(destination):
        raise UsageError("EDG015", "the ONNX file would overwrite the source", where=str(destination), help="-o FILE")
    if destination.is_dir():
        raise UsageError("EDG010", f"'{destination}' is a folder", help="give the name of the file: -o model.onnx")
    asked = ConversionOptions(**options)
    with writing(destination.parent), OutputFolder(destination.parent) as place:
        written = place.working / destination.name
        progress("reading the model")
        if family_of(source) == TENSORFLOW:
            imported, version = _by_tensorflow(source, asked.source, opset, written, timeout_s, memory_bytes, log)
            files = [written]
        else:
            imported = open_source(source, asked.source)
            progress("writing the ONNX file")
            files, version = _by_ir(imported, opset, written)
        progress("verifying")
        try:
            report = _verify(imported, written, asked)
        except VerificationError as error:
            error.details["rejected"] = str(place.reject(written))
            raise
        from edgec.converter.inspect import inspect_model

        facts = inspect_model(written)
        placed = place.place(files)
        return ImportResult(placed[0], version, report, tuple(placed), tuple(imported.notes), facts)


def _by_tensorflow(
    source: Path,
    options: SourceOptions,
    opset: int | None,
    written: Path,
    timeout_s: float | None,
    memory_bytes: int | None,
    log: str | Path | None,
) -> tuple[ImportedModel, int]:
    """tf2onnx's own file; only the shapes that were asked for are set in it."""
    from edgec.converter.importers.tensorflow.child import DEFAULT_TIMEOUT_S, Limits
    from edgec.converter.importers.tensorflow.importer import DEFAULT_OPSET, convert_to_onnx, read_converted

    limits = Limits(DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s, memory_bytes)
    chosen = DEFAULT_OPSET if opset is None else opset
    kept = None if log is None else Path(log)
    with convert_to_onnx(source, options, opset=chosen, limits=limits, log=kept) as converted:
        imported = read_converted(source, converted, options)
        if imported.overrides:
            _set_shapes(converted.path, imported, written)
        else:
            shutil.copyfile(converted.path, written)
    return imported, imported.opset


def _set_shapes(path: Path, imported: ImportedModel, written: Path) -> None:
    import onnx

    proto = onnx.load(path)
    graph = imported.model.graph
    for entries, values in ((proto.graph.input, graph.inputs), (proto.graph.output, graph.outputs)):
        for entry, value in zip(entries, values, strict=True):
            if value.shape is not None:
                tensor = onnx.helper.make_tensor_type_proto(entry.type.tensor_type.elem_type, value.shape)
                entry.type.CopyFrom(tensor)
    written.write_bytes(proto.SerializeToString(deterministic=True))


def _by_ir(imported: ImportedModel, opset: int | None, written: Path) -> tuple[list[Path], int]:
    from edgec.ir.lowest_opset import lowest_ir_version, lowest_opset
    from edgec.ir.writer import write_model

    model = imported.model
    _infer_types(model.graph)
    lowest = lowest_opset(model)
    version = lowest if opset is None else opset
    if not lowest <= version <= model.opset:
        raise UnsupportedError(
            "EDG205",
            f"the model cannot be written at opset {version}",
            why=f"its operators have their form since opset {lowest}; edgec writes up to {model.opset}",
            help=f"--opset {lowest}, or a later one",
        )
    files = write_model(model, written, opset=version, ir_version=lowest_ir_version(model, version))
    return files, version


def _infer_types(graph: Graph) -> None:
    """Operators took ever more types: the lowest opset depends on those that are used."""
    from edgec.ir.inference import infer_body_inputs, infer_node

    for node in graph.nodes:
        infer_body_inputs(node)
        for body in node.subgraphs:
            _infer_types(body)
        infer_node(node)


def _verify(imported: ImportedModel, written: Path, asked: ConversionOptions) -> VerificationReport:
    from edgec.converter.verify import verify
    from edgec.ir.passes.base import parse_pipeline

    for item in parse_pipeline("fold-constants"):
        item.apply(imported.model)
    return verify(
        written,
        RUNTIME,
        imported=imported,
        data=asked.data_path,
        ranges=asked.ranges,
        seed=asked.seed,
        isolate=asked.isolate,
    )
