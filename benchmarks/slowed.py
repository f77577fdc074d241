"""A session that is slower than another by a known part: what a measurement has to find."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import Any

from edgec.ir.types import Array
from edgec.runtime.session import Session


class Slowed:
    """Runs the session inside and then keeps the processor for `fraction` of the time that this took."""

    def __init__(self, inner: Session, fraction: float):
        self._inner = inner
        self._fraction = fraction
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, late."""
        start = time.perf_counter()
        results = self._inner.run(feeds)
        now = time.perf_counter()
        end = now + (now - start) * self._fraction
        while time.perf_counter() < end:
            pass
        return results

    def close(self) -> None:
        """Release the model."""
        self._inner.close()


def open_session(path: str, *, factory: str, fraction: float, **options: Any) -> Slowed:
    """The session that `factory` (``module:function``) opens, slowed by `fraction` (0.05 is 5 %)."""
    module, _, function = factory.partition(":")
    return Slowed(getattr(importlib.import_module(module), function)(path, **options), fraction)
