"""Read the tables of any flatbuffer, every offset checked: the bytes may come from anybody.

Source: FlatBuffers internals (the wire format); a table starts with the distance to its vtable, a vector with its
length, an offset counts forward from where it stands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

MAX_ENTRIES: Final = 4_000_000
"""Most entries of vectors that one reader visits, so that entries which refer to the same bytes cost no more."""


MAX_COPIED: Final = 1 << 26
"""Most bytes that are copied beyond the size of the data: strings may share bytes, but not without end."""


class Malformed(ValueError):
    """The bytes are no such flatbuffer."""


class TooLarge(Malformed):
    """The flatbuffer has more in it than a sound one of its kind."""


class Reader:
    """The bytes and what of them has been visited."""

    def __init__(self, data: Any, entries: int = MAX_ENTRIES) -> None:
        self.data = data
        self.size = len(data)
        self._left = entries
        self._uncopied = self.size + MAX_COPIED

    def root(self) -> Table:
        """The outermost table.

        Raises:
            Malformed: there is none.
        """
        return Table(self, self.unsigned(0))

    def unsigned(self, position: int) -> int:
        """The 32-bit number at a position."""
        return int(self.unpack("<I", position))

    def unpack(self, form: str, position: int) -> Any:
        """The scalar at a position, as :mod:`struct` reads it."""
        if not 0 <= position <= self.size - struct.calcsize(form):
            raise Malformed(f"an offset points to byte {position} of {self.size}")
        return struct.unpack_from(form, self.data, position)[0]

    def visit(self, count: int) -> None:
        """Account for entries that are about to be read."""
        self._left -= count
        if self._left < 0:
            raise TooLarge("it has more entries than a sound file of its kind")

    def copy(self, start: int, count: int) -> bytes:
        """Bytes of the data, which lie inside of it."""
        self._uncopied -= count
        if self._uncopied < 0:
            raise TooLarge("its strings refer to the same bytes again and again")
        return bytes(self.data[start : start + count])


class Table:
    """One table; fields are counted from 0 in the order of the schema (a union takes two: its type, then its value)."""

    __slots__ = ("_length", "_reader", "_vtable", "position")

    def __init__(self, reader: Reader, position: int) -> None:
        self._reader = reader
        self.position = position
        self._vtable = position - int(reader.unpack("<i", position))
        self._length = int(reader.unpack("<H", self._vtable))

    def _field(self, number: int) -> int:
        """Where the field is, 0 where it is not set."""
        slot = 4 + 2 * number
        if slot + 2 > self._length:
            return 0
        offset = int(self._reader.unpack("<H", self._vtable + slot))
        return self.position + offset if offset else 0

    def number(self, number: int, form: str, default: Any = 0) -> Any:
        """A scalar; ``form`` is its :mod:`struct` character (``b`` int8, ``i`` int32, ``Q`` uint64, ...)."""
        place = self._field(number)
        return self._reader.unpack(f"<{form}", place) if place else default

    def table(self, number: int) -> Table | None:
        """A table, None where it is not set."""
        place = self._field(number)
        return Table(self._reader, place + self._reader.unsigned(place)) if place else None

    def _vector(self, number: int, width: int) -> tuple[int, int]:
        """Where a vector's first entry is, and how many there are."""
        place = self._field(number)
        if not place:
            return 0, 0
        start = place + self._reader.unsigned(place)
        count = self._reader.unsigned(start)
        if start + 4 + count * width > self._reader.size:
            raise Malformed(f"a vector of {count} entries ends behind the last byte")
        return start + 4, count

    def length(self, number: int) -> int:
        """Entries of a vector of tables, which are accounted for."""
        count = self._vector(number, 4)[1]
        self._reader.visit(count)
        return count

    def is_set(self, number: int) -> bool:
        """Whether the field stands in the table at all."""
        return bool(self._field(number))

    def numbers(self, number: int, form: str) -> tuple[Any, ...]:
        """A vector of scalars."""
        start, count = self._vector(number, struct.calcsize(f"<{form}"))
        self._reader.visit(count)
        return struct.unpack_from(f"<{count}{form}", self._reader.data, start) if count else ()

    def tables(self, number: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self._vector(number, 4)
        self._reader.visit(count)
        for place in range(start, start + 4 * count, 4):
            yield Table(self._reader, place + self._reader.unsigned(place))

    def strings(self, number: int) -> Iterator[bytes]:
        """A vector of strings (or of nested buffers, which are stored the same way)."""
        start, count = self._vector(number, 4)
        self._reader.visit(count)
        for place in range(start, start + 4 * count, 4):
            begin = place + self._reader.unsigned(place)
            length = self._reader.unsigned(begin)
            if begin + 4 + length > self._reader.size:
                raise Malformed("a string ends behind the last byte")
            yield self._reader.copy(begin + 4, length)

    def span(self, number: int) -> tuple[int, int]:
        """A vector of bytes: where it starts and how long it is; it stays in the file."""
        return self._vector(number, 1)

    def content(self, number: int) -> bytes:
        """A vector of bytes, or a string, copied."""
        start, count = self._vector(number, 1)
        return self._reader.copy(start, count)

    def text(self, number: int) -> str:
        """A string; bytes that are no UTF-8 are replaced."""
        return self.content(number).decode("utf-8", "replace")
