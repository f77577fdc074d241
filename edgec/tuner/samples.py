"""What configurations are timed on, and how much of the quality each artifact loses.

The samples are those of ``--data``, of ``--calibration``, or seeded random ones, in the form of the original model at
the default batch.  For another batch they are stacked; for the artifact they are put into its layout and its integers,
as its manifest says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import numpy as np

from edgec.converter.calibration.data import CalibrationData, specs
from edgec.converter.calibration.images import ImageOptions
from edgec.converter.importers import open_source
from edgec.converter.importers.imported import ImportedModel
from edgec.converter.verification.data import Feeds, load_labels, load_samples
from edgec.converter.verification.inputs import Generator
from edgec.converter.verification.reference import ReferenceModel
from edgec.errors import UsageError
from edgec.ir.quantization import Affine
from edgec.ir.types import Array, DataType
from edgec.runtime.isolation import Workers
from edgec.tuner.conversions import Conversion, Source

TIMED: Final = 4
"""Samples that runs take in turns."""
JUDGED: Final = 256
"""Samples by which the loss of quality is judged, at most; of random ones as many as are timed."""


@dataclass
class Samples:
    """The samples of a study.

    Attributes:
        imported: the original model at the default batch.
        feeds: its inputs, in the form of the original model.
        is_random: whether they are made up.
        labels: the true classes of each, where the data has any.
    """

    imported: ImportedModel
    feeds: list[Feeds]
    is_random: bool
    labels: list[Array] | None = None
    _expected: list[dict[str, Array]] | None = None

    @property
    def what_is_lost(self) -> str:
        """What the loss of quality is a share of, for people."""
        count = f"{len(self.feeds)} {'random samples' if self.is_random else 'samples'}"
        if self.labels is not None:
            return f"the loss is that of the top-1 accuracy, on {count} with labels"
        return f"the loss is the relative L2 of the worst output, on {count}; with labels in --data it is accuracy"

    def stacked(self, batch: int | None, default: int | None, count: int = TIMED) -> list[Feeds]:
        """The samples at another batch: the rows of all samples in their order, round and round.

        Args:
            count: how many.
        """
        if batch is None or default is None or batch == default:
            return self.feeds[:count]
        return list(_restacked(self.feeds, batch, count))

    def judged(self, batch: int | None, default: int | None) -> tuple[list[Feeds], list[Feeds], list[Array] | None]:
        """Samples at a batch, what the original model makes of them, and their labels; every row at least once."""
        expected = self.expected()
        if batch is None or default is None or batch == default:
            return self.feeds, expected, self.labels
        count = -(-len(self.feeds) * default // batch)
        labels = None
        if self.labels is not None:
            labels = [item["y"] for item in _restacked([{"y": each} for each in self.labels], batch, count)]
        return list(_restacked(self.feeds, batch, count)), list(_restacked(expected, batch, count)), labels

    def expected(self) -> list[dict[str, Array]]:
        """What the original model makes of the samples, in its own runtime; computed once.

        Raises:
            ModelError: EDG113 when it cannot be run.
        """
        if self._expected is None:
            with Workers() as host:
                model = ReferenceModel(host, self.imported.original)
                self._expected = [model.run(feeds) for feeds in self.feeds]
        return self._expected


def _restacked(samples: Sequence[Mapping[str, Array]], batch: int, count: int) -> Iterator[dict[str, Array]]:
    rows = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    for start in range(0, count * batch, batch):
        chosen = np.arange(start, start + batch)
        yield {name: np.ascontiguousarray(array[chosen % len(array)]) for name, array in rows.items()}


def make_samples(source: Source) -> Samples:
    """Read the model, and read or draw the samples.

    Raises:
        EdgecError: as for a conversion: EDG1xx for the model, EDG005, EDG006 and EDG037 for the data.
    """
    options = source.options
    reading = replace(options.source, input_shapes=source.shapes(source.batch), batch=None)
    imported = open_source(source.model, reading)
    inputs = specs(imported.model)
    data, bounds, calibration = options.data, dict(options.bounds), options.calibration
    if data is None and calibration is not None:
        given = CalibrationData(calibration, options.seed, bounds, options.images or ImageOptions())
        if not given.is_random:
            return Samples(imported, list(islice(given.samples(imported.model), JUDGED)), False)
    if data is None:
        generator = Generator(inputs, imported.model, bounds, options.seed)
        return Samples(imported, [generator.draw(number) for number in range(TIMED)], True)
    feeds: list[Feeds] = []
    for sample in load_samples(data, inputs):
        feeds.append(sample)
        if len(feeds) == JUDGED:
            break
    if not feeds:
        raise UsageError("EDG005", f"'{data}' holds no samples")
    found = load_labels(data, inputs)
    if found is None:
        return Samples(imported, feeds, False)
    total = sum(1 for _ in load_samples(data, inputs))
    if len(found) % total:
        raise UsageError("EDG037", f"'{data}' holds {len(found)} labels for {total} samples")
    each = len(found) // total
    labels = [found[place * each : (place + 1) * each] for place in range(len(feeds))]
    return Samples(imported, feeds, False, labels)


def as_artifact(feeds: Feeds, conversion: Conversion) -> dict[str, Array]:
    """A sample in the artifact's layout and element types."""
    layouts, held = _forms(conversion.manifest)
    found = {}
    for name, array in feeds.items():
        given = held[name].quantized(array) if name in held else array
        found[name] = np.ascontiguousarray(np.transpose(given, layouts[name])) if name in layouts else given
    return found


def as_model(results: Mapping[str, Array], conversion: Conversion) -> dict[str, Array]:
    """The artifact's outputs in the form of the original model's."""
    layouts, held = _forms(conversion.manifest)
    found = {}
    for name, array in results.items():
        real = held[name].real(array) if name in held else array
        if name in layouts and real.ndim == len(layouts[name]):
            real = np.transpose(real, [int(axis) for axis in np.argsort(layouts[name])])
        found[name] = real
    return found


def _forms(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Sequence[int]], dict[str, Affine]]:
    listed = manifest.get("quantization", {}).get("quantized_io", {})
    held = {
        name: Affine(DataType[item["dtype"].upper()], item["scale"], item["zero_point"])
        for name, item in listed.items()
    }
    return manifest.get("layouts", {}), held
