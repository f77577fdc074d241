"""The samples to calibrate with: files, a Python callable, or seeded random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.converter import manifest as manifests
from edgec.converter.calibration.images import SUFFIXES, ImageOptions, image_files, load_images
from edgec.converter.verification.data import Feeds, load_samples
from edgec.errors import EdgecError, UsageError
from edgec.ir.graph import Model
from edgec.ir.types import Array, DataType
from edgec.runtime.session import TensorSpec

RANDOM: Final = "random"
RANDOM_SAMPLES: Final = 16
HELP: Final = "give a .npz or .npy file, or a folder of them or of images; 16 to 100 typical inputs are enough"

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

    @property
    def is_random(self) -> bool:
        """Whether the samples are made up."""
        return self.source == RANDOM

    def samples(self, model: Model) -> Iterator[Feeds]:
        """The samples, one at a time.

        Raises:
            UsageError: EDG006 when there is no file or it cannot be read, EDG005 when an array does not fit the input,
                EDG002 when it belongs to none.
        """
        inputs = specs(model)
        if callable(self.source):
            for sample in self.source():
                yield _fitting(sample, inputs)
        elif self.is_random:
            from edgec.converter.verification.inputs import Generator

            generator = Generator(inputs, model, self.ranges, self.seed)
            for number in range(RANDOM_SAMPLES):
                yield generator.draw(number)
        else:
            path = self._path()
            try:
                if image_files(path):
                    yield from load_images(path, inputs, self.images)
                else:
                    yield from load_samples(path, inputs, fill=True)
            except EdgecError as error:
                error.where = f"--calibration; {error.where}" if error.where else "--calibration"
                raise

    def _path(self) -> Path:
        """The file or folder; EDG006 where there is none, or it is neither arrays nor a folder."""
        path = Path(str(self.source))
        if not path.exists():
            raise UsageError("EDG006", f"there is no file or folder '{path}'", where="--calibration", help=HELP)
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            raise UsageError("EDG006", f"'{path.name}' is one image", where="--calibration", help=HELP)
        if path.is_dir() and not image_files(path) and not any(path.glob("*.np[yz]")):
            raise UsageError("EDG006", f"the folder '{path}' holds no samples", where="--calibration", help=HELP)
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
            )
        feeds[spec.name] = array
    return feeds
