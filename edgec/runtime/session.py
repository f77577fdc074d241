"""What every way of running a model has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgec.errors import UsageError
from edgec.ir.types import Array, Shape


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output; unknown extents are names or None."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape


class Session(Protocol):
    """A loaded model.

    ``run`` and ``close`` may be called from any thread and by several at once; whether their runs overlap or follow
    each other is the runtime's: ONNX Runtime's overlap, LiteRT's follow each other.  After ``close``, ``run`` raises
    EDG303.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in order."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name for one set of inputs by name."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


class Pool(Protocol):
    """What hands out the memory that a :class:`Binding` lives in, such as :class:`edgec.runtime.memory.HostPool`."""

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike, alignment: int | None = None) -> Array:
        """An uninitialised array at a multiple of ``alignment`` bytes."""
        ...

    def release(self, array: Array) -> bool:
        """Take an array back."""
        ...


class Binding(Protocol):
    """Inputs and outputs at fixed places, which the runtime reads and writes without a copy.

    Write into ``inputs``, call ``run``, read ``outputs``.  One thread at a time may use a binding; a session may have
    several.  The arrays belong to the binding: they must not be used after ``close``, nor after the session's.
    """

    @property
    def inputs(self) -> Mapping[str, Array]:
        """The input buffers by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, Array]:
        """The output buffers by name; where they live on a device, they are brought to the host when asked for."""
        ...

    def run(self) -> None:
        """Compute the outputs from what the inputs hold."""
        ...

    def close(self) -> None:
        """Give the buffers back to the pool that they came from."""
        ...


class BindableSession(Session, Protocol):
    """A session whose runtime takes buffers from outside."""

    def bind(self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Buffers for one set of shapes.

        Args:
            pool: where the memory comes from; the runtime's own, or NumPy's, by default.
            shapes: input name to its shape, for the inputs of which the model leaves an extent open.
        """
        ...


@dataclass(frozen=True)
class Assignment:
    """Where the operators of a loaded model run.

    Attributes:
        runner: the delegates, the accelerator or the execution provider that was asked for.
        taken: how many operators it took; None where the runtime does not tell.
        left: the operators that it left to the CPU, as ``"#5 CONV_2D"`` or ``"name (Conv)"``, in the graph's order.
        complete: whether it took all.
    """

    runner: str
    taken: int | None
    left: tuple[str, ...]
    complete: bool

    def describe(self) -> str:
        """One line for a person."""
        if self.complete:
            return f"{self.runner} took all operators"
        if not self.left:
            return f"{self.runner} did not take all operators; the runtime does not tell which ones the CPU runs"
        some = ", ".join(self.left[:5]) + (f" and {len(self.left) - 5} more" if len(self.left) > 5 else "")
        return f"{self.runner} took {self.taken} operators, not {some}"

    def to_json(self) -> dict[str, Any]:
        """As documents hold it."""
        return {"runner": self.runner, "taken": self.taken, "left": list(self.left), "complete": self.complete}


def bound_shape(spec: TensorSpec, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The shape of an input to bind: the given one, or the declared one where nothing in it is open.

    Raises:
        UsageError: EDG005 where an extent stays open, or the given shape contradicts the declared one.
    """
    given = tuple(int(dim) for dim in shapes[spec.name]) if spec.name in shapes else None
    declared = spec.shape
    if given is None:
        if all(isinstance(dim, int) for dim in declared):
            return tuple(int(dim) for dim in declared if isinstance(dim, int))
        raise UsageError(
            "EDG005",
            f"the input '{spec.name}' has no fixed shape",
            why=f"it is {list(declared)}",
            help="give its shape",
        )
    if len(given) != len(declared) or any(isinstance(d, int) and d != g for d, g in zip(declared, given)):
        raise UsageError("EDG005", f"the input '{spec.name}' has shape {list(declared)}, not {list(given)}")
    return given
