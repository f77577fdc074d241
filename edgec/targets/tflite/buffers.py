"""Host memory of LiteRT's tensor buffers: where it is, and buffers over memory from outside.

``ai_edge_litert`` wraps outside memory as a tensor of one axis only, which compiled models refuse, and copies in and
out of its own.  So the C functions underneath are called: they are exported by ``libLiteRt.so`` of the package, and the
capsule of a ``TensorBuffer`` holds their handle.  Every buffer made here is asked for its address before it is used.
Source: ``litert/c/litert_tensor_buffer.h``; seen with ai-edge-litert 2.1.2 and 2.3.0.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final

import ai_edge_litert

from edgec.errors import VerificationError
from edgec.ir.types import Array
from edgec.runtime.buffers import ALIGNMENT

_CAPSULE: Final = ctypes.create_string_buffer(b"LiteRtTensorBuffer")
_TYPE_BYTES: Final = 1024
"""More than ``LiteRtRankedTensorType`` takes; its contents are passed on unread."""


def host_address(buffer: Any) -> int | None:
    """Where a tensor buffer lies in host memory; None where it does not."""
    found = ctypes.c_void_p()
    status = _library().LiteRtGetTensorBufferHostMemory(_handle(buffer.capsule), ctypes.byref(found))
    return found.value if status == 0 else None


def size_of(buffer: Any) -> int:
    """The bytes of a tensor buffer, padding included."""
    found = ctypes.c_size_t()
    _checked(_library().LiteRtGetTensorBufferSize(_handle(buffer.capsule), ctypes.byref(found)), "size")
    return found.value


def over(memory: Array, like: Any) -> Any:
    """A tensor buffer of the type of ``like`` that lies in ``memory``, which must outlive it.

    Args:
        memory: at a multiple of 64 bytes, and at least as long as :func:`size_of` says.

    Raises:
        VerificationError: EDG302, LiteRT does not take the memory.
    """
    library = _library()
    kind, made, size = ctypes.create_string_buffer(_TYPE_BYTES), ctypes.c_void_p(), size_of(like)
    address = memory.ctypes.data
    if address % ALIGNMENT:
        raise VerificationError("EDG302", f"LiteRT needs memory at a multiple of {ALIGNMENT} bytes")
    _checked(library.LiteRtGetTensorBufferTensorType(_handle(like.capsule), kind), "type")
    status = library.LiteRtCreateTensorBufferFromHostMemory(
        kind, ctypes.c_void_p(address), ctypes.c_size_t(size), None, ctypes.byref(made)
    )
    _checked(status, "buffer")
    pack = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    capsule = pack(("PyCapsule_New", ctypes.pythonapi))(made, ctypes.addressof(_CAPSULE), None)
    buffer = type(like)(capsule, like._environment)
    if host_address(buffer) != address:
        raise VerificationError("EDG302", "LiteRT put a buffer elsewhere than it was told")
    return buffer


def destroy(buffer: Any) -> None:
    """Release a buffer that :func:`over` made, not the memory that it lies in."""
    _library().LiteRtDestroyTensorBuffer(_handle(buffer.capsule))


def _handle(capsule: Any) -> ctypes.c_void_p:
    unpack = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    return ctypes.c_void_p(unpack(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, _CAPSULE.value))


def _checked(status: int, what: str) -> None:
    if status != 0:
        raise VerificationError("EDG302", f"LiteRT gave no {what} for a tensor buffer", why=f"status {status}")


@cache
def _library() -> Any:
    """The library that the compiled model runs in.

    Raises:
        VerificationError: EDG302 where this version of LiteRT does not offer the functions.
    """
    path = Path(ai_edge_litert.__file__).with_name("libLiteRt.so")
    try:
        library = ctypes.CDLL(str(path))
        for name in ("HostMemory", "Size", "TensorType"):
            getattr(library, f"LiteRtGetTensorBuffer{name}")
        library.LiteRtCreateTensorBufferFromHostMemory  # noqa: B018
        library.LiteRtDestroyTensorBuffer  # noqa: B018
    except (OSError, AttributeError) as error:
        raise VerificationError(
            "EDG302",
            "this version of LiteRT offers no buffers in host memory",
            why=str(error),
            help="bind without pool",
        ) from error
    return library
