"""The samples to calibrate with: files, a Python callable, or seeded random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.converter import manifest as manifests
from edgec.converter.calibration.images import SUFFIXES, ImageOptions, image_files, load_images
from edgec.converter.verification.data import Feeds, count_samples, load_samples, locate_sample, renamed
from edgec.errors import EdgecError, UsageError
from edgec.ir.graph import Model
from edgec.ir.types import Array, DataType
from edgec.runtime.session import TensorSpec

RANDOM: Final = "random"
RANDOM_SAMPLES: Final = 16
HELP: Final = "give a .npz or .npy file, or a folder of them or of images; 16 to 100 typical inputs are enough"
ARRAYS: Final = (".npz", ".npy")
NAMED: Final = 3
"""How many files a note names."""

Samples = Callable[[], Iterable[Mapping[str, Array]]]
"""Gives the samples anew every time it is called: one array per input, by name."""


@dataclass(frozen=True)
class CalibrationData:
    """Where samples come from.

    Attributes:
        source: a ``.npz`` or ``.npy`` file or a folder of them (see :mod:`edgec.converter.verification.data`), a folder
            of images, a Python callable that gives an iterable of samples, or ``random`` for seeded random numbers:
            enough to try whether a model can be quantized, not to use the result.
        seed, ranges: of the random numbers.
        images: how images become inputs.
    """

    source: str | Path | Samples
    seed: int = 0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    images: ImageOptions = field(default_factory=ImageOptions)
    _given: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    """How many samples a callable gave each time."""

    def __post_init__(self) -> None:
        if not isinstance(self.source, (str, Path)) and not callable(self.source):
            raise UsageError(
                "EDG001",
                f"calibration is a {type(self.source).__name__}",
                why="it has to be a path, 'random', or a function that returns the samples",
                help="calibration=lambda: samples",
            )

    @property
    def is_random(self) -> bool:
        """Whether the samples are made up."""
        return self.source == RANDOM

    def samples(self, model: Model) -> Iterator[Feeds]:
        """The samples, one at a time.

        Raises:
            UsageError: EDG006 when there is no file or it cannot be read, EDG005 when an array does not fit the input,
                EDG002 when it belongs to none, EDG032 where a callable gives samples only once.
        """
        inputs = specs(model)
        if callable(self.source):
            yield from self._called(self.source, inputs)
        elif self.is_random:
            from edgec.converter.verification.inputs import Generator

            generator = Generator(inputs, model, self.ranges, self.seed)
            for number in range(RANDOM_SAMPLES):
                yield generator.draw(number)
        else:
            path = self._path()
            with _of_calibration():
                if image_files(path):
                    yield from load_images(path, inputs, self.images)
                else:
                    yield from load_samples(path, inputs, fill=True)

    def count(self, model: Model) -> int | None:
        """How many samples there are, where that is known before they are read: not of a callable.

        Raises:
            UsageError: as :meth:`samples`, for what the headers of the files show.
        """
        if callable(self.source):
            return None
        if self.is_random:
            return RANDOM_SAMPLES
        path, inputs = self._path(), specs(model)
        files = len(image_files(path))
        if not files:
            with _of_calibration():
                return count_samples(path, inputs, fill=True)
        return -(-files // _batch(inputs))

    def left_out(self) -> list[str]:
        """Names of what the folder holds beside its samples."""
        if callable(self.source) or self.is_random:
            return []
        path = self._path()
        if not path.is_dir():
            return []
        suffixes = SUFFIXES if image_files(path) else ARRAYS
        return sorted(item.name for item in path.iterdir() if item.suffix.lower() not in suffixes)

    def place(self, model: Model, number: int) -> str:
        """Where a sample comes from, in words; the first one is number 0."""
        if callable(self.source) or self.is_random:
            return f"sample {number}, counted from 0"
        images = image_files(self._path())
        if not images:
            return locate_sample(self._path(), specs(model), number, fill=True)
        batch = _batch(specs(model))
        last = f" to '{images[min(batch * (number + 1), len(images)) - 1].name}'" if batch > 1 else ""
        return f"file '{images[batch * number].name}'{last}"

    def rows_of_one(self, model: Model) -> int:
        """How many inputs the first sample holds, where the model leaves the batch open; else 1."""
        opened = [spec.name for spec in specs(model) if spec.shape and not isinstance(spec.shape[0], int)]
        if callable(self.source) or not opened:
            return 1
        first = next(self.samples(model))
        return max(len(first[name]) for name in opened)

    def renamed(self, model: Model) -> str | None:
        """A note on arrays that are taken for the only input although they have another name."""
        if callable(self.source) or self.is_random or image_files(self._path()):
            return None
        return renamed(self._path(), specs(model))

    def _called(self, source: Samples, inputs: Sequence[TensorSpec]) -> Iterator[Feeds]:
        found = source()
        if not isinstance(found, Iterable):
            raise UsageError(
                "EDG005",
                f"the calibration function returned a {type(found).__name__}",
                help="return an iterable of samples, each {input name: array}",
            )
        number = 0
        for sample in found:
            number += 1
            yield _fitting(sample, inputs)
        if not number and any(self._given):
            raise UsageError(
                "EDG032",
                "the calibration function gave no samples when it was called again",
                why="it is called once for every pass over the data, and returned the same used-up iterator",
                help="return a list, or make a new iterator every time",
            )
        self._given.append(number)

    def _path(self) -> Path:
        """The file or folder; EDG006 where there is none, or it is neither arrays nor a folder."""
        path = Path(str(self.source))
        if not path.exists():
            raise UsageError("EDG006", f"there is no file or folder '{path}'", where="--calibration", help=HELP)
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            raise UsageError("EDG006", f"'{path.name}' is one image", where="--calibration", help=HELP)
        if path.is_dir():
            images, arrays = image_files(path), sorted(path.glob("*.np[yz]"))
            if not images and not arrays:
                deeper = any(item.is_dir() for item in path.iterdir())
                raise UsageError(
                    "EDG006",
                    f"the folder '{path}' holds no samples",
                    where="--calibration",
                    why="the folders in it are not looked into" if deeper else None,
                    help=HELP,
                )
            if images and arrays:
                raise UsageError(
                    "EDG006",
                    f"the folder '{path}' holds both images and arrays",
                    where=f"--calibration; '{images[0].name}', '{arrays[0].name}'",
                    help="put either into a folder of its own",
                )
        return path

    def origin(self) -> Any:
        """What the manifest says of it: names and hashes of files, ``random`` with its seed, or ``callable``.

        Raises:
            UsageError: EDG006 where there is no such file or folder.
        """
        if callable(self.source):
            return {"kind": "callable"}
        if self.is_random:
            return {"kind": RANDOM, "seed": self.seed}
        path = self._path()
        images = image_files(path)
        if images:
            return {
                "kind": "images",
                "files": [
                    {"name": item.name, "sha256": manifests.sha256(item), "size": item.stat().st_size}
                    for item in images
                ],
                "preprocessing": self.images.to_json(),
            }
        return {"kind": "files", "files": manifests.data_entries(path)}


def _batch(inputs: Sequence[TensorSpec]) -> int:
    """How many images a sample takes."""
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else 1
    return batch if isinstance(batch, int) and batch else 1


@contextmanager
def _of_calibration() -> Iterator[None]:
    """Errors say which option the data came from."""
    try:
        yield
    except EdgecError as error:
        error.where = f"--calibration; {error.where}" if error.where else "--calibration"
        raise


def specs(model: Model) -> list[TensorSpec]:
    """The inputs of a model."""
    return [
        TensorSpec(
            value.name, np.dtype(object) if value.dtype is DataType.STRING else value.dtype.numpy, value.shape or ()
        )
        for value in model.graph.inputs
    ]


def _fitting(sample: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> Feeds:
    """The arrays of a callable, checked as those of files are."""
    if not isinstance(sample, Mapping):
        raise UsageError(
            "EDG005",
            f"the calibration function gave a {type(sample).__name__} as a sample",
            help="a sample is {input name: array}",
        )
    known = [spec.name for spec in inputs]
    for name in sample:
        if name not in known:
            raise UsageError(
                "EDG002", f"a calibration sample holds '{name}', which is no input", where=f"inputs: {', '.join(known)}"
            )
    feeds: Feeds = {}
    for spec in inputs:
        if spec.name not in sample:
            raise UsageError("EDG005", f"a calibration sample holds no array for the input '{spec.name}'")
        array = np.asarray(sample[spec.name])
        fits = len(array.shape) == len(spec.shape) and all(
            not isinstance(wanted, int) or wanted == found for wanted, found in zip(spec.shape, array.shape)
        )
        if array.dtype != spec.dtype or not fits:
            raise UsageError(
                "EDG005",
                f"a calibration sample holds {array.dtype}{list(array.shape)} for '{spec.name}', "
                f"the input is {spec.dtype}{list(spec.shape)}",
                help=f"give numpy.asarray(..., '{spec.dtype}') of that shape",
            )
        feeds[spec.name] = array
    return feeds
