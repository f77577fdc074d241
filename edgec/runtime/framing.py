"""Messages between a process and its worker: a JSON header, then the raw bytes of the arrays.

A message is a little-endian uint32 length, a JSON object of that length in UTF-8, and the elements of every array in
the order of the header's ``arrays`` list (``name``, ``dtype``, ``shape``).  String arrays travel inside the header.
Nothing in a message is ever executed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgec.ir.types import Array

MAX_HEADER = 1 << 26
"""Longest header that is read, bytes."""

Read = Callable[[memoryview], None]
"""Fills the buffer completely or raises."""
Write = Callable[[memoryview], None]
"""Writes the buffer completely or raises."""


class ProtocolError(Exception):
    """The bytes received are no message."""


def dtype_name(dtype: np.dtype[Any]) -> str:
    """A dtype as text: ``float32``, ``bool``, ``bfloat16``, or ``object`` for strings."""
    return "object" if dtype.kind in "OUS" else dtype.name


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype that :func:`dtype_name` wrote.

    Raises:
        ProtocolError: no such dtype.
    """
    try:
        known: np.dtype[Any] = np.dtype(name)
        return known
    except TypeError:
        import ml_dtypes

        found = getattr(ml_dtypes, name, None)
        if found is None:
            raise ProtocolError(f"unknown dtype {name!r}") from None
        other: np.dtype[Any] = np.dtype(found)
        return other


def send(write: Write, header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Write one message."""
    entries: list[dict[str, Any]] = []
    blobs: list[memoryview] = []
    for name, array in (arrays or {}).items():
        entry: dict[str, Any] = {"name": name, "dtype": dtype_name(array.dtype), "shape": list(array.shape)}
        if entry["dtype"] == "object":
            entry["strings"] = [
                item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.ravel()
            ]
        elif array.size:
            blobs.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        entries.append(entry)
    text = json.dumps({**header, "arrays": entries}).encode()
    write(memoryview(struct.pack("<I", len(text)) + text))
    for blob in blobs:
        write(blob)


def receive(read: Read) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one message.

    Raises:
        ProtocolError: the bytes are no message.
    """
    prefix = bytearray(4)
    read(memoryview(prefix))
    (length,) = struct.unpack("<I", prefix)
    if length > MAX_HEADER:
        raise ProtocolError(f"a header of {length} bytes")
    text = bytearray(length)
    read(memoryview(text))
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ProtocolError("the header is no object")
    arrays: dict[str, Array] = {}
    for entry in header.pop("arrays", []):
        shape = tuple(int(dim) for dim in entry["shape"])
        array: Array
        if "strings" in entry:
            array = np.empty(shape, dtype=object)
            array.ravel()[:] = entry["strings"] if array.ndim else entry["strings"][:1]
        else:
            array = np.empty(shape, dtype=dtype_of(entry["dtype"]))
            if array.size:
                read(array.reshape(-1).view(np.uint8).data)
        arrays[entry["name"]] = array
    return header, arrays
