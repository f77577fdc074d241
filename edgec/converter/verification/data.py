"""Samples that the user gives: ``.npz``, ``.npy`` or a folder of them.

``.npz``: one array per input, under the input's name (or a single array for a model with one input).  ``.npy``: the
array of the only input.  A folder: its files in the order of their names, each one as above.  Every array may have one
leading dimension of samples in addition to the input's own; it is iterated over, one sample in memory at a time.
Pickled arrays are never loaded.

An ``.npz`` may hold labels too: an array of integers called ``labels``, ``label`` or ``y`` that is no input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.converter.verification.stored import HELP, StoredArray, stored_arrays
from edgec.errors import UsageError
from edgec.ir.types import Array, Shape
from edgec.runtime.session import TensorSpec

Feeds = dict[str, Array]
LABELS = ("labels", "label", "y")
"""Names of an array of true classes."""


def load_samples(path: str | Path, inputs: Sequence[TensorSpec], *, fill: bool = False) -> Iterator[Feeds]:
    """The samples of a file or folder, each an array per input of its declared shape and dtype.

    One sample is in memory at a time, however many a file holds.

    Args:
        fill: whether the rows of a file that are too few for the last batch are filled up with its first ones.

    Raises:
        UsageError: EDG006 for a file that cannot be read, EDG005 for arrays that do not fit, EDG002 for an array of an
            input that the model does not have.
    """
    for file in _files(path):
        yield from _split(file, inputs, fill).samples()


def count_samples(path: str | Path, inputs: Sequence[TensorSpec], *, fill: bool = False) -> int:
    """How many samples :func:`load_samples` gives, from the headers of the files alone.

    Raises:
        UsageError: as :func:`load_samples`.
    """
    return sum(_split(file, inputs, fill).count for file in _files(path))


def locate_sample(path: str | Path, inputs: Sequence[TensorSpec], number: int, *, fill: bool = False) -> str:
    """The file that a sample of :func:`load_samples` comes from and which one of it, in words; samples count from 0."""
    for file in _files(path):
        count = _split(file, inputs, fill).count
        if number < count:
            return f"file '{file.name}'" if count == 1 else f"file '{file.name}', sample {number}, counted from 0"
        number -= count
    return f"sample {number}, counted from 0"


def load_labels(path: str | Path, inputs: Sequence[TensorSpec], *, fill: bool = False) -> Array | None:
    """The true classes in a file or folder of samples, int64 [labels]; None where no file has any.

    Args:
        fill: as for :func:`load_samples`; the labels of the rows that fill the last batch are repeated as well.

    Raises:
        UsageError: EDG006 for a file that cannot be read; EDG037 where only some files of a folder have labels.
    """
    files = _files(path)
    found: list[Array | None] = []
    for file in files:
        held = _labels_of(_arrays(file), inputs)
        found.append(None if held is None else _filled(held.whole(), inputs) if fill else held.whole())
    labels = [item.astype(np.int64).reshape(-1) for item in found if item is not None]
    if labels and len(labels) < len(found):
        missing = files[next(position for position, item in enumerate(found) if item is None)]
        raise UsageError("EDG037", "not every file of the data has labels", where=f"file '{missing.name}' has none")
    return np.concatenate(labels) if labels else None


def stand_in(path: str | Path, inputs: Sequence[TensorSpec]) -> str | None:
    """The name of the only array of a file that is taken for the only input although it has another name.

    None where names agree, or the array has none of its own (``.npy``, ``numpy.savez(file, array)``).

    Raises:
        UsageError: EDG006 for a file that cannot be read.
    """
    names = [name for name in stored_arrays(Path(path)) if name not in ("", "arr_0")]
    return names[0] if len(names) == 1 and len(inputs) == 1 and names[0] != inputs[0].name else None


def renamed(path: str | Path, inputs: Sequence[TensorSpec]) -> str | None:
    """A note on the first file whose only array is a :func:`stand_in`."""
    for file in _files(path):
        name = stand_in(file, inputs)
        if name is not None:
            return f"'{name}' of '{file.name}' is taken for '{inputs[0].name}', the only input"
    return None


def _files(path: str | Path) -> list[Path]:
    root = Path(path)
    if not root.is_dir():
        return [root]
    files = sorted(item for item in root.iterdir() if item.suffix in (".npz", ".npy"))
    if not files:
        raise UsageError("EDG006", f"no .npy or .npz file in '{root}'", help=HELP)
    return files


def _arrays(file: Path) -> dict[str, StoredArray]:
    arrays = stored_arrays(file)
    if not arrays:
        raise UsageError("EDG005", f"'{file.name}' holds no arrays", help=HELP)
    return arrays


def _labels_of(arrays: Mapping[str, StoredArray], inputs: Sequence[TensorSpec]) -> StoredArray | None:
    names = {spec.name for spec in inputs}
    for name in LABELS:
        if name in arrays and name not in names and arrays[name].dtype.kind in "iu" and len(arrays) > 1:
            return arrays[name]
    return None


def _by_input(file: Path, inputs: Sequence[TensorSpec]) -> dict[str, StoredArray]:
    """The arrays of a file by the names of the inputs; labels are left out."""
    arrays = _arrays(file)
    labels = _labels_of(arrays, inputs)
    if labels is not None:
        arrays = {name: array for name, array in arrays.items() if array is not labels}
    names = [spec.name for spec in inputs]
    if len(arrays) == 1 and len(names) == 1 and names[0] not in arrays:
        (array,) = arrays.values()
        return {names[0]: array}
    if "" in arrays:
        raise UsageError(
            "EDG005",
            f"'{file.name}' holds one array, the model has {len(names)} inputs",
            where=f"inputs: {', '.join(names)}",
            help="use an .npz file with one array per input",
        )
    for name in arrays:
        if name not in names:
            raise UsageError(
                "EDG002", f"'{file.name}' holds '{name}', which is no input", where=f"inputs: {', '.join(names)}"
            )
    for name in names:
        if name not in arrays:
            raise UsageError("EDG005", f"'{file.name}' holds no array for the input '{name}'")
    return {name: arrays[name] for name in names}


def _filled(labels: Array, inputs: Sequence[TensorSpec]) -> Array:
    """The labels of rows and of those that fill the last batch."""
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else None
    if not isinstance(batch, int) or batch < 2 or labels.ndim < 1 or not len(labels) % batch:
        return labels
    return labels[np.arange(-(-len(labels) // batch) * batch) % len(labels)]


@dataclass(frozen=True)
class _Split:
    """How the arrays of a file become samples.

    Attributes:
        count: how many samples there are.
        batches: input name to the rows that a sample takes of its array; 0 where the array is one sample.  A sample of
            an array that has a dimension in front of the input's own is its row, without that dimension.
    """

    arrays: Mapping[str, StoredArray]
    count: int
    batches: Mapping[str, int]
    single: frozenset[str]

    def samples(self) -> Iterator[Feeds]:
        """The samples, one at a time."""
        if not any(self.batches.values()):
            yield {name: array.whole() for name, array in self.arrays.items()}
            return
        parts = {name: self._parts(name) for name in self.arrays}
        for _ in range(self.count):
            yield {name: next(part) for name, part in parts.items()}

    def _parts(self, name: str) -> Iterator[Array]:
        batch, first = self.batches[name], None
        for part in self.arrays[name].rows(batch):
            if name in self.single:
                yield np.asarray(part[0])
                continue
            first = part if first is None else first
            if len(part) < batch:  # the first rows of the file follow its last ones
                part = np.concatenate([part, first])
                part = part[np.arange(batch) % len(part)] if len(part) < batch else part[:batch]
            yield part


def _split(file: Path, inputs: Sequence[TensorSpec], fill: bool) -> _Split:
    arrays = _by_input(file, inputs)
    counts: dict[str, int] = {}
    batches = dict.fromkeys(arrays, 0)
    single: set[str] = set()
    rows: set[int] = set()
    for spec in inputs:
        array = arrays[spec.name]
        _require_dtype(file, spec, array)
        if _fits(array.shape, spec.shape):
            continue
        if array.ndim == len(spec.shape) + 1 and _fits(array.shape[1:], spec.shape):
            counts[spec.name], batches[spec.name] = array.shape[0], 1
            single.add(spec.name)
        elif (batch := _batch(array.shape, spec.shape, fill)) is not None:
            counts[spec.name], batches[spec.name] = -(-array.shape[0] // batch), batch
            rows.add(array.shape[0])
        else:
            raise UsageError(
                "EDG005",
                f"the array for '{spec.name}' has shape {_text(array.shape)}, the input has {_text(spec.shape)}",
                where=f"file '{file.name}'",
                help=f"give {_text(spec.shape)}, or samples of it along the first dimension or one in front of it",
            )
    if not counts:
        return _Split(arrays, 1, batches, frozenset())
    if len(counts) < len(arrays) or len(set(counts.values())) > 1 or len(rows) > 1:
        described = ", ".join(f"{name}: {_text(array.shape)}" for name, array in arrays.items())
        raise UsageError(
            "EDG005", "the arrays do not hold the same number of samples", where=f"file '{file.name}'", why=described
        )
    count = next(iter(counts.values()))
    if not count:
        raise UsageError("EDG005", "the arrays hold no samples", where=f"file '{file.name}'")
    return _Split(arrays, count, batches, frozenset(single))


def _batch(shape: Shape, wanted: Shape, fill: bool) -> int | None:
    """The rows of [N * batch, ...] that make an input [batch, ...]; None if the shape is nothing of the kind.

    Args:
        fill: whether rows may be left over.
    """
    batch = wanted[0] if wanted else None
    if not isinstance(batch, int) or not batch or len(shape) != len(wanted):
        return None
    if (not isinstance(shape[0], int) or (shape[0] % batch and not fill)) or not _fits(shape[1:], wanted[1:]):
        return None
    return batch


def _require_dtype(file: Path, spec: TensorSpec, array: StoredArray) -> None:
    if array.dtype == spec.dtype:
        return
    if spec.dtype == object and array.dtype.kind in "US":
        return
    help = f"convert it with array.astype('{spec.dtype}')"
    if array.dtype.kind == "f" and spec.dtype.kind in "iu":
        help = "give integers; where the input is quantized these are round(real / scale) + zero point, clipped"
    raise UsageError(
        "EDG005",
        f"the array for '{spec.name}' is {array.dtype}, the input is {spec.dtype}",
        where=f"file '{file.name}'",
        help=help,
        details={"dtype": str(array.dtype)},
    )


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(not isinstance(w, int) or w == s for s, w in zip(shape, wanted))


def _text(shape: Shape) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
