"""One record of memory options, and what it becomes for sessions and pools."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.runtime.memory import HostPool, MemoryOptions, PoolExhausted
from edgec.runtime.onnxruntime.options import Options


def test_the_defaults_change_nothing_about_a_session() -> None:
    assert Options(**MemoryOptions().session_options()) == Options()


def test_the_options_are_those_of_the_session() -> None:
    options = MemoryOptions(
        memory_pattern=True, arena_extend="same-as-requested", initial_chunk=1 << 16, device_limit=1 << 24
    )
    session = Options(**options.session_options())
    assert session.memory_pattern and session.arena_extend == "same-as-requested"
    assert (session.initial_chunk, session.device_limit) == (1 << 16, 1 << 24)


def test_what_the_provider_lacks_is_refused_not_dropped() -> None:
    with pytest.raises(EdgecError) as caught:
        Options(provider="cuda", **MemoryOptions(initial_chunk=1 << 16).session_options())
    assert caught.value.code == "EDG040"
    with pytest.raises(EdgecError):
        Options(**MemoryOptions(arena=False, device_limit=1 << 20).session_options())


def test_the_host_pool_has_the_limit_and_grows_as_asked() -> None:
    pool = MemoryOptions(host_limit=1 << 16, initial_chunk=1 << 12, arena_extend="same-as-requested").host_pool()
    assert isinstance(pool, HostPool) and pool.limit == 1 << 16
    kept = [pool.empty(1 << 12, np.uint8) for _ in range(3)]
    assert pool.statistics().reserved == len(kept) << 12
    with pytest.raises(PoolExhausted):
        pool.empty(1 << 16, np.uint8)


def test_without_an_arena_memory_returns_to_the_system_at_once() -> None:
    pool = MemoryOptions(arena=False).host_pool()
    array = pool.empty(100_000, np.uint8)
    assert pool.statistics().reserved == 102_400  # whole pages, nothing for later
    pool.release(array)
    assert pool.statistics().reserved == 0
    keeping = MemoryOptions().host_pool()
    keeping.release(keeping.empty(100_000, np.uint8))
    assert keeping.statistics().reserved == 1 << 20


def test_the_record_goes_through_json() -> None:
    options = MemoryOptions(arena_extend="power-of-two", device_limit=5, pinned=True)
    assert MemoryOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize(
    "document",
    [
        {"arenas": True},
        {"arena": 1},
        {"arena_extend": "twice"},
        {"device_limit": 0},
        {"host_limit": True},
        {"initial_chunk": 1.5},
    ],
)
def test_values_out_of_range_are_refused_by_name(document: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        MemoryOptions.from_json(document)
    assert caught.value.code == "EDG712" and next(iter(document)) in caught.value.message


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError):
        MemoryOptions().device_pool("vulkan")  # type: ignore[arg-type]
