"""The way of an ONNX file into the IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from edgec.converter.importers.onnx.shapes import bind_shapes, require_static_shapes
from edgec.errors import ModelError
from edgec.ir.graph import Model
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.proto import model_from_proto
from edgec.ir.types import Shape


@dataclass
class ImportedModel:
    """A model in the IR and what was done to get it there.

    Attributes:
        model: the IR, every node at :data:`edgec.ir.inference.CANONICAL_OPSET`.
        path: the file.
        opset: version of the default domain in the file.
        overrides: input name to the shape that replaced the declared one; the reference needs the same.
        notes: what the user should know (batch bound, placeholder shapes dropped, ...).
    """

    model: Model
    path: Path
    opset: int
    overrides: dict[str, Shape] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def import_model(
    path: str | Path, *, input_shapes: Mapping[str, Sequence[int]] | None = None, batch: int | None = None
) -> ImportedModel:
    """Read an ONNX file.

    Args:
        input_shapes: input name to the static shape that replaces the declared one.
        batch: extent of the first dimension of inputs whose first dimension is unknown.

    Raises:
        EdgecError: EDG101 to EDG112, EDG201, EDG002; see :data:`edgec.errors.CODES`.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError("EDG101", f"there is no file '{file}'", help="check the path")
    proto = onnx.load(str(file))
    model = model_from_proto(proto)
    opset, model.opset = model.opset, CANONICAL_OPSET
    imported = ImportedModel(model, file, opset)
    bind_shapes(imported.model, input_shapes or {}, batch, imported.overrides, imported.notes)
    return imported


def require_static(imported: ImportedModel) -> None:
    """Insist on static inputs.

    Raises:
        UnsupportedError: EDG202 naming the inputs with unknown extents and the option to give.
    """
    require_static_shapes(imported.model)
