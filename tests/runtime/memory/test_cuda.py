"""The GPU pool: its logic against a stand-in for CuPy, and the real thing where there is a GPU."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.runtime.memory import CupyPool, MemoryOptions, PoolExhausted

from .fake_cupy import Module


def no_gpu() -> str:
    """Why no GPU can be used, or nothing."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no GPU: {error}"
    return ""


needs_gpu = pytest.mark.skipif(bool(no_gpu()), reason=no_gpu() or "a GPU is there")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Module:
    module = Module(devices=2)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_fake_arrays_come_from_the_pool_of_the_device(fake: Module) -> None:
    pool = CupyPool(device=1)
    array = pool.empty((10, 10), np.float32)
    assert array.shape == (10, 10) and fake.allocator is None
    assert set(fake.entered) == {1}
    assert pool.statistics().in_use == 512
    del array
    found = pool.statistics()
    assert (found.in_use, found.free, found.reserved, found.peak_reserved) == (0, 512, 512, 512)
    assert pool.trim() == 512


def test_fake_limit_raises_and_is_named(fake: Module) -> None:
    pool = CupyPool(4096)
    kept = pool.put(np.zeros(1024, np.uint8))
    with pytest.raises(PoolExhausted) as caught:
        pool.empty(4096, np.uint8)
    assert caught.value.code == "EDG710" and isinstance(caught.value, MemoryError)
    assert "4.0 KiB" in str(caught.value) and caught.value.details["in_use"] == 1024
    assert pool.statistics().refused == 1
    with pool.active(), pytest.raises(UsageError):
        pool.close()
        pool.empty(1, np.uint8)
    del kept


def test_fake_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(EdgecError) as caught:
        CupyPool()
    assert caught.value.code == "EDG013"
    monkeypatch.setitem(sys.modules, "cupy", Module(devices=0))
    with pytest.raises(EdgecError) as caught:
        CupyPool()
    assert caught.value.code == "EDG521"
    monkeypatch.setitem(sys.modules, "cupy", Module(devices=1))
    with pytest.raises(EdgecError) as caught:
        CupyPool(device=3)
    assert caught.value.code == "EDG521"
    with pytest.raises(UsageError):
        CupyPool(0)


def test_fake_options_give_device_and_pinned_pools(fake: Module) -> None:
    options = MemoryOptions(device_limit=4096, host_limit=1 << 16, initial_chunk=1 << 12, pinned=True)
    device = options.device_pool("cuda", device=1)
    assert isinstance(device, CupyPool) and device.limit == 4096
    host = options.host_pool()
    array = host.empty(1000, np.float32)
    array[:] = 1
    assert array.sum() == 1000 and host.owns(array)
    with pytest.raises(PoolExhausted):
        host.empty(1 << 17, np.uint8)


@needs_gpu
def test_arrays_of_a_gpu_compute_within_the_limit() -> None:
    import cupy

    pool = CupyPool(1 << 26)
    x = pool.put(np.arange(1000, dtype=np.float32))
    with pool.active():
        y = x * 2
    np.testing.assert_array_equal(cupy.asnumpy(y), np.arange(1000) * 2)
    assert pool.statistics().in_use >= 8000
    with pytest.raises(PoolExhausted):
        pool.empty(1 << 27, np.uint8)
    del x, y
    assert pool.statistics().in_use == 0
    assert pool.trim() > 0


@needs_gpu
def test_pinned_arrays_copy_to_a_gpu_and_back() -> None:
    import cupy

    host: Any = MemoryOptions(host_limit=1 << 24, pinned=True).host_pool()
    array = host.empty(1 << 20, np.float32)
    array[:] = 3
    there = CupyPool().put(array)
    back = host.empty(1 << 20, np.float32)
    there.get(out=back)
    cupy.cuda.Stream.null.synchronize()
    assert (back == 3).all()
