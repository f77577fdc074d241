"""The way of a SavedModel or Keras file into the IR: tf2onnx in a child process, then the ONNX importer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.converter.importers.imported import ImportedModel, Original, SourceOptions, Way
from edgec.converter.importers.tensorflow.child import Limits, require_packages, run_worker, temporary_folder
from edgec.converter.importers.tensorflow.inspection import inspect_keras, inspect_saved_model
from edgec.converter.importers.tensorflow.keras_file import HDF5, read_keras_file
from edgec.converter.importers.tensorflow.saved_model import dangers, read_saved_model
from edgec.converter.importers.tensorflow.trust import Finding, find_code, refuse_code
from edgec.converter.source import SourceNodes, read_source_nodes
from edgec.errors import EdgecError, UsageError
from edgec.targets.base import SessionSpec

FACTORY = "edgec.converter.importers.tensorflow.session:open_session"
SHARED = "edgec.converter.importers.tensorflow.session:import_tensorflow"
DEFAULT_OPSET = 17
"""The opset that tf2onnx writes unless another one is asked for."""

_nodes: dict[Path, SourceNodes] = {}
"""The nodes of the source that was imported last, so that a report needs no second conversion."""


@dataclass(frozen=True)
class Converted:
    """What the child process made: the ONNX file, the versions that made it, and notes for the user."""

    path: Path
    versions: Mapping[str, str]
    signature: str
    notes: tuple[str, ...]


def import_model(path: str | os.PathLike[str], options: SourceOptions | None = None) -> ImportedModel:
    """Read a SavedModel folder, a ``.keras`` archive or an ``.h5`` file.

    Raises:
        ModelError: EDG101, EDG102, EDG112, EDG115 (code that is not trusted), EDG116, EDG117.
        UsageError: EDG016 for a signature that does not exist; EDG001 and EDG002 for shapes.
        EdgecError: EDG013 without TensorFlow, EDG501 to EDG504 when the child process fails.
        UnsupportedError: EDG201 for operators that tf2onnx does not know.
    """
    source, chosen = Path(path), options or SourceOptions()
    with convert_to_onnx(source, chosen) as converted, _speaking_of(source, converted.path):
        return read_converted(source, converted, chosen)


def read_converted(source: Path, converted: Converted, options: SourceOptions) -> ImportedModel:
    """The IR of a converted source; weights stay mapped even when the file is removed."""
    from edgec.converter.importers.onnx import import_model as import_onnx

    imported = import_onnx(converted.path, options)
    settings = {"signature": options.signature, "trust": options.trust}
    plain, other = (SessionSpec(FACTORY, {**settings, "optimise": optimise}, SHARED) for optimise in (False, True))
    original = Original(source, "TensorFlow", "tensorflow", (Way(plain, other),))
    made = ", ".join(f"{name} {version}" for name, version in converted.versions.items())
    signature = f", signature '{converted.signature}'" if converted.signature else ""
    notes = [f"imported with {made}{signature}", *converted.notes, *imported.notes]
    return replace(imported, path=source, original=original, notes=notes)


@contextmanager
def convert_to_onnx(
    source: Path,
    options: SourceOptions,
    *,
    opset: int = DEFAULT_OPSET,
    limits: Limits | None = None,
    log: Path | None = None,
) -> Iterator[Converted]:
    """Convert in a child process; the ONNX file is there as long as the context is open.

    Raises:
        EdgecError: see :func:`import_model`.
    """
    examine(source, options)
    with temporary_folder() as folder:
        model = Path(folder, "model.onnx")
        request = {
            "action": "convert",
            "source": str(source.resolve()),
            "signature": options.signature,
            "trust": options.trust,
            "opset": opset,
            "model": str(model),
        }
        with _speaking_of(source, source.resolve()):
            answer = run_worker(Path(folder), source.name, request, limits or Limits(), log)
        if not model.is_file() or model.stat().st_size == 0:
            raise EdgecError("EDG504", f"tf2onnx wrote no ONNX file for '{source.name}'")
        versions, notes = answer.get("versions"), answer.get("notes")
        converted = Converted(
            model,
            {str(name): str(version) for name, version in versions.items()} if isinstance(versions, dict) else {},
            str(answer.get("signature") or ""),
            tuple(str(note) for note in notes) if isinstance(notes, list) else (),
        )
        with _speaking_of(source, model):
            _remember(source, model)
        yield converted


def examine(source: Path, options: SourceOptions) -> None:
    """Judge a source before TensorFlow sees it, as far as that is possible without TensorFlow.

    Raises:
        ModelError, UsageError, EdgecError: see :func:`import_model`.
    """
    findings: list[Finding | str]
    if source.is_dir():
        outline = read_saved_model(source)
        outline.choose(options.signature)
        findings = [*dangers(outline)]
        packages = ["tensorflow", "tf2onnx"]
    else:
        file = read_keras_file(source)
        if options.signature not in (None, "serving_default"):
            raise UsageError("EDG016", f"a Keras file has no signatures, so none is called '{options.signature}'")
        findings = [*find_code(file.configuration)] if file.configuration is not None else []
        packages = ["tensorflow", "tf2onnx", "h5py"]
        if file.configuration is not None and file.is_legacy:
            packages.append("tf_keras")
    if findings and not options.trust:
        raise refuse_code(source.name, findings)
    require_packages(packages, f"'{source.name}'")


def source_nodes(path: str | os.PathLike[str], options: SourceOptions | None = None) -> SourceNodes:
    """The nodes that tf2onnx makes of a source; they carry the names of TensorFlow's nodes."""
    source = Path(path)
    if source.resolve() not in _nodes:
        with convert_to_onnx(source, options or SourceOptions()):
            pass
    return _nodes[source.resolve()]


def _remember(source: Path, model: Path) -> None:
    _nodes.clear()
    _nodes[source.resolve()] = read_source_nodes(model)


def inspect_model(path: str | os.PathLike[str], options: SourceOptions | None = None) -> dict[str, Any]:
    """Facts about a source, as ``edgec inspect`` shows them.  Nothing is loaded or executed; only HDF5 files need the
    extra, for h5py.

    Raises:
        ModelError: EDG101, EDG102, EDG112, EDG116, EDG117.
        EdgecError: EDG013 without h5py; EDG501 to EDG504.
    """
    source = Path(path)
    if source.is_dir():
        return inspect_saved_model(read_saved_model(source), (options or SourceOptions()).signature)
    file = read_keras_file(source)
    if file.kind != HDF5:
        return inspect_keras(file)
    require_packages(["h5py"], f"'{source.name}'")
    with temporary_folder() as folder, _speaking_of(source, source.resolve()):
        request = {"action": "inspect", "source": str(source.resolve())}
        answer = run_worker(Path(folder), source.name, request, Limits())
    configuration = answer.get("configuration")
    if not isinstance(configuration, dict):
        raise EdgecError("EDG504", f"the process for '{source.name}' answered nonsense")
    return inspect_keras(replace(file, version=str(answer.get("version")), configuration=configuration))


@contextmanager
def _speaking_of(source: Path, other: Path) -> Iterator[None]:
    """Let errors name the user's file instead of another path that stands for it."""
    try:
        yield
    except EdgecError as error:
        for old, new in ((str(other), str(source)), (f"'{other.name}'", f"'{source.name}'")):
            error.message = error.message.replace(old, new)
            error.where = error.where and error.where.replace(old, new)
            error.why = error.why and error.why.replace(old, new)
        raise
