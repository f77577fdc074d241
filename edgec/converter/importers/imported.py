"""What every importer gives: the model in the IR, and how the original is run for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgec.ir.graph import Model
from edgec.ir.types import Shape
from edgec.targets.base import SessionSpec


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    Attributes:
        input_shapes: input name to the static shape that replaces the declared one.
        batch: extent of the first dimension of inputs whose first dimension is unknown.
        open_batch: the same where ``batch`` is None and nothing but the batch is unknown; read for sources of the
            TensorFlow family, which leave the batch open as a rule.
        signature: which signature of a SavedModel; its only one, or ``serving_default``, by default.
        trust: let the source run code that it carries (Lambda layers, custom objects).
    """

    input_shapes: Mapping[str, Sequence[int]] | None = None
    batch: int | None = None
    signature: str | None = None
    trust: bool = False
    open_batch: int | None = None


@dataclass(frozen=True)
class Way:
    """One way of running the original.

    Attributes:
        plain: gives the reference outputs.
        other: another way of computing the same; how far it is from ``plain`` is the floor.  If ``plain`` does not
            load, it gives the reference, and there is no floor.  None where there is nothing to compare with.
        note: what the user should know when this way is taken.
    """

    plain: SessionSpec
    other: SessionSpec | None = None
    note: str = ""


@dataclass(frozen=True)
class Original:
    """The original model in the runtime that it was made for.

    Attributes:
        path: what the sessions open.
        runtime: the runtime's name in messages, such as ``ONNX Runtime``.
        package: its distribution, whose version reports quote.
        ways: how to run it; the first that loads is taken.
        steps: how far quantized integers may be apart, in units, because the runtime rounds differently at every
            operator (LiteRT computes with fixed-point multipliers and rounds ties away from zero).
    """

    path: Path
    runtime: str
    package: str
    ways: tuple[Way, ...]
    steps: int = 0


@dataclass
class ImportedModel:
    """A model in the IR and what was done to get it there.

    Attributes:
        model: the IR, every node at :data:`edgec.ir.inference.CANONICAL_OPSET`.
        path: the file or folder.
        opset: version of the default domain in the file; the canonical one where the source is no ONNX file.
        original: how the source itself is run.
        overrides: input name to the shape that replaced the declared one; the reference needs the same.
        notes: what the user should know (batch bound, placeholder shapes dropped, ...).
    """

    model: Model
    path: Path
    opset: int
    original: Original
    overrides: dict[str, Shape] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def static_overrides(self) -> dict[str, list[int]]:
        """The overridden shapes that are known in full."""
        return static_shapes(self.overrides)


def static_shapes(shapes: Mapping[str, Shape]) -> dict[str, list[int]]:
    """Those of the shapes that hold nothing but numbers."""
    return {
        name: [dim for dim in shape if isinstance(dim, int)]
        for name, shape in shapes.items()
        if all(isinstance(dim, int) for dim in shape)
    }
