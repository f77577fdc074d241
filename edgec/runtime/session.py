"""What every way of running a model has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgec.ir.types import Array, Shape


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output; unknown extents are names or None."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape


class Session(Protocol):
    """A loaded model."""

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
