"""What ``edgec run`` makes of an artifact's outputs: real numbers, best classes, a file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.errors import UsageError
from edgec.ir.types import Array

SHOWN: Final = 16
"""Outputs of at most so many numbers are shown whole."""


@dataclass(frozen=True)
class Class:
    """A class, its score, and its name where there is one."""

    index: int
    score: float
    label: str | None

    def to_json(self) -> dict[str, Any]:
        """As the document holds it."""
        return {"index": self.index, "score": self.score, "label": self.label}


def is_scores(array: Array) -> bool:
    """Whether an output is one score per class, more than one: [classes], [1, ..., 1, classes], [1, classes, 1, 1].

    The last is what a classifier gives that ends in a pooled convolution; [n, 1] is one number for each of a batch.
    """
    if array.dtype.kind not in "fiu" or array.ndim == 0 or array.size < 2:
        return False
    return array.shape[-1] == array.size or (array.ndim > 3 and array.shape[1] == array.size)


def best(scores: Array, count: int, labels: Sequence[str] | None = None) -> list[Class]:
    """The ``count`` classes of the highest scores, best first; of equal ones the lower index first, NaN last."""
    flat = np.asarray(scores).reshape(-1).astype(np.float64)
    order = np.argsort(-np.where(np.isnan(flat), -np.inf, flat), kind="stable")[:count]
    return [
        Class(int(at), float(flat[at]), labels[at] if labels is not None and at < len(labels) else None) for at in order
    ]


def read_labels(path: str | Path) -> list[str]:
    """Names of classes: one per line, or ``NUMBER name`` and ``NUMBER: name`` on every line.

    Raises:
        UsageError: EDG006 for a file that cannot be read or holds none.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        help = "give a text file (UTF-8) with one name per line"
        raise UsageError("EDG006", f"the labels '{path}' cannot be read", why=str(error), help=help) from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UsageError("EDG006", f"'{path}' holds no labels")
    numbered = [_numbered(line) for line in lines]
    if all(item is not None for item in numbered):
        pairs = [item for item in numbered if item is not None]
        if len({number for number, _ in pairs}) == len(pairs) and max(number for number, _ in pairs) < 1 << 20:
            found = [""] * (max(number for number, _ in pairs) + 1)
            for number, name in pairs:
                found[number] = name
            return found
    return lines


def summary(array: Array) -> dict[str, Any]:
    """Smallest, largest and mean number of an output, how many are not finite, and all of them where they are few."""
    if array.dtype.kind not in "fiub":
        return {"minimum": None, "maximum": None, "mean": None, "not_finite": 0, "values": _few(array)}
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    return {
        "minimum": float(finite.min()) if finite.size else None,
        "maximum": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "not_finite": int(numbers.size - finite.size),
        "values": _few(array),
    }


def save(arrays: Mapping[str, Array], path: Path) -> None:
    """Write arrays as an .npz file under their own names, whatever these are; readable with ``numpy.load``.

    Raises:
        OSError: the file cannot be written; nothing of it is left then.
    """
    working = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(working, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                plain = array.astype(np.str_) if array.dtype == object else array  # pickled arrays are never loaded
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, plain, allow_pickle=False)
        working.replace(path)
    finally:
        working.unlink(missing_ok=True)


def _few(array: Array) -> list[Any] | None:
    return array.reshape(-1).tolist() if array.size <= SHOWN else None


def _numbered(line: str) -> tuple[int, str] | None:
    number, _, name = line.partition(" ")
    number = number.removesuffix(":")
    return (int(number), name.strip()) if number.isascii() and number.isdigit() and name.strip() else None
