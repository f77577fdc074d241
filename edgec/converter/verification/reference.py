"""The reference: the original model in its own runtime, and what another way of running it there changes.

ONNX files run in ONNX Runtime without graph optimisations (and with all of them), LiteRT files in LiteRT with its
XNNPACK (and with its built-in kernels).  The difference is the floor below which no artifact can be asked to stay.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgec.converter.importers.imported import Original
from edgec.converter.verification.data import Feeds
from edgec.converter.verification.metrics import Difference, indistinguishable
from edgec.errors import ModelError, VerificationError
from edgec.ir.graph import Model
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.runtime.session import Session
from edgec.targets.base import SessionSpec

DISTINCT = 1e-4
"""Outputs for different inputs that are closer than this (relative L2) count as the same."""

SLOW_S = 4.0
"""A sample that takes longer than this is not followed by more than one other."""


class Host(Protocol):
    """Opens sessions: a worker process, or this one."""

    def open(
        self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None, *, shared: str | None = None
    ) -> Session:
        """See :meth:`edgec.runtime.isolation.Worker.open`."""
        ...


class InProcess:
    """Opens sessions in this process."""

    def open(
        self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None, *, shared: str | None = None
    ) -> Session:
        """Import the factory and call it.

        Raises:
            VerificationError: EDG302 when the model does not load.
        """
        import importlib

        module, _, function = factory.partition(":")
        session: Session = getattr(importlib.import_module(module), function)(path, **(options or {}))
        return session


@dataclass
class Reference:
    """Inputs, the outputs they give, and the floor.

    Attributes:
        floors: output name to the other way against the plain one; empty when only one of them runs.
        constant: names of the outputs that did not change over at least two samples.
    """

    feeds: list[Feeds] = field(default_factory=list)
    outputs: list[dict[str, Array]] = field(default_factory=list)
    floors: dict[str, Difference] = field(default_factory=dict)
    constant: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class ReferenceModel:
    """The original in its own runtime, in the first way that loads.

    Attributes:
        way: the one that was taken.
        only_other: whether it loads only as :attr:`Way.other`.

    Raises:
        ModelError: EDG113 when the runtime does not load it.
    """

    def __init__(self, host: Host, original: Original):
        self._host = host
        self.original = original
        self.only_other = False
        failure: VerificationError | None = None
        for way in original.ways:
            self.way = way
            for spec in (way.plain, way.other):
                if spec is None:
                    continue
                try:
                    self.session = self._open(spec)
                    self.only_other = spec is way.other
                    return
                except VerificationError as error:
                    failure = error
                    if _broke_down(error):
                        raise self.refused(error) from error
        assert failure is not None
        raise self.refused(failure) from failure

    def _open(self, spec: SessionSpec) -> Session:
        return self._host.open(spec.factory, self.original.path, dict(spec.options), shared=spec.shared)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303.
        """
        return self.session.run(feeds)

    def close(self, reference: Reference) -> None:
        """Release the model, and note what is to be said of the way it was run."""
        self.session.close()
        if self.way.note:
            reference.notes.append(self.way.note)

    def floors(self, reference: Reference) -> None:
        """Run the original in the other way on the same inputs, after :meth:`close`; note how far apart they are."""
        runtime, other = self.original.runtime, self.way.other
        if other is None:
            return
        if self.only_other:
            reference.notes.append(f"{runtime} runs the model only in its second way, so there is no floor")
            return
        session: Session | None = None
        try:
            session = self._open(other)
            for feeds, outputs in zip(reference.feeds, reference.outputs):
                for name, array in session.run(feeds).items():
                    reference.floors.setdefault(name, Difference()).add(outputs[name], array)
        except VerificationError as error:
            if _broke_down(error):
                raise self.refused(error) from error
            reference.floors.clear()
            reference.notes.append(f"{runtime} does not run the model in its second way, so there is no floor")
        finally:
            if session is not None:
                session.close()

    def refused(self, error: VerificationError) -> ModelError:
        """The error for a model that its own runtime does not load or run."""
        return ModelError(
            "EDG113",
            f"{self.original.runtime} cannot {'load' if error.code == 'EDG302' else 'run'} the original model",
            where=f"file '{self.original.path.name}'",
            why=error.why or error.message,
            details=dict(error.details),
        )


def departures(host: Host, meant: Model, reference: Reference) -> dict[str, Difference]:
    """How far a model that departs from the original on purpose is from it, on the same inputs, by output.

    Args:
        meant: what an artifact is meant to compute: a model of ONNX operators with the original's inputs and outputs.

    Raises:
        VerificationError: EDG302, EDG303 when ONNX Runtime does not load or run it.
    """
    from edgec.converter.importers.onnx.original import FACTORY

    found: dict[str, Difference] = {}
    with tempfile.TemporaryDirectory(prefix="edgec-meant-") as folder:
        path = Path(folder) / "meant.onnx"
        write_model(meant, path)
        session = host.open(FACTORY, path, {"optimise": False})
        try:
            for feeds, outputs in zip(reference.feeds, reference.outputs):
                for name, array in session.run(feeds).items():
                    found.setdefault(name, Difference()).add(outputs[name], array)
        finally:
            session.close()
    return found


def _broke_down(error: VerificationError) -> bool:
    """Whether the process crashed or ran out of time, so that trying something else would only repeat that."""
    return bool(error.details.get("signal")) or "timeout_s" in error.details


def collect(
    model: ReferenceModel, draw: Callable[[int], Feeds], wanted: int, more: int, depends: set[str]
) -> Reference:
    """Draw samples and run the reference on them.

    Args:
        draw: sample number to inputs.
        wanted: how many samples.
        more: how many to add while an output of ``depends`` is the same for all.

    Raises:
        VerificationError: EDG303 when the reference refuses a sample.
    """
    found = Reference()
    began = time.monotonic()
    while True:
        count = len(found.feeds)
        if count >= wanted and not (count < wanted + more and found.constant & depends):
            return found
        if count >= 2 and time.monotonic() - began > SLOW_S * count:
            return found
        found.feeds.append(draw(count))
        found.outputs.append(model.run(found.feeds[-1]))
        note_constant(found)


def note_constant(reference: Reference) -> None:
    """Update which outputs have been the same for all samples, after a sample was added."""
    count = len(reference.outputs)
    if count < 2:
        return
    first, last = reference.outputs[0], reference.outputs[-1]
    equal = {name for name in first if indistinguishable(first[name], last[name], DISTINCT)}
    reference.constant = equal if count == 2 else reference.constant & equal
