"""One sample on its way through a batch: its future, its times, and the check that it fits the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgec.errors import UnsupportedError, UsageError
from edgec.ir.types import Array, Shape
from edgec.runtime.session import Session, TensorSpec

Sample = Mapping[str, Array]
"""Input name to array, without the batch dimension."""

Result = dict[str, Array]
"""Output name to array, without the batch dimension."""

Signature = tuple[tuple[int, ...], ...]
"""Shapes of a sample in the order of the inputs; only samples with equal ones share a batch."""


class BatchFuture(Future[Result]):
    """The future of one sample; once it is done it knows its times, in seconds.

    Attributes:
        queued_s: from :meth:`DynamicBatcher.submit` to the start of its batch.
        latency_s: from ``submit`` to the result.
        batch_size: samples that ran with it, itself included, padding not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queued_s: float | None = None
        self.latency_s: float | None = None
        self.batch_size: int | None = None
        self._forget: Callable[[], None] | None = None

    def cancel(self) -> bool:
        """Cancel the sample unless it runs already; its place in the queue is free at once."""
        cancelled = super().cancel()
        forget = self._forget
        if cancelled and forget is not None:
            forget()
        return cancelled


class Request:
    """A sample that waits or runs."""

    __slots__ = ("arrays", "due", "future", "sequence", "signature", "started", "submitted")

    def __init__(self, arrays: tuple[Array, ...], signature: Signature):
        self.arrays = arrays
        self.signature = signature
        self.future = BatchFuture()
        self.submitted = time.monotonic()
        self.started = 0.0
        self.due = 0.0
        self.sequence = 0


@dataclass(frozen=True)
class Layout:
    """What a session wants of a sample.

    Attributes:
        inputs: the inputs that are batched.
        outputs: names of the outputs.
        axes: input or output name to the axis of its batch dimension, 0 where it is not listed.
        fixed: the batch that the model is fixed to, None where any batch runs.
        shared: inputs that are the same for every sample, given once.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    axes: Mapping[str, int]
    fixed: int | None
    shared: Mapping[str, Array]

    @classmethod
    def of(cls, session: Session, shared: Mapping[str, Array] | None, axes: Mapping[str, int] | None) -> Layout:
        """The layout of a session.

        Raises:
            UsageError: EDG720 for a shared input or an axis that the model does not have.
            UnsupportedError: EDG724 for an input or output without a batch dimension, or inputs of different batches.
        """
        shared, axes = dict(shared or {}), dict(axes or {})
        names = [spec.name for spec in session.inputs]
        for name in shared:
            if name not in names:
                raise UsageError("EDG720", f"the model has no input '{name}'", why=f"it has {', '.join(names)}")
        batched = tuple(spec for spec in session.inputs if spec.name not in shared)
        for name in axes:
            if name not in {spec.name for spec in (*batched, *session.outputs)}:
                raise UsageError("EDG720", f"the model has no '{name}' to batch", why=f"axes names {', '.join(axes)}")
        for spec in (*batched, *session.outputs):
            if spec.shape and not 0 <= axes.get(spec.name, 0) < len(spec.shape):
                raise UsageError("EDG720", f"'{spec.name}' has no axis {axes[spec.name]}", why=f"it is {spec.shape}")
            if not spec.shape:
                raise UnsupportedError(
                    "EDG724",
                    f"'{spec.name}' is a scalar and cannot be batched",
                    help="give an input that is the same for every sample as `shared`",
                )
        if not batched:
            raise UnsupportedError("EDG724", "the model has no input that could be batched")
        batches = {spec.name: spec.shape[axes.get(spec.name, 0)] for spec in batched}
        extents = {extent for extent in batches.values() if isinstance(extent, int)}
        if len(extents) > 1:
            raise UnsupportedError(
                "EDG724",
                "the inputs of the model have different batches",
                why=", ".join(f"{name}: {extent}" for name, extent in batches.items()),
                help="say with `axes` where the batch is not the first dimension",
            )
        fixed = extents.pop() if extents else None
        return cls(batched, tuple(spec.name for spec in session.outputs), axes, fixed, shared)

    @cached_property
    def _plan(self) -> tuple[tuple[str, np.dtype[Any], Shape], ...]:
        """Name, dtype and shape without the batch of every input."""
        axes = [self.axes.get(spec.name, 0) for spec in self.inputs]
        return tuple(
            (spec.name, spec.dtype, spec.shape[:axis] + spec.shape[axis + 1 :]) for spec, axis in zip(self.inputs, axes)
        )

    def _fitting(self, sample: dict[str, Array]) -> tuple[tuple[Array, ...], Signature] | None:
        """What :meth:`check` returns for a sample that fits at first sight; most do."""
        if len(sample) != len(self._plan):
            return None
        arrays = []
        for name, dtype, extents in self._plan:
            array = sample.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != extents:
                return None
            arrays.append(array)
        return tuple(arrays), tuple([array.shape for array in arrays])

    def check(self, sample: Sample | Array) -> tuple[tuple[Array, ...], Signature]:
        """The arrays of a sample in the order of the inputs, and their shapes.

        Raises:
            UsageError: EDG720 for a name, dtype or shape that does not fit. Nothing is cast or broadcast.
        """
        if type(sample) is dict and (fitting := self._fitting(sample)) is not None:
            return fitting
        if not isinstance(sample, Mapping):
            if len(self.inputs) != 1:
                names = ", ".join(spec.name for spec in self.inputs)
                raise UsageError("EDG720", "a sample of this model is a mapping from input name to array", why=names)
            sample = {self.inputs[0].name: sample}
        wanted = {spec.name for spec in self.inputs}
        if sample.keys() != wanted:
            missing, extra = sorted(wanted - sample.keys()), sorted(sample.keys() - wanted)
            parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(extra)}"] * bool(extra)
            raise UsageError("EDG720", "the sample does not have the inputs of the model", why="; ".join(parts))
        arrays = tuple(np.asarray(sample[spec.name]) for spec in self.inputs)
        for (name, dtype, extents), array in zip(self._plan, arrays):
            if array.dtype != dtype:
                raise UsageError("EDG720", f"'{name}' is {array.dtype}, the model takes {dtype}")
            if len(extents) != array.ndim or any(
                isinstance(extent, int) and extent != found for extent, found in zip(extents, array.shape)
            ):
                wanted_shape = "x".join("?" if extent is None else str(extent) for extent in extents) or "scalar"
                found_shape = "x".join(str(extent) for extent in array.shape) or "scalar"
                raise UsageError(
                    "EDG720",
                    f"'{name}' has the shape {found_shape}, a sample of the model {wanted_shape}",
                    why="samples come one by one, without the batch dimension",
                )
        return arrays, tuple(array.shape for array in arrays)
