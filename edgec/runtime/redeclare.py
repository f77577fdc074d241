"""Replace the declared input extents of an ONNX file without reading its weights into messages.

Some exporters declare placeholder extents (centerface: 10x3x32x32) and mean any size.  ONNX Runtime refuses to run
such a model at another size, so the declarations are replaced: inputs get the extents asked for, declared output and
intermediate shapes, which followed from the placeholders, are dropped.  The edit works on the protobuf wire format;
nodes and initializers are copied byte by byte.

Source: protobuf encoding, https://protobuf.dev/programming-guides/encoding; field numbers of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

_MODEL_GRAPH = 7
_GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 11, 12, 13
_INFO_NAME, _INFO_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENT, _TENSOR_SHAPE = 1, 2
_SHAPE_DIM = 1
_DIM_VALUE = 1


def redeclare(path: Path, shapes: Mapping[str, tuple[int, ...]], *, open_too: bool = False) -> bytes | None:
    """The bytes of the model at ``path`` with these inputs declared, or None where nothing contradicts ``shapes``.

    A symbolic or unnamed extent contradicts nothing: ONNX Runtime takes any size there.  With ``open_too`` it does.

    Raises:
        ValueError: the file does not follow the protobuf wire format.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        pieces: list[bytes | memoryview] = []
        changed = False
        try:
            for number, start, body, end in _fields(view):
                if number != _MODEL_GRAPH:
                    pieces.append(view[start:end])
                    continue
                inner, touched = _graph(view, body, end, shapes, open_too)
                changed = changed or touched
                pieces.append(_tag(_MODEL_GRAPH) + _varint(sum(len(piece) for piece in inner)))
                pieces.extend(inner)
            return b"".join(pieces) if changed else None
        finally:
            for piece in pieces:
                if isinstance(piece, memoryview):
                    piece.release()
            view.release()


def _graph(
    view: memoryview, begin: int, stop: int, shapes: Mapping[str, tuple[int, ...]], open_too: bool
) -> tuple[list[bytes | memoryview], bool]:
    pieces: list[bytes | memoryview] = []
    changed = False
    for number, start, body, end in _fields(view, begin, stop):
        if number == _GRAPH_INPUT:
            name, element, dims = _info(bytes(view[body:end]))
            wanted = shapes.get(name)
            if wanted is not None and element is not None:
                if dims is not None and (
                    len(dims) != len(wanted)
                    or any(d != w and (open_too or d is not None) for d, w in zip(dims, wanted))
                ):
                    changed = True
                pieces.append(_field(_GRAPH_INPUT, _value_info(name, element, wanted)))
                continue
        elif number == _GRAPH_OUTPUT:
            name, element, _ = _info(bytes(view[body:end]))
            if element is not None:
                pieces.append(_field(_GRAPH_OUTPUT, _value_info(name, element, None)))
                continue
        elif number == _GRAPH_VALUE_INFO:
            continue
        pieces.append(view[start:end])
    return pieces, changed


def _contradicts(dims: list[int | None], wanted: tuple[int, ...], open_too: bool) -> bool:
    return len(dims) != len(wanted) or any(d != w and (open_too or d is not None) for d, w in zip(dims, wanted))


def _info(data: bytes) -> tuple[str, int | None, list[int | None] | None]:
    """Name, tensor element type (None for other types) and extents (None per unknown one) of a ValueInfoProto."""
    name, element, dims = "", None, None
    for number, _, body, end in _fields(data):
        if number == _INFO_NAME:
            name = data[body:end].decode("utf-8", "replace")
        elif number == _INFO_TYPE:
            kind = data[body:end]
            for which, _, inner, stop in _fields(kind):
                if which == _TYPE_TENSOR:
                    element, dims = _tensor(kind[inner:stop])
    return name, element, dims


def _tensor(data: bytes) -> tuple[int, list[int | None] | None]:
    element, dims = 0, None
    for number, _, body, end in _fields(data):
        if number == _TENSOR_ELEMENT:
            element = _read_varint(data, body)[0]
        elif number == _TENSOR_SHAPE:
            shape = data[body:end]
            dims = []
            for which, _, inner, stop in _fields(shape):
                if which == _SHAPE_DIM:
                    dims.append(_dim(shape[inner:stop]))
    return element, dims


def _dim(data: bytes) -> int | None:
    for number, _, body, _ in _fields(data):
        if number == _DIM_VALUE:
            value = _read_varint(data, body)[0]
            return value if 0 <= value < 1 << 63 else None
    return None


def _value_info(name: str, element: int, shape: tuple[int, ...] | None) -> bytes:
    tensor = _tag(_TENSOR_ELEMENT, 0) + _varint(element)
    if shape is not None:
        dims = b"".join(_field(_SHAPE_DIM, _tag(_DIM_VALUE, 0) + _varint(dim)) for dim in shape)
        tensor += _field(_TENSOR_SHAPE, dims)
    return _field(_INFO_NAME, name.encode()) + _field(_INFO_TYPE, _field(_TYPE_TENSOR, tensor))


# the wire format


def _fields(data: bytes | memoryview, begin: int = 0, stop: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Field number, first byte of the tag, first byte of the content and end of every field of a message."""
    position, limit = begin, len(data) if stop is None else stop
    while position < limit:
        start = position
        key, position = _read_varint(data, position)
        body = position
        match key & 7:
            case 0:
                _, position = _read_varint(data, position)
            case 1:
                position += 8
            case 2:
                length, body = _read_varint(data, position)
                position = body + length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if position > limit:
            raise ValueError("a field ends beyond its message")
        yield key >> 3, start, body, position


def _read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, kind: int = 2) -> bytes:
    return _varint(number << 3 | kind)


def _field(number: int, content: bytes) -> bytes:
    return _tag(number) + _varint(len(content)) + content
