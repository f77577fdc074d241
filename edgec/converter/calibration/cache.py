"""Statistics kept between runs, under a key made of the model's bytes and the data's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.statistics import BINS, DRAWN, Calibration
from edgec.converter.manifest import sha256

VERSION: Final = 4
"""Raised when statistics are collected in another way."""
FAST: Final = 1
"""NumPy's ``savez_compressed`` takes zlib's default, which takes three times the time for 6 % less."""


def default_folder() -> Path:
    """``edgec/calibration`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgec" / "calibration"


def key_of(model: Path, data: CalibrationData) -> str | None:
    """The key of a written model with its observed outputs, and data; None for data that cannot be hashed."""
    if callable(data.source):
        return None
    beside = model.with_name(model.name + ".data")
    described = {
        "version": [VERSION, BINS, DRAWN],
        "model": [sha256(path) for path in (model, beside) if path.exists()],
        "data": data.origin(),
        "ranges": sorted((name, *pair) for name, pair in data.ranges.items()) if data.is_random else [],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def load(folder: Path, key: str, *, histograms: bool = True) -> Calibration | None:
    """What was stored under a key, without histograms only if these are not needed; None if there is nothing usable."""
    for with_them in (True,) if histograms else (True, False):
        try:
            with np.load(_file(folder, key, with_them), allow_pickle=False) as arrays:
                return Calibration.from_arrays(dict(arrays))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue
    return None


def _file(folder: Path, key: str, histograms: bool) -> Path:
    return folder / f"{key}{'' if histograms else '-extents'}.npz"


def _archive(stream: BinaryIO) -> zipfile.ZipFile:
    return zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=FAST)


def store(folder: Path, key: str, found: Calibration, *, histograms: bool = True) -> None:
    """Keep statistics; a folder that cannot be written to is no error, the next run only calibrates anew."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream, _archive(stream) as file:
                for item, array in found.to_arrays().items():
                    with file.open(f"{item}.npy", "w") as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            os.replace(name, _file(folder, key, histograms))
        except BaseException:
            os.unlink(name)
            raise
