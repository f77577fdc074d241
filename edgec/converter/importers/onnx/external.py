"""Tensors in files beside the model: found under rules that keep reads inside the model's folder, mapped when used.

Source: onnx.proto, ``TensorProto.external_data``; ONNX "External Data" page.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from pathlib import Path

from onnx import TensorProto

from edgec.errors import ModelError
from edgec.ir.graph import Tensor
from edgec.ir.proto import unpack
from edgec.ir.types import Array, DataType

OPEN_FILES = 32
"""Most data files that are kept mapped at a time."""


class ExternalData:
    """The data files of one model.

    Attributes:
        folder: the model's folder; nothing outside it is read.
        files: location, as the model writes it, to the file's size in bytes, for every file in use.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[str, int] = {}
        self._mapped: dict[str, mmap.mmap] = {}

    def load(self, proto: TensorProto) -> Tensor:
        """A constant whose bytes are read when it is used.

        Raises:
            ModelError: EDG107 (file missing or short), EDG108 (outside the folder), EDG109 (malformed entry).
        """
        from edgec.converter.importers.onnx.reader import tensor_type

        where = f"tensor '{proto.name}'"
        dtype, shape = tensor_type(proto)
        entries = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
        count = 1
        for dim in shape:
            count *= dim
        needed = (count * dtype.bits + 7) // 8
        offset = _number(entries, "offset", 0, where)
        length = _number(entries, "length", needed, where)
        if length != needed:
            raise ModelError(
                "EDG109",
                f"'{proto.name}' says it has {length} bytes of external data, its shape {list(shape)} needs {needed}",
                where=where,
            )
        if location not in self.files:
            self.files[location] = self._size(location, where)
        if offset + needed > self.files[location]:
            raise ModelError(
                "EDG107",
                f"'{location}' is too short: '{proto.name}' lies at bytes {offset} to {offset + needed}, "
                f"the file has {self.files[location]}",
                where=where,
                help="copy the data file again, together with the model",
            )
        return Tensor(dtype, shape, lambda: self._read(location, offset, needed, dtype, shape))

    def _read(self, location: str, offset: int, length: int, dtype: DataType, shape: tuple[int, ...]) -> Array:
        if length == 0:
            return unpack(dtype, shape, b"")
        mapped = self._mapped.get(location)
        if mapped is None:
            mapped = self._map(location)
            while len(self._mapped) >= OPEN_FILES:
                self._mapped.pop(next(iter(self._mapped)))
            self._mapped[location] = mapped
        return unpack(dtype, shape, memoryview(mapped)[offset : offset + length])

    def _map(self, location: str) -> mmap.mmap:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self.folder / location, flags)
            try:
                return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise ModelError("EDG107", f"cannot read '{location}'", where=str(self.folder), why=str(error)) from error

    def _size(self, location: str, where: str) -> int:
        """The size of a data file that may be read."""
        why = forbidden(location)
        parts = [part for part in location.split("/") if part not in ("", ".")]
        path = self.folder
        try:
            for part in parts if not why else ():
                path = path / part
                if path.is_symlink():
                    why = f"'{path.name}' is a symbolic link"
                    break
            if not why:
                about = path.stat()
        except FileNotFoundError:
            raise ModelError(
                "EDG107",
                f"the data file '{location}' is missing",
                where=where,
                why=f"it should lie in '{self.folder}'",
                help="copy the data file together with the model",
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError("EDG107", f"cannot read '{location}'", where=where, why=str(error)) from error
        if why:
            raise ModelError(
                "EDG108",
                f"the data file '{location}' is not inside the model's folder",
                where=where,
                why=why,
                help="save the model again with its data beside it",
            )
        if not stat.S_ISREG(about.st_mode):
            raise ModelError("EDG107", f"'{location}' is no regular file", where=where)
        return about.st_size


def forbidden(location: str) -> str:
    """Why a location may not be read, or an empty string.  Windows forms are refused everywhere."""
    if not location or not location.strip("./"):
        return "the location is empty"
    if "\0" in location:
        return "the location holds a NUL"
    if location.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", location):
        return "the path is absolute"
    if ".." in re.split(r"[/\\]", location):
        return "the path holds '..'"
    return "the path holds a backslash" if "\\" in location else ""


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise ModelError("EDG109", f"the {key} of external data is '{text[:40]}'", where=where)
    return int(text)
