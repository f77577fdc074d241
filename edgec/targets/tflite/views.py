"""The tensors of a LiteRT interpreter as arrays that lie in the interpreter's own memory.

The interpreter refuses to run while an array of its own is alive, because its memory may move then.  The arrays made
here do not count for it; so after every run it is checked that nothing moved.
Source: ``Interpreter.tensor`` of ai-edge-litert.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.errors import UsageError, VerificationError
from edgec.ir.types import Array


class _Memory:
    """A piece of native memory, and the object that keeps it."""

    def __init__(self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...], owner: Any):
        self._owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "typestr": dtype.str,
            "shape": shape,
            "strides": None,
        }


def array_at(address: int, dtype: np.dtype[Any], shape: tuple[int, ...], owner: Any) -> Array:
    """The array at an address that is valid as long as ``owner`` lives; the array keeps it alive."""
    return np.asarray(_Memory(address, dtype, shape, owner))


class InterpreterBinding:
    """The interpreter's inputs and outputs; see :class:`edgec.runtime.session.Binding`.

    ``run`` of the session uses the same tensors.
    """

    def __init__(
        self,
        interpreter: Any,
        lock: threading.RLock,
        inputs: Sequence[tuple[str, dict[str, Any]]],
        outputs: Sequence[tuple[str, dict[str, Any]]],
    ):
        self._interpreter = interpreter
        self._lock: Any = lock
        for _, detail in (*inputs, *outputs):
            if detail["dtype"] in (str, np.str_, np.bytes_):
                raise UsageError("EDG040", "strings have no fixed size and cannot be bound", help="call run(feeds)")
        self.inputs = {name: self._array(int(detail["index"])) for name, detail in inputs}
        for array in self.inputs.values():
            array.fill(0)
        interpreter.invoke()  # outputs of a size that the graph computes get their place
        self._places = {name: int(detail["index"]) for name, detail in outputs}
        self.outputs = {name: self._array(index) for name, index in self._places.items()}

    @property
    def closed(self) -> bool:
        """Whether the arrays are no longer in use."""
        return self._interpreter is None

    def run(self) -> None:
        """Compute the outputs where they are.

        Raises:
            VerificationError: EDG303 when LiteRT reports an error, or an output has moved.
        """
        with self._lock:
            if self._interpreter is None:
                raise VerificationError("EDG303", "the binding is closed")
            try:
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error
            for name, index in self._places.items():
                address, shape, _ = self._place(index)
                array = self.outputs[name]
                if address != array.ctypes.data or shape != array.shape:
                    self.close()
                    raise VerificationError(
                        "EDG303",
                        f"the output '{name}' has moved",
                        why="its size depends on the input's values, so that it cannot be bound",
                        help="call run(feeds)",
                    )

    def close(self) -> None:
        """Let the arrays go; the memory is the interpreter's."""
        with self._lock:
            self._interpreter = None
            self.inputs, self.outputs = {}, {}

    def _place(self, index: int) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        found = self._interpreter.tensor(index)()
        return int(found.ctypes.data), tuple(found.shape), found.dtype

    def _array(self, index: int) -> Array:
        address, shape, dtype = self._place(index)
        return array_at(address, dtype, shape, self._interpreter)
