"""Sessions whose behaviour tests choose; they add one to the first input and remember what they saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgec.ir.types import Array, Shape
from edgec.runtime.session import TensorSpec

FLOAT = np.dtype(np.float32)


@dataclass
class PlusOne:
    """`y` = x + 1. A row that holds a value of `bad` fails the whole run, as a runtime would."""

    shape: Shape = ("batch", 4)
    seconds: float = 0.0
    bad: tuple[float, ...] = ()
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("x", FLOAT, self.shape),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("y", FLOAT, self.shape),)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.entered.set()
            if self.gate is not None:
                assert self.gate.wait(30)
            if self.seconds:
                time.sleep(self.seconds)
            x = feeds["x"]
            self.batches.append(len(x))
            for value in self.bad:
                if (x == value).any():
                    raise RuntimeError(f"cannot run {value}")
            return {"y": x + 1}
        finally:
            self.at_once -= 1

    def close(self) -> None: ...


class TwoInputs:
    """`sum` = a + b * scale, `half` = a / 2; `scale` has no batch dimension."""

    inputs = (
        TensorSpec("a", FLOAT, (None, 2)),
        TensorSpec("b", np.dtype(np.int64), (None, 2)),
        TensorSpec("scale", FLOAT, ()),
    )
    outputs = (TensorSpec("sum", FLOAT, (None, 2)), TensorSpec("half", FLOAT, (None, 2)))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {"sum": feeds["a"] + feeds["b"].astype(np.float32) * feeds["scale"], "half": feeds["a"] / 2}

    def close(self) -> None: ...


def sample(value: float, extent: int = 4) -> Array:
    """A sample of :class:`PlusOne`."""
    return np.full(extent, value, np.float32)
