"""Page-locked memory, with a CUDA runtime that is made up, and with CUDA itself where there is a GPU."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.runtime.onnxruntime import page_locked
from edgec.runtime.onnxruntime.options import Options
from edgec.runtime.onnxruntime.page_locked import PageLockedPool


class MadeUp:
    """cudaHostAlloc and cudaFreeHost over ordinary memory."""

    def __init__(self, status: int = 0):
        self.status = status
        self.held: dict[int, Any] = {}

    def cudaHostAlloc(self, address: Any, size: Any, flags: Any) -> int:
        if not self.status:
            memory = (ctypes.c_char * size.value)()
            address._obj.value = ctypes.addressof(memory)
            self.held[address._obj.value] = memory
        return self.status

    def cudaFreeHost(self, address: Any) -> int:
        del self.held[address.value]
        return 0


def test_memory_goes_back_with_the_last_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = MadeUp()
    monkeypatch.setattr(page_locked, "_load", lambda: runtime)
    pool = PageLockedPool()
    array = pool.empty((2, 3), np.float32)
    array[...] = np.arange(6).reshape(2, 3)
    part = array[1]
    assert array.ctypes.data in runtime.held
    assert pool.release(array)
    del array
    gc.collect()
    assert part.tolist() == [3, 4, 5] and len(runtime.held) == 1
    del part
    gc.collect()
    assert not runtime.held


def test_arrays_without_elements_take_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = MadeUp()
    monkeypatch.setattr(page_locked, "_load", lambda: runtime)
    assert PageLockedPool().empty((0, 3), np.float16).shape == (0, 3)
    assert not runtime.held


def test_what_cuda_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_locked, "_load", lambda: MadeUp(status=2))
    with pytest.raises(EdgecError) as caught:
        PageLockedPool().empty(8, np.float32)
    assert caught.value.code == "EDG710" and "cudaHostAlloc returned 2" in str(caught.value)


def test_without_the_cuda_runtime_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_locked, "LIBRARIES", ("libcudart-that-is-nowhere.so",))
    with pytest.raises(EdgecError) as caught:
        PageLockedPool()
    assert caught.value.code == "EDG522"


def test_io_binding_belongs_to_cuda() -> None:
    with pytest.raises(UsageError) as caught:
        Options(io_binding=True)
    assert "provider cuda" in str(caught.value)


INVALID = 1
"""``cudaErrorInvalidValue``: no page-locked memory."""


def gpus() -> str:
    """Why there is no GPU, or nothing."""
    try:
        runtime = page_locked._load()
    except EdgecError as error:
        return str(error.why)
    count = ctypes.c_int()
    status = runtime.cudaGetDeviceCount(ctypes.byref(count))
    return "" if status == 0 and count.value else f"cudaGetDeviceCount returned {status}"


@pytest.mark.skipif(bool(gpus()), reason=gpus() or "a GPU is there")
def test_cuda_knows_the_memory_as_page_locked_until_it_has_gone_back() -> None:
    runtime = page_locked._load()

    def locked(address: int) -> tuple[int, int]:
        """What CUDA answers, and whether it says that the memory is locked for every context."""
        runtime.cudaGetLastError()  # an error stays until it is asked for
        flags = ctypes.c_uint()
        status = runtime.cudaHostGetFlags(ctypes.byref(flags), ctypes.c_void_p(address))
        return status, flags.value & page_locked.PORTABLE

    array = PageLockedPool().empty((256, 1024), np.float32)
    array[...] = 7
    address = array.ctypes.data
    assert address % 256 == 0 and float(array.sum()) == 7 * array.size
    assert locked(address) == (0, page_locked.PORTABLE)
    assert locked(np.ones(1 << 20).ctypes.data) == (INVALID, 0)
    del array
    gc.collect()
    assert locked(address) == (INVALID, 0)
