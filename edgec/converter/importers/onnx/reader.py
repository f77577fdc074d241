"""A model file as onnx's messages, without its weights.

The file is memory-mapped and its wire format scanned.  Tensors of more than a few kilobytes stay in the file: in the
skeleton that onnx parses they are replaced by a note of where their bytes lie (as external data whose location is
empty, which no valid file holds), and :meth:`ModelFile.load` turns such a note into a lazy :class:`Tensor`.
Source: onnx.proto.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from edgec.converter.importers.onnx.external import ExternalData
from edgec.converter.importers.onnx.wire import LENGTH, VARINT, Buffer, Cut, WireError, fields, length_field
from edgec.errors import ModelError
from edgec.ir.graph import Tensor
from edgec.ir.proto import MAX_NESTING, tensor_from_proto, unpack
from edgec.ir.types import DataType
from edgec.ir.untrusted import map_file

MAX_FILE = 1 << 31
"""Largest protobuf file; the format itself ends at 2 GiB."""
MAX_SKELETON = 1 << 29
"""Most bytes that a model may have besides its tensors."""
MAX_ENTRIES = 2_000_000
"""Most nodes, initializers and other entries of one graph."""
FILE_HELP = "give the .onnx file itself; a SavedModel is the folder that holds saved_model.pb"
THRESHOLD = 4096
"""Tensors of at least this many bytes stay in the file."""

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_MODEL_KINDS = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)
_GRAPH_FIELD, _OPSET_FIELD, _IR_FIELD = 7, 8, 1
_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA, _DATA_TYPE, _EXTERNAL_DATA = 9, 4, 10, 2, 13
_BULK = frozenset({_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA})


@dataclass
class ModelFile:
    """An open model file.

    Attributes:
        path: the file.
        proto: all of it but the contents of large tensors.
        size: bytes of the file.
        external: the files beside it that hold tensors.
    """

    path: Path
    proto: ModelProto
    size: int
    buffer: Buffer
    external: ExternalData

    def load(self, proto: TensorProto) -> Tensor:
        """The constant for an initializer or tensor attribute of :attr:`proto`; its bytes stay in the file.

        Raises:
            ModelError: EDG107, EDG108, EDG109, EDG112.
        """
        if len(proto.dims) > 32:
            raise ModelError("EDG109", f"a tensor of rank {len(proto.dims)}", where=f"tensor '{proto.name}'")
        if any(dim > 1 << 40 for dim in proto.dims):
            raise ModelError("EDG112", f"a tensor of shape {list(proto.dims)}", where=f"tensor '{proto.name}'")
        if proto.data_location != TensorProto.EXTERNAL:
            return tensor_from_proto(proto)
        inside = self._inside(proto)
        if inside is None:
            return self.external.load(proto)
        offset, end = inside
        dtype, shape = tensor_type(proto)
        needed = (_count(shape) * dtype.bits + 7) // 8
        if end - offset != needed:
            raise ModelError(
                "EDG109",
                f"the data of '{proto.name}' does not fit: it has {end - offset} bytes",
                where=f"tensor '{proto.name}'",
                why=f"its shape {list(shape)} needs {needed}",
            )
        buffer = self.buffer
        return Tensor(dtype, shape, lambda: unpack(dtype, shape, memoryview(buffer)[offset:end]))

    def _inside(self, proto: TensorProto) -> tuple[int, int] | None:
        """Where in the model file the tensor's bytes lie, or None if they lie in another."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        if entries.get("location") != "" or set(entries) != {"location", "offset", "end"}:
            return None
        if not (entries["offset"].isdecimal() and entries["end"].isdecimal()):
            return None
        offset, end = int(entries["offset"]), int(entries["end"])
        return (offset, end) if offset <= end <= self.size else None


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def tensor_type(proto: TensorProto) -> tuple[DataType, tuple[int, ...]]:
    """Element type and shape of a tensor whose data lies outside the message.

    Raises:
        ModelError: EDG109.
    """
    where = f"tensor '{proto.name}'"
    try:
        dtype = DataType(proto.data_type)
    except ValueError:
        raise ModelError("EDG109", f"unknown element type {proto.data_type}", where=where) from None
    if dtype.bits == 0:
        raise ModelError("EDG109", f"a tensor of type {dtype.name} cannot lie in a file", where=where)
    shape = tuple(proto.dims)
    if any(dim < 0 for dim in shape):
        raise ModelError("EDG109", f"malformed shape {list(shape)}", where=where)
    return dtype, shape


def open_model(path: str | os.PathLike[str]) -> ModelFile:
    """Map a model file and read everything but its weights.

    Raises:
        ModelError: EDG101 (no file), EDG102 (empty), EDG103 (not protobuf), EDG104 (cut off), EDG105 (no model),
            EDG112 (over a limit).
    """
    file = Path(path)
    buffer = map_file(file, FILE_HELP)
    size = len(buffer)
    if size > MAX_FILE:
        raise ModelError(
            "EDG112",
            f"the file has {size} bytes, a protobuf message ends at {MAX_FILE}",
            where=str(file),
            help="store the weights as external data: onnx.save(model, path, save_as_external_data=True)",
        )
    _check_outline(buffer, size, file)
    try:
        skeleton = _strip(buffer, 0, size, "model", 0)
    except WireError as error:
        raise _damaged(file, str(error)) from error
    proto = ModelProto()
    try:
        proto.ParseFromString(skeleton)
    except DecodeError as error:
        raise _damaged(file, str(error)) from error
    return ModelFile(file, proto, size, buffer, ExternalData(file.parent))


