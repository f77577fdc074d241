"""The way of an ONNX file into the IR."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import onnx
from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]
from onnx import ModelProto

from edgec.converter.importers.imported import ImportedModel, SourceOptions
from edgec.converter.importers.onnx.functions import inline_functions
from edgec.converter.importers.onnx.order import name_nodes, sort_nodes
from edgec.converter.importers.onnx.original import original
from edgec.converter.importers.onnx.reader import open_model
from edgec.converter.importers.onnx.shapes import bind_shapes, require_static_shapes
from edgec.converter.importers.onnx.upgrades import upgrade_model
from edgec.errors import ModelError
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.proto import model_from_proto
from edgec.ir.untrusted import malformed_as_error

OLDEST_IR = 3


def import_model(path: str | Path, options: SourceOptions | None = None) -> ImportedModel:
    """Read an ONNX file.  Weights stay in the file until they are used.

    Raises:
        ModelError: EDG101 to EDG112, see :data:`edgec.errors.CODES`.
        UnsupportedError: EDG201 for an operator or domain that edgec does not know, named with its node.
        UsageError: EDG001 and EDG002 for shapes that do not name an input or contradict each other.
    """
    file = open_model(path)
    with parsing(file.path):
        check_versions(file.proto, file.path)
        proto = _ordered(file.proto)
        model = model_from_proto(proto, file.load)
        overrides, notes = bind_shapes(model, options or SourceOptions())
        origin = original(file.path, model.graph, model.opset, overrides)
        imported = ImportedModel(model, file.path, model.opset, origin, overrides, notes)
        upgrade_model(model)
        model.ir_version = max(model.ir_version, 10)
    return imported


def _ordered(proto: ModelProto) -> ModelProto:
    """The message with its functions inlined and its nodes in an order in which they can run."""
    name_nodes(proto)
    inlined = inline_functions(proto)
    sort_nodes(inlined.graph)
    return inlined


def require_static(imported: ImportedModel) -> None:
    """Insist on static inputs.

    Raises:
        UnsupportedError: EDG202 naming the inputs with unknown extents and the option to give.
    """
    require_static_shapes(imported.model)


def check_versions(proto: ModelProto, path: Path) -> None:
    """Refuse versions outside of what edgec reads.

    Raises:
        ModelError: EDG110.
    """
    versions = [int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(versions, default=1)
    why = help = ""
    if proto.ir_version < OLDEST_IR:
        why = f"the model follows IR version {proto.ir_version}, edgec reads {OLDEST_IR} and later"
    elif proto.ir_version > onnx.IR_VERSION:
        why = f"the model follows IR version {proto.ir_version}, the installed onnx package knows {onnx.IR_VERSION}"
        help = "pip install --upgrade onnx"
    elif opset < 1:
        why = f"the model imports opset {opset}"
    elif opset > CANONICAL_OPSET:
        why = f"the model follows opset {opset}, edgec reads up to {CANONICAL_OPSET}"
        help = f"export at opset {CANONICAL_OPSET} or older"
    if why:
        raise ModelError(
            "EDG110", f"'{path.name}' is of a version that edgec does not read", str(path), why, help or None
        )


def parsing(path: Path) -> AbstractContextManager[None]:
    """Report what a malformed message makes Python, NumPy or onnx stumble over as EDG109."""
    stumbles = (ProtobufError, onnx.checker.ValidationError)
    return malformed_as_error(path, *stumbles, help="onnx.checker.check_model(path) may say more")
