"""One session per set of input shapes, so that a runtime plans each of them once instead of anew at every change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from edgec.errors import VerificationError
from edgec.ir.types import Array
from edgec.runtime.session import Assignment, BindableSession, Binding, Pool, TensorSpec, bound_shape

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
MOST: Final = 64
"""Largest number of sessions that may be kept."""


class OneSession(BindableSession, Protocol):
    """What a specialised session keeps."""

    def assignment(self) -> Assignment | None:
        """Where its operators run."""
        ...


class SpecialisedSession:
    """Opens a session for each set of input shapes that it meets; see :class:`edgec.runtime.session.Session`.

    The least recently used one goes when there are too many; a run that is under way in it ends first.

    Args:
        inputs, outputs: the interface with its open extents.
        open_one: makes the session for input shapes.
        most: how many are kept.
    """

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        open_one: Callable[[Mapping[str, tuple[int, ...]]], OneSession],
        most: int,
    ):
        self.inputs = inputs
        self.outputs = outputs
        self._open_one = open_one
        self._most = most
        self._sessions: OrderedDict[Shapes, OneSession] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def shapes(self) -> list[dict[str, tuple[int, ...]]]:
        """The input shapes that sessions are kept for, the one used last at the end."""
        with self._lock:
            return [dict(key) for key in self._sessions]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name, from the session for the shapes of the inputs.

        Raises:
            VerificationError: EDG302 and EDG303 of the session; EDG303 when an input is missing or it is closed.
        """
        missing = [spec.name for spec in self.inputs if spec.name not in feeds]
        if missing:
            raise VerificationError("EDG303", f"there is no array for the input '{missing[0]}'")
        return self._session(tuple((spec.name, tuple(feeds[spec.name].shape)) for spec in self.inputs)).run(feeds)

    def bind(self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Binding:
        """Inputs and outputs at fixed places of the session for these shapes, which stays as long as its binding."""
        resolved = {spec.name: bound_shape(spec, shapes or {}) for spec in self.inputs}
        return self._session(tuple(resolved.items())).bind(pool, shapes)

    def assignment(self) -> Assignment | None:
        """Where the operators of the session that ran last run; None before the first run."""
        with self._lock:
            return next(reversed(self._sessions.values())).assignment() if self._sessions else None

    def close(self) -> None:
        """Release all sessions."""
        with self._lock:
            self._closed = True
            while self._sessions:
                self._sessions.popitem()[1].close()

    def _session(self, key: Shapes) -> OneSession:
        with self._lock:  # the first run of new shapes lets the others wait, or each would load the model
            if self._closed:
                raise VerificationError("EDG303", "the session is closed")
            if key not in self._sessions:
                self._sessions[key] = self._open_one(dict(key))
                if len(self._sessions) > self._most:
                    self._sessions.popitem(last=False)  # not closed: the last run in it releases it
            self._sessions.move_to_end(key)
            return self._sessions[key]
