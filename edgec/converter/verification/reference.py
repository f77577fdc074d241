"""The reference: ONNX Runtime on the original file, without graph optimisations, and what optimising it changes.

Only the declared extents of the graph inputs are replaced, where the user asked for it.  The difference between all
optimisations and none is the floor below which no artifact can be asked to stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgec.converter.verification.data import Feeds
from edgec.converter.verification.metrics import Difference, indistinguishable
from edgec.errors import ModelError, VerificationError
from edgec.ir.types import Array
from edgec.runtime.session import Session

FACTORY = "edgec.runtime.onnxruntime:open_session"
UPGRADING_FACTORY = "edgec.runtime.upgraded:open_session"
FIRST_OPSET = 7
"""Models older than this are upgraded for ONNX Runtime where it has no kernels for them."""

DISTINCT = 1e-4
"""Outputs for different inputs that are closer than this (relative L2) count as the same."""

SLOW_S = 4.0
"""A sample that takes longer than this is not followed by more than one other."""


class Host(Protocol):
    """Opens sessions: a worker process, or this one."""

    def open(self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None) -> Session:
        """See :meth:`edgec.runtime.isolation.Worker.open`."""
        ...


class InProcess:
    """Opens sessions in this process."""

    def open(self, factory: str, path: str | Path, options: Mapping[str, Any] | None = None) -> Session:
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
        floors: output name to optimised against unoptimised; empty when only one of them runs.
        constant: names of the outputs that did not change over at least two samples.
    """

    feeds: list[Feeds] = field(default_factory=list)
    outputs: list[dict[str, Array]] = field(default_factory=list)
    floors: dict[str, Difference] = field(default_factory=dict)
    constant: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class ReferenceModel:
    """The original file in ONNX Runtime.

    Args:
        shapes: input name to the extents that were asked for instead of the declared ones.
        opset: version of the default domain in the file.

    Raises:
        ModelError: EDG113 when ONNX Runtime does not load it.
    """

    def __init__(self, host: Host, path: Path, shapes: Mapping[str, Sequence[int]], opset: int = FIRST_OPSET):
        self._host = host
        self._path = path
        self._shapes = {name: list(shape) for name, shape in shapes.items()}
        self._factory = FACTORY
        self.optimised = False
        self.upgraded = False
        try:
            self.session = self._open_any()
        except ModelError:
            if opset >= FIRST_OPSET:
                raise
            self._factory, self.upgraded, self.optimised = UPGRADING_FACTORY, True, False
            self.session = self._open_any()

    def _open(self, optimise: bool) -> Session:
        options: dict[str, Any] = {"optimise": optimise}
        if self._shapes:
            options["input_shapes"] = self._shapes
        return self._host.open(self._factory, self._path, options)

    def _open_any(self) -> Session:
        try:
            return self._open(False)
        except VerificationError as error:
            if error.details.get("signal") or "timeout_s" in error.details:
                raise refused(self._path, error) from error
        try:
            self.optimised = True
            return self._open(True)
        except VerificationError as error:
            raise refused(self._path, error) from error

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303.
        """
        return self.session.run(feeds)

    def floors(self, reference: Reference) -> None:
        """Run the optimised model on the same inputs and note how far it is from the unoptimised one."""
        self.session.close()
        if self.upgraded:
            reference.notes.append(
                "the reference was upgraded by onnx.version_converter: ONNX Runtime lacks kernels below opset 7"
            )
        if self.optimised:
            reference.notes.append("ONNX Runtime runs the model only with optimisations, so there is no floor")
            return
        session: Session | None = None
        try:
            session = self._open(True)
            for feeds, outputs in zip(reference.feeds, reference.outputs):
                for name, array in session.run(feeds).items():
                    reference.floors.setdefault(name, Difference()).add(outputs[name], array)
        except VerificationError as error:
            if error.details.get("signal") or "timeout_s" in error.details:
                raise refused(self._path, error) from error
            reference.floors.clear()
            reference.notes.append("ONNX Runtime does not run the model with optimisations, so there is no floor")
        finally:
            if session is not None:
                session.close()


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


def refused(path: Path, error: VerificationError) -> ModelError:
    """The error for a model that ONNX Runtime itself does not load or run."""
    return ModelError(
        "EDG113",
        f"ONNX Runtime cannot {'load' if error.code == 'EDG302' else 'run'} the original model",
        where=f"file '{path.name}'",
        why=error.why or error.message,
        details=dict(error.details),
    )
