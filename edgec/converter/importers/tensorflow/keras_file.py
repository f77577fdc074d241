"""What a Keras file holds: the archive of Keras 3 read as data; of HDF5 files only what can be told without h5py.

Source: keras.src.saving.saving_lib (the .keras archive), the HDF5 file format specification (its signature).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgec.errors import ModelError

MAX_ENTRIES = 10_000
"""Most entries of an archive."""
MAX_BYTES = 1 << 34
"""Most bytes that an archive may unpack to, and most bytes of an HDF5 file."""
MAX_CONFIGURATION = 1 << 27
"""Most bytes of a model's configuration."""
MAX_RATIO, SMALL = 200, 1 << 24
"""An entry that unpacks to more than this many times its size is taken for a bomb, unless it stays small (bytes)."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"

KERAS, HDF5 = "keras", "hdf5"


@dataclass(frozen=True)
class KerasFile:
    """A Keras file.

    Attributes:
        kind: ``keras`` (archive) or ``hdf5``.
        version: the Keras version that wrote it; empty where it is not known yet (HDF5).
        configuration: of the model, as parsed from JSON; None where it is not known yet (HDF5).
        size: bytes of the file.
    """

    kind: str
    version: str = ""
    configuration: dict[str, Any] | None = field(default=None, repr=False)
    size: int = 0

    @property
    def is_legacy(self) -> bool:
        """Whether it takes Keras 2 to load it."""
        return is_legacy(self.version)


def is_legacy(version: str) -> bool:
    """Whether a Keras version is older than 3."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) < 3


def read_keras_file(path: Path) -> KerasFile:
    """Look at a Keras file without loading it.

    Raises:
        ModelError: EDG101 (no file), EDG102 (empty), EDG112 (over a limit, or a zip bomb), EDG116 (no Keras file),
            EDG117 (an entry outside the archive).
    """
    try:
        if not path.is_file():
            raise ModelError("EDG101", f"there is no file '{path}'", where=str(path), help="check the path")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError("EDG101", f"cannot open '{path}'", where=str(path), why=str(error)) from error
    if size == 0:
        raise ModelError("EDG102", f"'{path.name}' is empty", where=str(path), help="copy or save the model again")
    if size > MAX_BYTES:
        raise ModelError("EDG112", f"'{path.name}' has more than {MAX_BYTES} bytes", where=str(path))
    if head == HDF5_SIGNATURE:
        return KerasFile(HDF5, size=size)
    if head.startswith(ZIP_SIGNATURE):
        return _read_archive(path, size)
    raise ModelError(
        "EDG116",
        f"'{path.name}' is no Keras file",
        where=str(path),
        why="it begins neither like a .keras archive (zip) nor like HDF5",
        help="save the model again with model.save(PATH)",
    )


def _read_archive(path: Path, size: int) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive.infolist())
            configuration = _read_json(path, archive, "config.json")
            metadata = _read_json(path, archive, "metadata.json")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(
            "EDG116", f"'{path.name}' is a damaged archive", where=str(path), why=str(error), help="save it again"
        ) from error
    return KerasFile(KERAS, str(metadata.get("keras_version", "")), configuration, size)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    where = str(path)
    if len(entries) > MAX_ENTRIES:
        raise ModelError("EDG112", f"the archive has more than {MAX_ENTRIES} entries", where=where)
    names: set[str] = set()
    total = 0
    for entry in entries:
        shown = entry.filename[:200]
        parts = PurePosixPath(entry.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in entry.filename or "\0" in entry.orig_filename:
            raise ModelError("EDG117", f"the archive's entry '{shown}' lies outside of it", where=where)
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ModelError("EDG117", f"the archive's entry '{shown}' is a link", where=where)
        if entry.filename in names:
            raise ModelError("EDG116", f"the archive has two entries '{shown}'", where=where)
        names.add(entry.filename)
        total += entry.file_size
        if entry.file_size > SMALL and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise ModelError("EDG112", f"the archive's entry '{shown}' unpacks to {entry.file_size} bytes", where=where)
    if total > MAX_BYTES:
        raise ModelError("EDG112", f"the archive unpacks to more than {MAX_BYTES} bytes", where=where)


def _read_json(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ModelError(
            "EDG116", f"'{path.name}' is no Keras archive", where=str(path), why=f"it holds no {name}"
        ) from None
    if entry.file_size > MAX_CONFIGURATION:
        raise ModelError("EDG112", f"{name} has more than {MAX_CONFIGURATION} bytes", where=str(path))
    with archive.open(entry) as file:
        text = file.read(MAX_CONFIGURATION + 1)
    return parse_configuration(path, text, name)


def parse_configuration(path: Path, text: str | bytes, name: str = "its configuration") -> dict[str, Any]:
    """The configuration as data.

    Raises:
        ModelError: EDG112 (too large or nested too deeply), EDG116 (no JSON object).
    """
    if len(text) > MAX_CONFIGURATION:
        raise ModelError("EDG112", f"{name} has more than {MAX_CONFIGURATION} bytes", where=str(path))
    try:
        found = json.loads(text)
    except RecursionError:
        raise ModelError("EDG112", f"{name} is nested too deeply", where=str(path)) from None
    except ValueError as error:
        raise ModelError("EDG116", f"'{path.name}' is damaged", where=str(path), why=f"{name}: {error}") from error
    if not isinstance(found, dict):
        raise ModelError("EDG116", f"'{path.name}' is damaged", where=str(path), why=f"{name} is no JSON object")
    return found
