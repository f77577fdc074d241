"""The doors into the IR: one folder per family of source formats, chosen by what a path holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgec.converter.importers.imported import ImportedModel, SourceOptions
    from edgec.converter.source import SourceNodes

ONNX, TFLITE, TENSORFLOW = "onnx", "tflite", "tensorflow"

_TFLITE_IDENTIFIER = b"TFL3"
_EDGETPU = "edgetpu-custom-op"
"""The custom operator that only the Edge TPU compiler writes."""
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


def family_of(path: str | os.PathLike[str]) -> str:
    """Which importer reads a path: ``onnx``, ``tflite`` or ``tensorflow`` (SavedModel folders and Keras files).

    The content decides, then the suffix; whatever is nothing else goes to the ONNX importer, which says what it is.
    """
    source = Path(path)
    try:
        if source.is_dir():
            return TENSORFLOW if any((source / name).is_file() for name in _SAVED_MODEL) else ONNX
        suffix = source.suffix.lower()
        head = _head(source) if source.is_file() else b""
    except (OSError, ValueError):
        return ONNX
    if head[4:8] == _TFLITE_IDENTIFIER or suffix == ".tflite":
        return TFLITE
    if head.startswith(_HDF5_SIGNATURE) or suffix in _KERAS_SUFFIXES:
        return TENSORFLOW
    return ONNX


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def open_source(path: str | os.PathLike[str], options: SourceOptions | None = None) -> ImportedModel:
    """Read a model of any known format into the IR.

    Args:
        path: an ``.onnx`` file, a ``.tflite`` flatbuffer, a SavedModel folder, a ``.keras``, ``.h5`` or ``.hdf5`` file.

    Raises:
        EdgecError: EDG1xx for what is no valid model, EDG2xx for what edgec does not know, EDG001 and EDG002 for
            shapes that do not fit the inputs.
    """
    from edgec.converter.importers.imported import SourceOptions

    chosen = options or SourceOptions()
    family = family_of(path)
    if family == TFLITE:
        from edgec.converter.importers.tflite import import_model as import_tflite

        return import_tflite(path, chosen)
    if family == TENSORFLOW:
        reader: Callable[..., ImportedModel] = _tensorflow("import_model")
        return reader(path, chosen)
    from edgec.converter.importers.onnx import import_model

    # An ONNX file says by itself what is open; only the user may bind it.
    return import_model(Path(path), replace(chosen, open_batch=None))


def source_nodes(path: Path, options: SourceOptions | None = None) -> SourceNodes:
    """The nodes of a source in its own order, for reports; the source must have been found sound before."""
    from edgec.converter.importers.imported import SourceOptions

    family = family_of(path)
    if family == TFLITE:
        from edgec.converter.importers.tflite import source_nodes as read_operators

        return read_operators(path)
    if family == TENSORFLOW:
        reader: Callable[..., SourceNodes] = _tensorflow("source_nodes")
        return reader(path, options or SourceOptions())
    from edgec.converter.source import read_source_nodes

    return read_source_nodes(path)


def source_files(path: Path) -> tuple[Path, ...]:
    """The files that belong to a source besides the path itself (external data, the files of a folder), sorted."""
    if path.is_dir():
        from edgec.converter.manifest import folder_files

        return folder_files(path)
    if family_of(path) == ONNX:
        from edgec.converter.source import external_files

        return external_files(path)
    return ()


def inspect_source(path: str | os.PathLike[str], options: SourceOptions | None = None) -> dict[str, Any]:
    """Facts about a source as the JSON document of ``edgec inspect`` holds them, ``format`` first."""
    from edgec.converter.importers.imported import SourceOptions

    family = family_of(path)
    if family == TFLITE:
        from edgec.converter.importers.tflite import inspect_model as inspect_tflite

        facts = inspect_tflite(path)
        if f"CUSTOM:{_EDGETPU}" in facts["operators"]:
            from edgec.targets.edgetpu.package import decode

            facts["edgetpu"] = decode(Path(path)).to_json()
        return {"format": TFLITE, **facts}
    if family == TENSORFLOW:
        reader: Callable[..., dict[str, Any]] = _tensorflow("inspect_model")
        return reader(path, options or SourceOptions())
    from edgec.converter.inspect import inspect_model

    return {"format": ONNX, **inspect_model(path)}


def _tensorflow(name: str) -> Callable[..., Any]:
    """A function of the TensorFlow importer, which is imported only where it is needed."""
    import importlib

    found: Callable[..., Any] = getattr(importlib.import_module("edgec.converter.importers.tensorflow"), name)
    return found
