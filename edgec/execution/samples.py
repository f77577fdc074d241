"""What an artifact is timed on: samples of the user's or random ones, as many per run as the batch says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.errors import UnsupportedError, UsageError
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec

Sample = Mapping[str, Array]


class BatchError(UnsupportedError):
    """The artifact cannot take the batch; EDG202 or EDG703."""


@dataclass(frozen=True)
class Samples:
    """Makes the arrays of one run.

    Attributes:
        batch: samples per run; None for what the artifact declares, or 1 where it leaves that open.
        shapes: input name to extents, for inputs that leave more open than the batch.
        given: samples to use, without or with a leading extent of 1; None for random ones.
        seed: of the random ones.
        wanted: input name to the extents that the user asked for; those that the artifact fixes must be the same.
    """

    batch: int | None = None
    shapes: Mapping[str, Sequence[int | str | None]] | None = None
    given: Sequence[Sample] | None = None
    seed: int = 0
    wanted: Mapping[str, Sequence[int]] | None = None

    def make(self, inputs: Sequence[TensorSpec]) -> list[dict[str, Array]]:
        """One or more feeds for a session with these inputs.

        Raises:
            BatchError: EDG703 when the artifact's batch is another; EDG202 for an extent that nobody gives.
            UsageError: EDG005 for a shape that was asked for and is not the artifact's.
        """
        shapes = {spec.name: self.shape(spec) for spec in inputs}
        if self.given is None:
            random = np.random.default_rng(self.seed)
            return [{spec.name: _random(spec.dtype, shapes[spec.name], random) for spec in inputs}]
        return _stacked(self.given, inputs, shapes)

    def shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """The extents of an input in a run.

        Raises:
            BatchError: see :meth:`make`.
        """
        known = (self.shapes or {}).get(spec.name, ())
        if self.wanted is not None and spec.name in self.wanted:
            known = self.wanted[spec.name]
            if len(known) != len(spec.shape) or any(
                isinstance(extent, int) and extent != given for extent, given in zip(spec.shape, known)
            ):
                raise UsageError(
                    "EDG005",
                    f"the input '{spec.name}' cannot have the shape {','.join(map(str, known))}",
                    why=f"the artifact's is {','.join(_text(dim) for dim in spec.shape) or 'that of a scalar'}",
                    help="convert again with --input-shape",
                )
        found: list[int] = []
        for axis, extent in enumerate(spec.shape):
            if axis == 0 and self.batch is not None:
                if isinstance(extent, int) and extent != self.batch:
                    raise BatchError(
                        "EDG703",
                        f"the batch of '{spec.name}' is {extent}, not {self.batch}",
                        help=f"convert again with --batch {self.batch}, or let `edgec tune` do it",
                    )
                found.append(self.batch)
            elif isinstance(extent, int):
                found.append(extent)
            elif axis < len(known) and isinstance(known[axis], int):
                found.append(int(known[axis] or 0))
            elif axis == 0:
                found.append(1)
            else:
                raise BatchError(
                    "EDG202",
                    f"extent {axis} of '{spec.name}' is open",
                    help=f"--input-shape {spec.name}:{','.join(_text(dim) for dim in spec.shape)}",
                )
        return tuple(found)


def _stacked(
    given: Sequence[Sample], inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]
) -> list[dict[str, Array]]:
    """Runs of as many samples as the batch holds; the samples begin anew where they do not fill the last run."""
    rows = {spec.name: _rows(spec, shapes[spec.name], given) for spec in inputs}
    sizes = {name: shapes[name][0] if isinstance(items, list) else 0 for name, items in rows.items()}
    batch = max(sizes.values(), default=0) or 1
    count = max((len(items) for items in rows.values() if isinstance(items, list)), default=1)
    runs = max(-(-count // batch), 1)
    feeds = []
    for run in range(min(runs, 64)):
        feed: dict[str, Array] = {}
        for name, items in rows.items():
            if isinstance(items, list):
                feed[name] = np.concatenate([items[(run * batch + at) % len(items)] for at in range(batch)])
            else:
                feed[name] = items
        feeds.append(feed)
    return feeds


def _rows(spec: TensorSpec, shape: tuple[int, ...], given: Sequence[Sample]) -> list[Array] | Array:
    """Arrays with a leading extent of 1, one per sample; of an input without a batch the first sample's array."""
    arrays = [np.asarray(sample[spec.name]) for sample in given]
    if not shape or arrays[0].ndim == 0:
        return arrays[0]
    if arrays[0].ndim == len(shape) - 1:
        return [array[np.newaxis] for array in arrays]
    return [array[index : index + 1] for array in arrays for index in range(array.shape[0])]


def _random(dtype: np.dtype[Any], shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Floats from 0 to 1, bytes of any value, other integers 0 or 1 (they may be indices), empty strings."""
    if dtype.kind == "O":
        return np.full(shape, "", dtype=object)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        if dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        return random.integers(0, 2, shape).astype(dtype)
    return np.asarray(random.random(shape)).astype(dtype)


def _text(extent: int | str | None) -> str:
    return str(extent) if isinstance(extent, int) else "N"
