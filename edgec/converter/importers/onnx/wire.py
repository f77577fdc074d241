"""The protobuf wire format, as far as it is needed to look at a model without reading its weights.

A message is a row of fields; a field is a tag (number and wire type) and a varint, 4 or 8 bytes, or a length and that
many bytes.  Source: protobuf's "Encoding" page.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import TypeAlias

Buffer: TypeAlias = "mmap | bytes"

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class WireError(Exception):
    """The bytes break the wire format."""


class Cut(WireError):
    """A field reaches beyond the end of its message."""


def varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The number at a position, and the position after it.

    Raises:
        Cut: the message ends inside the number.
        WireError: the number has more than ten bytes.
    """
    value = shift = 0
    while True:
        if position >= end:
            raise Cut("a number is cut off")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift >= 70:
            raise WireError("a number has more than ten bytes")


def fields(buffer: Buffer, position: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of the message in ``buffer[position:end]``: number, wire type, start of the tag, start and end of the
    contents (of a varint: its value and the end).

    Raises:
        Cut, WireError: as the bytes are read.
    """
    while position < end:
        start = position
        tag = buffer[position]
        position += 1
        if tag >= 0x80:
            tag, position = varint(buffer, start, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("a field has the number 0")
        if kind == LENGTH:
            if position >= end:
                raise Cut(f"field {number} is cut off")
            length = buffer[position]
            position += 1
            if length >= 0x80:
                length, position = varint(buffer, position - 1, end)
            if length > end - position:
                raise Cut(f"field {number} claims {length} bytes, {end - position} are left")
            yield number, kind, start, position, position + length
            position += length
        elif kind == VARINT:
            value, position = varint(buffer, position, end)
            yield number, kind, start, value, position
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if size > end - position:
                raise Cut(f"field {number} is cut off")
            yield number, kind, start, position, position + size
            position += size
        else:
            raise WireError(f"field {number} has the wire type {kind}")


def encode_varint(value: int) -> bytes:
    """A number of up to 64 bits on the wire."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_field(number: int, length: int) -> bytes:
    """The tag and length that introduce ``length`` bytes of contents."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)
