"""Page-locked host memory for the copies between host and GPU, from the CUDA runtime that ONNX Runtime has loaded.

The driver copies page-locked memory directly; other memory goes through a buffer of its own first, which takes longer
and, depending on where the pages lie, differently long in every process.
Source: CUDA Runtime API, "Memory Management" (``cudaHostAlloc``, ``cudaFreeHost``).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgec.errors import EdgecError
from edgec.ir.types import Array
from edgec.runtime.memory.report import PoolExhausted

LIBRARIES: Final = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
PORTABLE: Final = 1
"""``cudaHostAllocPortable``: page-locked for every context of the process."""


class PageLockedPool:
    """Gives out arrays of page-locked memory, each one an allocation of its own; see
    :class:`edgec.runtime.session.Pool`.

    CUDA aligns every allocation to at least 256 bytes.  An array that is released stays readable until the last
    reference to it is gone; then its memory goes back.

    Raises:
        EdgecError: EDG522 where the CUDA runtime's library cannot be loaded.
    """

    def __init__(self) -> None:
        self._runtime = _load()

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike, alignment: int | None = None) -> Array:
        """An uninitialised array; CUDA's own alignment is enough for every ``alignment`` that is asked for here.

        Raises:
            PoolExhausted: EDG710 where CUDA does not give the memory.
        """
        element = np.dtype(dtype)
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(np.prod(extents, dtype=np.int64)) * element.itemsize
        if not size:
            return np.empty(extents, element)
        address = ctypes.c_void_p()
        status = self._runtime.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(PORTABLE))
        if status or not address.value:
            raise PoolExhausted(
                "EDG710", f"CUDA gives no {size} bytes of page-locked memory", why=f"cudaHostAlloc returned {status}"
            )
        memory = (ctypes.c_char * size).from_address(address.value)
        weakref.finalize(memory, self._runtime.cudaFreeHost, address)
        found: Array = np.frombuffer(memoryview(memory), np.uint8).view(element).reshape(extents)
        return found

    def release(self, array: Array) -> bool:
        """True; the memory goes back with the last reference to the array."""
        return True


def _load() -> Any:
    problems = []
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problems.append(str(error))
    raise EdgecError("EDG522", "the CUDA runtime cannot be loaded", why=problems[0], help="pip install onnxruntime-gpu")
