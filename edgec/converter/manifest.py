"""``manifest.json``: what stands beside an artifact and says where it came from and what was proven about it.

Two conversions of the same file with the same options and versions give the same bytes: no times, no absolute paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgec._version import VERSION
from edgec.runtime.packages import installed

SCHEMA: Final = "edgec-manifest-1"
PACKAGES: Final = ("onnx", "onnxruntime", "ai-edge-litert", "numpy")


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str | None]:
    """The versions of edgec and of the packages that decide the result; None where one is not installed."""
    found: dict[str, str | None] = {"edgec": VERSION}
    for package in PACKAGES:
        found[package] = package_version(package)
    return found


def package_version(package: str) -> str | None:
    """The installed version of a package, or of another that brings the same module; None where there is none."""
    found = installed(package)
    return None if found is None else found[1]


def file_entry(path: Path) -> dict[str, Any]:
    """Relative name, hash and size in bytes of a file that lies beside the manifest."""
    return {"path": path.name, "sha256": sha256(path), "size": path.stat().st_size}


def source_entry(path: Path, external: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The source model: its name, hash and size, and those of its external data; of a folder, of all its files."""
    base = path if path.is_dir() else path.parent
    listed: list[dict[str, Any]] = [
        {"name": item.relative_to(base).as_posix(), "sha256": sha256(item), "size": item.stat().st_size}
        for item in external
    ]
    size = sum(item["size"] for item in listed) if path.is_dir() else path.stat().st_size
    entry: dict[str, Any] = {"name": path.name, "sha256": source_hash(path), "size": size}
    return {**entry, "external": listed} if listed else entry


def source_hash(path: Path) -> str:
    """The hash of a file, or of the lines that sha256sum would print for a folder's files, sorted by name."""
    if not path.is_dir():
        return sha256(path)
    names = sorted(item.relative_to(path).as_posix() for item in folder_files(path))
    lines = "".join(f"{sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_files(path: Path) -> tuple[Path, ...]:
    """The files of a folder that is a source, sorted; links are left out."""
    return tuple(sorted(item for item in path.rglob("*") if item.is_file() and not item.is_symlink()))


def data_entries(path: Path) -> list[dict[str, Any]]:
    """Names and hashes of the samples: one file, or every .npz and .npy of a folder, sorted by name."""
    files = [path]
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.suffix in (".npz", ".npy") and item.is_file())
    base = path if path.is_dir() else path.parent
    return [{"name": str(f.relative_to(base)), "sha256": sha256(f), "size": f.stat().st_size} for f in files]


def to_text(document: Mapping[str, Any]) -> str:
    """The document as it is written: keys in the order given, two spaces, one newline at the end."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
