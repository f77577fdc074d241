"""Arrays in ``.npy`` and ``.npz`` files, read a few rows at a time.

A file of samples may be larger than memory.  Only the header of an array is read when a file is opened; its rows follow
in the order in which they stand in the file.  NumPy itself reads an array of an ``.npz`` as a whole, and pages of a
mapped ``.npy`` stay resident.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from edgec.errors import UsageError
from edgec.ir.types import Array

HELP: Final = "write it with numpy.savez(path, **{input name: array})"
_ARCHIVE: Final = b"PK"
_SUFFIX: Final = ".npy"
_OBJECTS: Final = "it holds Python objects, which are never loaded"
_UNREADABLE: Final = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What ``zipfile`` and NumPy raise for damaged, encrypted and foreign files."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
        member: its name in an ``.npz``; None for an ``.npy``.
        shape, dtype: what the header says.
        columns: whether the elements stand in the order of Fortran, in which there are no rows to read one by one.
    """

    file: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    columns: bool

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def whole(self) -> Array:
        """The array itself.

        Raises:
            UsageError: EDG006 for a file that ends early or is damaged.
        """
        with self._elements() as stream:
            flat = _read(stream, math.prod(self.shape), self.dtype, self.file)
        return flat.reshape(self.shape[::-1]).T if self.columns and self.ndim > 1 else flat.reshape(self.shape)

    def rows(self, count: int) -> Iterator[Array]:
        """The rows of the first dimension, ``count`` at a time; the last ones may be fewer.

        Raises:
            UsageError: EDG006 for a file that ends early or is damaged.
        """
        total, row = self.shape[0], math.prod(self.shape[1:])
        if self.columns and self.ndim > 1:
            array = self.whole()
            yield from (np.ascontiguousarray(array[start : start + count]) for start in range(0, total, count))
            return
        with self._elements() as stream:
            for start in range(0, total, count):
                taken = min(count, total - start)
                yield _read(stream, taken * row, self.dtype, self.file).reshape(taken, *self.shape[1:])

    @contextmanager
    def _elements(self) -> Iterator[IO[bytes]]:
        """The file, behind the header of the array."""
        try:
            if self.member is None:
                with self.file.open("rb") as stream:
                    _header(stream)
                    yield stream
            else:
                with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
                    _header(stream)
                    yield stream
        except _UNREADABLE as error:
            raise unreadable(self.file, error) from error


def stored_arrays(file: Path) -> dict[str, StoredArray]:
    """The arrays of a file by name; that of an ``.npy`` has the name ``""``.

    Raises:
        UsageError: EDG006 for anything but a file of plain arrays.
    """
    found: dict[str, StoredArray] = {}
    try:
        with file.open("rb") as stream:
            if stream.read(len(_ARCHIVE)) != _ARCHIVE:
                stream.seek(0)
                return {"": StoredArray(file, None, *_header(stream))}
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    found[member.removesuffix(_SUFFIX)] = StoredArray(file, member, *_header(stream))
    except FileNotFoundError:
        raise UsageError("EDG006", f"there is no file '{file}'", help="check the path") from None
    except _UNREADABLE as error:
        raise unreadable(file, error) from error
    return found


def unreadable(file: Path, error: Exception) -> UsageError:
    """The error for a file that cannot be read."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UsageError("EDG006", f"'{file.name}' is no .npy or .npz file of plain arrays", why=text, help=HELP)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic], bool]:
    """Shape, dtype and order of an array; ValueError for anything but an array of plain elements."""
    start = stream.read(len(np.lib.format.MAGIC_PREFIX))
    if start != np.lib.format.MAGIC_PREFIX:
        raise ValueError("it is empty" if not start else "it holds something else than arrays")
    version = tuple(stream.read(2))
    if version == (1, 0):
        shape, columns, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, columns, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"its format {version} is that of structured arrays, which no model takes")
    if dtype.hasobject:
        raise ValueError(_OBJECTS)
    return shape, dtype, columns


def _read(stream: IO[bytes], elements: int, dtype: np.dtype[np.generic], file: Path) -> Array:
    """The next elements of a stream; ValueError where there are not as many."""
    size = elements * dtype.itemsize
    held = np.empty(size, np.uint8)
    view = held.data
    done = 0
    while done < size:
        part = stream.read(min(size - done, 1 << 20))
        if not part:
            raise ValueError("the file ends before its array does")
        view[done : done + len(part)] = part
        done += len(part)
    return held.view(dtype) if dtype.itemsize else np.empty(elements, dtype)
