"""Samples into one batch and the outputs of a batch back into samples."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.errors import UnsupportedError
from edgec.ir.types import Array
from edgec.runtime.batching.requests import Layout, Request, Result, Signature
from edgec.runtime.memory import Pool

KEPT_SIGNATURES = 8
"""For how many shapes of samples batch buffers are kept, most recently used ones first."""


class Assembler:
    """Batch buffers of one worker, kept from batch to batch; one thread at a time.

    Args:
        layout: what the session wants.
        sizes: batch sizes that may run, ascending; a batch is padded to the next of them. Empty for any size.
        capacity: most samples of a batch.
        pool: where the buffers come from, None for NumPy.
    """

    def __init__(self, layout: Layout, sizes: Sequence[int], capacity: int, pool: Pool | None):
        self._layout, self._sizes, self._pool = layout, sizes, pool
        self._shared = dict(layout.shared)
        self._capacity = max([capacity, *sizes])
        self._buffers: OrderedDict[Signature, tuple[Array, ...]] = OrderedDict()

    def size(self, count: int) -> int:
        """The batch that runs for so many samples."""
        return next((size for size in self._sizes if size >= count), count)

    def stack(self, requests: Sequence[Request]) -> dict[str, Array]:
        """The feeds of one run; padding repeats the last sample, so that it cannot be worse than a real one.

        Raises:
            PoolExhausted: EDG710 when the pool has no room for the buffers.
        """
        count = len(requests)
        size = self.size(count)
        if size == 1 and self._pool is None:
            alone = zip(self._layout.inputs, requests[0].arrays)
            return {spec.name: np.expand_dims(array, self._axis(spec.name)) for spec, array in alone} | self._shared
        feeds = {}
        for position, buffer in enumerate(self._buffers_of(requests[0].signature)):
            for row, request in enumerate(requests):
                buffer[row] = request.arrays[position]
            buffer[count:size] = requests[-1].arrays[position]
            name = self._layout.inputs[position].name
            axis = self._axis(name)
            feeds[name] = np.ascontiguousarray(np.moveaxis(buffer[:size], 0, axis)) if axis else buffer[:size]
        return feeds | self._shared

    def split(self, outputs: dict[str, Array], count: int) -> list[Result]:
        """The outputs of each sample. Each has memory of its own: one that is kept does not keep the batch.

        Raises:
            UnsupportedError: EDG724 for an output that has no row per sample.
        """
        size = self.size(count)
        rows = {}
        for name, array in outputs.items():
            axis = self._axis(name)
            if array.ndim <= axis or array.shape[axis] != size:
                raise UnsupportedError(
                    "EDG724",
                    f"the output '{name}' cannot be split into samples",
                    why=f"its shape is {array.shape} for a batch of {size}, which was looked for at axis {axis}",
                    help="say with `axes` where its batch is, or run the model without batching",
                )
            rows[name] = np.moveaxis(array, axis, 0) if axis else array
        if size == 1:
            return [{name: array[0] for name, array in rows.items()}]
        return [{name: array[row].copy() for name, array in rows.items()} for row in range(count)]

    def _axis(self, name: str) -> int:
        return self._layout.axes.get(name, 0)

    def close(self) -> None:
        """Let go of the buffers."""
        self._buffers.clear()

    def _buffers_of(self, signature: Signature) -> tuple[Array, ...]:
        found = self._buffers.get(signature)
        if found is None:
            while len(self._buffers) >= KEPT_SIGNATURES:
                self._buffers.popitem(last=False)
            found = tuple(
                self._empty((self._capacity, *shape), spec.dtype) for shape, spec in zip(signature, self._layout.inputs)
            )
            self._buffers[signature] = found
        self._buffers.move_to_end(signature)
        return found

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        if self._pool is None or dtype.hasobject:
            return np.empty(shape, dtype)
        return self._pool.empty(shape, dtype)
