"""A model into an ``.onnx`` file without a second copy of its weights in memory.

The message is serialized without its initializers; their sizes are known, so the length of the graph is too, and the
bytes of each go straight from the (memory-mapped) array to the file.  The same model gives the same bytes.
Source: onnx.proto; protobuf's "Encoding" page.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import TensorProto

from edgec.ir.graph import Model, Tensor
from edgec.ir.proto import model_to_proto, tensor_to_proto
from edgec.ir.types import Array, DataType

INLINE_LIMIT = (1 << 31) - (1 << 20)
"""Models beyond this many bytes get their weights in a file beside them: a protobuf message ends at 2 GiB."""
KEPT_INSIDE = 1024
"""Tensors below this many bytes stay in the model file in any case."""
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def write_model(
    model: Model,
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    ir_version: int | None = None,
    limit: int = INLINE_LIMIT,
) -> list[Path]:
    """Write a model.

    Args:
        path: the file; a data file, where one is needed, is called ``PATH.data``.
        opset, ir_version: the versions to stamp instead of the model's own (see :mod:`edgec.ir.lowest_opset`).
        limit: bytes beyond which the weights go into the data file.

    Returns:
        The files written, the model first.

    Raises:
        OSError: the files cannot be written.
    """
    file = Path(path)
    tensors: list[tuple[str, Tensor]] = []
    proto = model_to_proto(
        model,
        initializers=lambda name, tensor: tensors.append((name, tensor)),
        opset=opset,
        ir_version=ir_version,
    )
    graph = bytes(proto.graph.SerializeToString(deterministic=True))
    proto.ClearField("graph")
    header = bytes(proto.SerializeToString(deterministic=True))
    inline = len(header) + len(graph) + sum(tensor.nbytes + len(name) + 64 for name, tensor in tensors)
    if inline <= limit:
        _write(file, header, graph, [_message(name, tensor, None) for name, tensor in tensors])
        return [file]
    data = file.with_name(file.name + ".data")
    messages = []
    with open(data, "wb") as stream:
        for name, tensor in tensors:
            offset = _store(stream, tensor) if tensor.nbytes >= KEPT_INSIDE else None
            messages.append(_message(name, tensor, None if offset is None else (data.name, offset)))
    _write(file, header, graph, messages)
    return [file, data]


def _message(name: str, tensor: Tensor, outside: tuple[str, int] | None) -> tuple[bytes, Tensor | None]:
    """An initializer up to its raw data, and the tensor whose bytes follow, or None if the message is complete."""
    if tensor.dtype is DataType.STRING:
        return bytes(tensor_to_proto(tensor, name).SerializeToString(deterministic=True)), None
    proto = TensorProto(name=name, dims=tensor.shape, data_type=int(tensor.dtype))
    if outside is None:
        return bytes(proto.SerializeToString(deterministic=True)), tensor
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", outside[0]), ("offset", str(outside[1])), ("length", str(tensor.nbytes))):
        proto.external_data.add(key=key, value=value)
    return bytes(proto.SerializeToString(deterministic=True)), None


def _write(file: Path, header: bytes, graph: bytes, messages: Iterable[tuple[bytes, Tensor | None]]) -> None:
    framed: list[tuple[bytes, Tensor | None]] = []
    length = len(graph)
    for message, tensor in messages:
        raw = b"" if tensor is None else _introduce(_RAW_DATA, tensor.nbytes)
        body = len(message) + len(raw) + (0 if tensor is None else tensor.nbytes)
        framed.append((_introduce(_INITIALIZER, body) + message + raw, tensor))
        length += len(framed[-1][0]) + (0 if tensor is None else tensor.nbytes)
    with open(file, "wb") as stream:
        stream.write(header)
        stream.write(_introduce(_GRAPH, length))
        stream.write(graph)
        for start, tensor in framed:
            stream.write(start)
            if tensor is not None:
                stream.write(_bytes_of(tensor))


def _store(stream: BinaryIO, tensor: Tensor) -> int:
    """Append a tensor to the data file, aligned so that it can be mapped; returns its offset."""
    alignment = 4096 if tensor.nbytes >= 65536 else 64
    stream.write(b"\0" * (-stream.tell() % alignment))
    offset = stream.tell()
    stream.write(_bytes_of(tensor))
    return offset


def _bytes_of(tensor: Tensor) -> memoryview:
    """The elements as ``raw_data`` holds them: little-endian, sub-byte types packed from the low bits up."""
    array = tensor.numpy()
    if tensor.dtype.bits < 8:
        return memoryview(_pack(array, tensor.dtype.bits))
    flat = np.ascontiguousarray(array).reshape(-1)
    return memoryview(flat.view(np.uint8).data) if flat.size else memoryview(b"")


def _pack(array: Array, bits: int) -> bytes:
    per = 8 // bits
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    padded = np.zeros(-(-codes.size // per) * per, np.uint8)
    padded[: codes.size] = codes
    packed = np.zeros(padded.size // per, np.uint8)
    for position in range(per):
        packed |= padded[position::per] << (position * bits)
    return packed.tobytes()


def _introduce(number: int, length: int) -> bytes:
    """The tag and length that come before ``length`` bytes of contents."""
    out = bytearray()
    for value in (number << 3 | 2, length):
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
