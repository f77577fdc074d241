"""Samples that the user gives: ``.npz``, ``.npy`` or a folder of them.

``.npz``: one array per input, under the input's name (or a single array for a model with one input).  ``.npy``: the
array of the only input.  A folder: its files in the order of their names, each one as above.  Every array may have one
leading dimension of samples in addition to the input's own; it is iterated over.  Pickled arrays are never loaded.

An ``.npz`` may hold labels too: an array of integers called ``labels``, ``label`` or ``y`` that is no input.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgec.errors import UsageError
from edgec.ir.types import Array, Shape
from edgec.runtime.session import TensorSpec

Feeds = dict[str, Array]
HELP = "write it with numpy.savez(path, **{input name: array})"
LABELS = ("labels", "label", "y")
"""Names of an array of true classes."""


def load_samples(path: str | Path, inputs: Sequence[TensorSpec], *, fill: bool = False) -> Iterator[Feeds]:
    """The samples of a file or folder, each an array per input of its declared shape and dtype.

    Args:
        fill: whether the rows of a file that are too few for the last batch are filled up with its first ones.

    Raises:
        UsageError: EDG006 for a file that cannot be read, EDG005 for arrays that do not fit, EDG002 for an array of an
            input that the model does not have.
    """
    root = Path(path)
    if root.is_dir():
        files = sorted(item for item in root.iterdir() if item.suffix in (".npz", ".npy"))
        if not files:
            raise UsageError("EDG006", f"no .npy or .npz file in '{root}'", help=HELP)
    else:
        files = [root]
    for file in files:
        yield from _split(file, _read(file, inputs), inputs, fill)


def load_labels(path: str | Path, inputs: Sequence[TensorSpec], *, fill: bool = False) -> Array | None:
    """The true classes in a file or folder of samples, int64 [labels]; None where no file has any.

    Args:
        fill: as for :func:`load_samples`; the labels of the rows that fill the last batch are repeated as well.

    Raises:
        UsageError: EDG006 for a file that cannot be read; EDG037 where only some files of a folder have labels.
    """
    root = Path(path)
    files = sorted(item for item in root.iterdir() if item.suffix in (".npz", ".npy")) if root.is_dir() else [root]
    found = [_labels_of(_load(file), inputs) for file in files]
    if fill:
        found = [None if item is None else _filled(item, inputs) for item in found]
    labels = [item.astype(np.int64).reshape(-1) for item in found if item is not None]
    if labels and len(labels) < len(found):
        missing = files[next(position for position, item in enumerate(found) if item is None)]
        raise UsageError("EDG037", "not every file of the data has labels", where=f"file '{missing.name}' has none")
    return np.concatenate(labels) if labels else None


def _labels_of(arrays: Feeds, inputs: Sequence[TensorSpec]) -> Array | None:
    names = {spec.name for spec in inputs}
    for name in LABELS:
        if name in arrays and name not in names and arrays[name].dtype.kind in "iu" and len(arrays) > 1:
            return arrays[name]
    return None


def _load(file: Path) -> Feeds:
    try:
        loaded = np.load(file, allow_pickle=False, mmap_mode="r" if file.suffix == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            arrays = {"": np.asarray(loaded)}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise UsageError("EDG006", f"there is no file '{file}'", help="check --data") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UsageError(
            "EDG006",
            f"'{file.name}' is no .npy or .npz file of plain arrays",
            why=_reason(error),
            help=HELP,
        ) from error
    if not arrays:
        raise UsageError("EDG005", f"'{file.name}' holds no arrays", help=HELP)
    return arrays


def _reason(error: Exception) -> str:
    """Why a file could not be read; NumPy's own words for anything unknown recommend loading it unsafely."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it holds something else, or Python objects, which are never loaded" if "pickle" in text else text


def _read(file: Path, inputs: Sequence[TensorSpec]) -> Feeds:
    arrays = _load(file)
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


def _split(file: Path, arrays: Feeds, inputs: Sequence[TensorSpec], fill: bool) -> Iterator[Feeds]:
    counts: dict[str, int] = {}
    rows: set[int] = set()
    last: Feeds = {}
    plain = 0
    for spec in inputs:
        array = arrays[spec.name]
        _require_dtype(file, spec, array)
        if _fits(array.shape, spec.shape):
            plain += 1
        elif array.ndim == len(spec.shape) + 1 and _fits(array.shape[1:], spec.shape):
            counts[spec.name] = array.shape[0]
        elif (stacked := _stack(array, spec.shape, fill)) is not None:
            rows.add(len(array))
            if array.shape[0] % stacked.shape[1]:
                start = stacked.shape[0] * stacked.shape[1]
                last[spec.name] = array[np.arange(start, start + stacked.shape[1]) % len(array)]
            arrays[spec.name] = stacked
            counts[spec.name] = stacked.shape[0]
        else:
            raise UsageError(
                "EDG005",
                f"the array for '{spec.name}' has shape {_text(array.shape)}, the input has {_text(spec.shape)}",
                where=f"file '{file.name}'",
                help=f"give {_text(spec.shape)}, or samples of it along the first dimension or one in front of it",
            )
    if not counts:
        yield {name: np.asarray(array) for name, array in arrays.items()}
        return
    if plain or len(set(counts.values())) > 1 or len(rows) > 1:
        described = ", ".join(f"{name}: {_text(array.shape)}" for name, array in arrays.items())
        raise UsageError(
            "EDG005", "the arrays do not hold the same number of samples", where=f"file '{file.name}'", why=described
        )
    count = next(iter(counts.values()))
    if not count and not last:
        raise UsageError("EDG005", "the arrays hold no samples", where=f"file '{file.name}'")
    for position in range(count):
        yield {name: np.asarray(array[position]) for name, array in arrays.items()}
    if last:
        yield last


def _stack(array: Array, wanted: Shape, fill: bool) -> Array | None:
    """[N * batch, ...] as samples [N, batch, ...] of an input [batch, ...]; None if it is nothing of the kind.

    Args:
        fill: whether rows may be left over; they are not in the result.
    """
    batch = wanted[0] if wanted else None
    if not isinstance(batch, int) or not batch or array.ndim != len(wanted):
        return None
    if (array.shape[0] % batch and not fill) or not _fits(array.shape[1:], wanted[1:]):
        return None
    whole = array.shape[0] // batch
    return array[: whole * batch].reshape(whole, batch, *array.shape[1:])


def _require_dtype(file: Path, spec: TensorSpec, array: Array) -> None:
    if array.dtype == spec.dtype:
        return
    if spec.dtype == object and array.dtype.kind in "US":
        return
    raise UsageError(
        "EDG005",
        f"the array for '{spec.name}' is {array.dtype}, the input is {spec.dtype}",
        where=f"file '{file.name}'",
        help=f"convert it with array.astype('{spec.dtype}')",
    )


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(not isinstance(w, int) or w == s for s, w in zip(shape, wanted))


def _text(shape: Shape) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
