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
import numpy.typing as npt

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
        self._into = {name: int(detail["index"]) for name, detail in inputs}
        self._from = {name: int(detail["index"]) for name, detail in outputs}
        self.inputs = {name: self._array(int(detail["index"]), detail["dtype"]) for name, detail in inputs}
        for array in self.inputs.values():
            array.fill(0)
        self._invoke()  # outputs of a size that the graph computes get their place
        self.outputs = {name: self._array(int(detail["index"]), detail["dtype"]) for name, detail in outputs}
        self._read()

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
                self._invoke()
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error
            self._read()

    def close(self) -> None:
        """Let the arrays go; the memory is the interpreter's."""
        with self._lock:
            self._interpreter = None
            self.inputs, self.outputs = {}, {}

    def _invoke(self) -> None:
        for name, index in self._into.items():
            if not self.inputs[name].shape:  # LiteRT shows no memory of a single number
                self._interpreter.set_tensor(index, self.inputs[name])
        self._interpreter.invoke()

    def _read(self) -> None:
        """Check that the outputs are where they were, and fetch single numbers, of which LiteRT shows no memory."""
        for name, index in self._from.items():
            array, found = self.outputs[name], self._place(index)
            if found is None and not array.shape:
                array[()] = self._interpreter.get_tensor(index)
            elif (found is None and array.size) or (found is not None and found != (array.ctypes.data, array.shape)):
                self.close()
                raise VerificationError(
                    "EDG303",
                    f"the output '{name}' has moved",
                    why="its size depends on the input's values, so that it cannot be bound",
                    help="call run(feeds)",
                )

    def _place(self, index: int) -> tuple[int, tuple[int, ...]] | None:
        """Address and shape of a tensor; None where LiteRT shows no memory: of single numbers and of empty tensors."""
        try:
            found = self._interpreter.tensor(index)()
        except ValueError:
            return None
        if not isinstance(found, np.ndarray) or not found.size:
            return None
        return int(found.ctypes.data), tuple(found.shape)

    def _array(self, index: int, dtype: npt.DTypeLike) -> Array:
        place = self._place(index)
        if place is not None:
            return array_at(place[0], np.dtype(dtype), place[1], self._interpreter)
        shape = self._interpreter._get_tensor_details(index, 0)["shape"]
        return np.zeros([int(dim) for dim in shape], dtype)