def _damaged(file: Path, why: str) -> ModelError:
    return ModelError(
        "EDG103",
        f"'{file.name}' is damaged",
        where=str(file),
        why=f"the outline is that of an ONNX model, but its contents are no valid protobuf: {why}",
        help="get the file again and compare its checksum",
    )


def _check_outline(buffer: Buffer, size: int, file: Path) -> None:
    """Tell a model from a cut model, from another protobuf and from anything else, by the outermost fields."""
    seen: set[int] = set()
    foreign = False
    try:
        for number, kind, _, _, _ in fields(buffer, 0, size):
            if _MODEL_KINDS.get(number, kind) != kind:
                foreign = True
            elif number in _MODEL_KINDS:
                seen.add(number)
    except WireError as error:
        if isinstance(error, Cut) and seen and not foreign:
            raise ModelError(
                "EDG104",
                f"'{file.name}' is cut off after {size} bytes",
                where=str(file),
                why=str(error),
                help="copy or download the file again",
            ) from error
        raise ModelError(
            "EDG103",
            f"'{file.name}' is no ONNX model",
            where=str(file),
            why=_looks_like(bytes(buffer[:64])) or f"the bytes are no protobuf: {error}",
        ) from error
    missing = [
        text
        for number, text in ((_IR_FIELD, "IR version"), (_OPSET_FIELD, "opset"), (_GRAPH_FIELD, "graph"))
        if number not in seen
    ]
    if foreign or missing:
        raise ModelError(
            "EDG105",
            f"'{file.name}' is protobuf, but no ONNX model",
            where=str(file),
            why="fields have other types than an ONNX model's" if foreign else f"it has no {', no '.join(missing)}",
        )


def _looks_like(head: bytes) -> str:
    for start, what in (
        (b"version https://git-lfs", "it is a Git LFS pointer: run `git lfs pull`"),
        (b"PK\x03\x04", "it is a zip archive"),
        (b"\x1f\x8b", "it is gzip-compressed"),
        (b"<", "it is a web page or XML"),
        (b"\x89HDF", "it is an HDF5 (Keras) file"),
        (b"{", "it is JSON"),
    ):
        if head.lstrip().startswith(start):
            return what
    return "it is a TensorFlow Lite flatbuffer" if head[4:8] == b"TFL3" else ""


def _strip(buffer: Buffer, position: int, end: int, kind: str, depth: int) -> bytes:
    """The message without the contents of its large tensors."""
    if depth > MAX_NESTING:
        raise ModelError("EDG112", f"control-flow bodies are nested more than {MAX_NESTING} deep")
    children = _CHILDREN[kind]
    parts: list[bytes] = []
    kept = position
    entries = 0
    for number, wire, start, content, after in fields(buffer, position, end):
        entries += 1
        if entries > MAX_ENTRIES:
            raise ModelError("EDG112", f"a {kind} has more than {MAX_ENTRIES} entries")
        if wire != LENGTH or after - content < THRESHOLD:
            continue
        child = children.get(number)
        if child is None:
            continue
        if child == "tensor":
            inner = _strip_tensor(buffer, content, after)
            if inner is None:
                continue
        else:
            inner = _strip(buffer, content, after, child, depth + (child == "graph" and kind == "attribute"))
        parts += (_piece(buffer, kept, start), length_field(number, len(inner)), inner)
        kept = after
    parts.append(_piece(buffer, kept, end))
    return b"".join(parts)


def _piece(buffer: Buffer, start: int, end: int) -> bytes:
    if end - start > MAX_SKELETON:
        raise ModelError("EDG112", f"the model has more than {MAX_SKELETON} bytes besides its tensors")
    return buffer[start:end]


def _strip_tensor(buffer: Buffer, position: int, end: int) -> bytes | None:
    """A tensor's message with a note of where its bytes lie, or None if it is to be left as it is."""
    bulk: tuple[int, int, int, int] | None = None
    data_type = 0
    parts: list[tuple[int, int]] = []
    for number, wire, start, content, after in fields(buffer, position, end):
        if number in _BULK and wire == LENGTH and after - content >= THRESHOLD:
            if bulk is not None:
                return None
            bulk = (number, start, content, after)
        elif number == _EXTERNAL_DATA or (number in _BULK and wire != LENGTH):
            return None
        else:
            if number == _DATA_TYPE and wire == VARINT:
                data_type = content
            parts.append((start, after))
    if bulk is None:
        return None
    number, _, content, after = bulk
    expected = {_FLOAT_DATA: TensorProto.FLOAT, _DOUBLE_DATA: TensorProto.DOUBLE}.get(number, data_type)
    if data_type != expected or data_type == TensorProto.STRING:
        return None
    note = TensorProto(data_location=TensorProto.EXTERNAL)
    note.external_data.add(key="location", value="")
    note.external_data.add(key="offset", value=str(content))
    note.external_data.add(key="end", value=str(after))
    return b"".join(buffer[first:last] for first, last in parts) + bytes(note.SerializeToString())
