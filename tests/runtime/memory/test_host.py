"""The host pool: memory comes back when nothing can reach it any more, never before, and never twice."""

from __future__ import annotations

import gc
import itertools
import mmap
import os
import pickle
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest

from edgec.errors import EdgecError, UsageError
from edgec.runtime.memory import HostPool, PoolExhausted


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_arrays_have_the_shape_and_dtype_asked_for_and_lie_at_aligned_addresses_in_the_pool() -> None:
    pool = HostPool(alignment=64)
    for shape, dtype in (((3, 5), "f4"), ((), np.float64), (7, np.uint8), ((2, 0), "i8"), ([1, 2, 3], np.float16)):
        array = pool.empty(shape, dtype)
        assert array.shape == np.empty(shape).shape and array.dtype == np.dtype(dtype)
        assert address(array) % 64 == 0
        assert array.flags.c_contiguous and array.flags.writeable and type(array) is np.ndarray
        assert pool.owns(array)
        assert pool.owns(array.T[..., ::-1] if array.ndim else array)
    assert not pool.owns(np.empty(3))


@pytest.mark.parametrize("alignment", [1, 64, 4096, 1 << 16, 1 << 21])
def test_a_stricter_alignment_is_kept(alignment: int) -> None:
    pool = HostPool()
    arrays = [pool.empty(100, "f4", alignment=alignment) for _ in range(3)]
    assert all(address(array) % max(64, alignment) == 0 for array in arrays)
    strict = HostPool(alignment=alignment)
    assert address(strict.empty(3, "u1")) % alignment == 0


def test_memory_comes_back_with_the_last_view_not_with_the_array() -> None:
    pool = HostPool()
    array = pool.empty((4, 8), np.int32)
    array[:] = 7
    view = array[1:, ::2].T
    del array
    other = pool.empty((4, 8), np.int32)
    other[:] = 0
    assert (view == 7).all()
    assert pool.statistics().live == 2
    del view
    assert pool.statistics().live == 1
    assert pool.statistics().in_use == 128


def taken(pool: HostPool) -> int:
    """Bytes that are neither free nor in an array; must be 0."""
    found = pool.statistics()
    return found.reserved - found.free - found.in_use


@pytest.mark.parametrize("shape", [(1,) * 65, (1 << 31, 1 << 31, 0), (-1,), (2, -3)])
def test_a_shape_that_no_array_can_have_is_refused_and_takes_nothing(shape: tuple[int, ...]) -> None:
    pool = HostPool()
    kept = pool.empty(3, "f4")
    with pytest.raises(UsageError) as caught:
        pool.empty(shape, "f4")
    assert caught.value.code == "EDG712"
    assert taken(pool) == 0 and pool.statistics().live == 1 and pool.owns(kept)


@pytest.mark.parametrize("dtype", ["S", "U", "V", "S0", np.dtype([]), ("f4", (3,)), ("f4", (0,)), "M8[s]", "c16"])
def test_odd_dtypes_get_as_many_bytes_as_their_arrays_reach(dtype: object) -> None:
    pool = HostPool()
    arrays = [pool.empty(1000, dtype) for _ in range(3)]  # type: ignore[arg-type]
    ends = sorted((address(array), address(array) + array.nbytes) for array in arrays)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    assert all(pool.owns(array) for array in arrays) and taken(pool) == 0


@pytest.mark.parametrize("dtype", ["O", np.dtypes.StringDType(), [("name", "O"), ("size", "i4")]])
def test_arrays_of_objects_are_refused(dtype: object) -> None:
    with pytest.raises(UsageError, match="cannot lie in a pool"):
        HostPool().empty(3, dtype)  # type: ignore[arg-type]


def test_the_smallest_arena_that_will_do_is_taken_where_the_system_has_no_larger_one() -> None:
    asked: list[int] = []

    def scarce(size: int) -> mmap.mmap:
        asked.append(size)
        if size > 100_000:
            raise MemoryError("no more than 100 kB at once")
        return mmap.mmap(-1, size)

    pool = HostPool(source=scarce, alignment=64)
    array = pool.empty(1000, "f4")
    assert pool.owns(array) and asked == [1 << 20, 4096] and pool.statistics().refused == 0
    with pytest.raises(PoolExhausted):
        pool.empty(100_000, "f4")
    assert pool.statistics().refused == 1 and taken(pool) == 0


class Finalized:
    """Does something when the garbage collector, not a reference count, ends it."""

    def __init__(self, action: object):
        self.action, self.cycle = action, self

    def __del__(self) -> None:
        self.action()  # type: ignore[operator]


def collecting() -> HostPool:
    """A pool that runs the garbage collector in the middle of its second growth."""
    sizes: list[int] = []

    def source(size: int) -> mmap.mmap:
        sizes.append(size)
        if len(sizes) > 1:
            gc.collect()
        return mmap.mmap(-1, size)

    return HostPool(source=source, initial_chunk=4096, extend="same-as-requested")


@pytest.mark.parametrize("looked_into", [False, True])
def test_a_finalizer_may_release_in_the_middle_of_another_call(looked_into: bool) -> None:
    pool, said = collecting(), []
    given = pool.empty(4, "f4")
    given[:] = 7
    view = memoryview(given) if looked_into else None
    Finalized(lambda array=given: said.append(pool.release(array)))
    del given
    large = pool.empty(1 << 16, "u1")
    assert said == [False], "it is done by the next call"
    others = [pool.empty(4, "f4") for _ in range(300)]
    for other in others:
        other[:] = 0
    assert pool.owns(large) and taken(pool) == 0
    if view is not None:
        assert view.tolist() == [7, 7, 7, 7]
        view.release()
    del view, others, large, other
    gc.collect()
    assert pool.statistics().live == 0 and pool.statistics().in_use == 0


def test_a_finalizer_that_allocates_in_the_middle_of_another_call_is_told() -> None:
    """Instead of a deadlock, or of blocks that are handed out twice."""
    pool = collecting()
    small, said = pool.empty(4, "f4"), []

    def allocate() -> None:
        try:
            pool.empty(4, "f4")
        except UsageError as error:
            said.append((error.code, str(error.why)))

    Finalized(allocate)
    assert pool.owns(pool.empty(1 << 16, "u1")) and pool.owns(small)
    ((code, why),) = said
    assert code == "EDG711" and "finalizer" in why


@pytest.mark.parametrize("keep", [memoryview, lambda array: array.ravel(), lambda array: array.data, iter, np.asarray])
def test_whatever_looks_into_an_array_keeps_its_memory(keep) -> None:  # type: ignore[no-untyped-def]
    pool = HostPool()
    array = pool.empty(1000, np.float32)
    keeper = keep(array)
    del array
    assert pool.statistics().live == 1
    del keeper
    assert pool.statistics().live == 0


def test_a_cycle_gives_its_memory_back_when_it_is_collected() -> None:
    pool = HostPool()
    box: list[object] = [pool.empty(10, "u1")]
    box.append(box)
    del box
    gc.collect()
    assert pool.statistics().live == 0


def test_a_released_array_is_empty_and_its_memory_free_at_once() -> None:
    pool = HostPool(limit=1 << 20)
    array = pool.empty(1 << 18, np.float32)
    place = address(array)
    assert pool.release(array) is True
    assert array.shape == (0,)
    assert pool.statistics().in_use == 0
    again = pool.empty(1 << 18, np.float32)  # the limit leaves room for one
    assert address(again) == place


def test_a_release_waits_for_views_which_stay_valid() -> None:
    pool = HostPool()
    array = pool.empty(64, np.uint8)
    array[:] = 3
    view = array[8:16]
    assert pool.release(array) is False
    assert array.shape == (0,)
    assert pool.statistics().waiting == 64
    pool.empty(64, np.uint8)[:] = 9
    assert (view == 3).all()
    assert [leak.released for leak in pool.leaks()] == [True]
    del view
    assert pool.statistics().in_use == 0


@pytest.mark.parametrize(
    "export", [memoryview, lambda array: np.ndarray.view(array, np.recarray), lambda array: [array]]
)
def test_a_release_waits_for_exported_buffers_and_other_owners(export) -> None:  # type: ignore[no-untyped-def]
    pool = HostPool()
    array = pool.empty(64, np.uint8)
    array[:] = 3
    exported = export(array)
    assert pool.release(array) is False
    pool.empty(64, np.uint8)[:] = 9
    if not isinstance(exported, list):
        assert bytes(exported) == bytes([3] * 64)
    assert pool.statistics().waiting == 64
    del exported, array
    assert pool.statistics().in_use == 0


def test_releasing_twice_a_view_or_a_stranger_is_an_error() -> None:
    pool, other = HostPool(), HostPool()
    array = pool.empty(8, "f4")
    for wrong in (array[1:], array[1:].base, np.empty(3), other.empty(3, "f4")):
        assert wrong is not None
        with pytest.raises(UsageError) as caught:
            pool.release(wrong)
        assert caught.value.code == "EDG711"
    pool.release(array)
    with pytest.raises(UsageError):
        pool.release(array)


def test_beyond_the_limit_is_an_error_that_is_a_memory_error_and_names_the_numbers() -> None:
    pool = HostPool(limit=4096, initial_chunk=1024)
    kept = [pool.empty(1024, np.uint8) for _ in range(4)]
    with pytest.raises(MemoryError) as caught:
        pool.empty(1, np.uint8)
    assert isinstance(caught.value, PoolExhausted) and isinstance(caught.value, EdgecError)
    assert caught.value.code == "EDG710" and caught.value.details["in_use"] == 4096
    assert "4.0 KiB" in str(caught.value)
    assert pool.statistics().reserved == 4096 and pool.statistics().refused == 1
    kept.pop()
    assert pool.empty(1000, np.uint8).size == 1000
    with pytest.raises(PoolExhausted):
        HostPool(limit=100).empty(101, np.uint8)
    assert HostPool(limit=128).empty(101, np.uint8).size == 101


def test_idle_arenas_make_room_under_the_limit() -> None:
    pool = HostPool(limit=1 << 20, initial_chunk=0, extend="same-as-requested")
    small = [pool.empty(1 << 18, np.uint8) for _ in range(4)]
    assert pool.statistics().arenas == 4
    small.clear()
    large = pool.empty(1 << 20, np.uint8)  # no arena holds it; four idle ones are given up for it
    assert large.size == 1 << 20
    assert pool.statistics().peak_reserved == 1 << 20


def test_an_absurd_size_is_refused_and_the_pool_goes_on() -> None:
    pool = HostPool()
    with pytest.raises(PoolExhausted):
        pool.empty(1 << 60, np.uint8)
    assert pool.empty(10, np.uint8).size == 10
    assert pool.statistics().live <= 1


@pytest.mark.parametrize(("extend", "arenas"), [("power-of-two", 4), ("same-as-requested", 8)])
def test_the_pool_grows_as_the_strategy_says(extend, arenas: int) -> None:  # type: ignore[no-untyped-def]
    pool = HostPool(initial_chunk=1 << 16, extend=extend)
    kept = [pool.empty(1 << 16, np.uint8) for _ in range(8)]
    assert pool.statistics().arenas == arenas
    assert pool.statistics().reserved == len(kept) << 16
    assert pool.trim() == 0
    kept.clear()
    assert pool.trim() == 8 << 16
    assert pool.statistics().reserved == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: HostPool(alignment=48),
        lambda: HostPool(limit=-1),
        lambda: HostPool(extend="twice"),  # type: ignore[arg-type]
        lambda: HostPool().empty(3, object),
        lambda: HostPool().empty(-3, "f4"),
        lambda: HostPool().empty(3, "f4", alignment=3),
    ],
)
def test_arguments_out_of_range_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == "EDG712"


def test_statistics_add_up() -> None:
    pool = HostPool(initial_chunk=1 << 16)
    kept = [pool.empty(100, np.uint8) for _ in range(10)]
    del kept[1], kept[5]
    found = pool.statistics()
    assert found.in_use == 8 * 128 and found.requested == 800 and found.live == 8
    assert found.reserved == found.in_use + found.free == 1 << 16
    assert found.peak_in_use == 10 * 128
    assert (found.allocations, found.returns) == (10, 2)
    assert found.largest_free == (1 << 16) - 10 * 128
    assert found.fragmentation == pytest.approx(2 * 128 / found.free)
    kept.clear()
    assert pool.statistics().fragmentation == 0
    pool.reset_peak()
    assert pool.statistics().peak_in_use == 0
    assert set(found.to_json()) >= {"limit", "in_use", "fragmentation"}


def test_leaks_name_the_line_that_allocated() -> None:
    pool = HostPool(frames=2)
    kept = pool.empty((2, 3), np.float32)
    leaks = pool.leaks()
    assert len(leaks) == 1 and leaks[0].shape == (2, 3)
    assert "test_host.py" in leaks[0].where[0] and "test_leaks_name" in leaks[0].where[0]
    assert len(leaks[0].where) == 2
    assert "64 bytes" in str(leaks[0])
    del kept
    assert pool.leaks() == []


def test_leaving_the_block_warns_of_arrays_that_are_out_and_they_stay_valid() -> None:
    with pytest.warns(ResourceWarning, match=r"test_host\.py"), HostPool() as pool:
        kept = pool.empty(100, np.int64)
    kept[:] = 5
    with pytest.raises(UsageError) as caught:
        pool.empty(1, "u1")
    assert caught.value.code == "EDG711"
    gone = weakref.ref(pool)
    del pool, caught
    gc.collect()
    assert gone() is None
    assert kept.sum() == 500
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with HostPool() as clean:
            clean.empty(10, "f4")
    assert clean.statistics().reserved == 0


def test_arrays_can_be_pickled_and_copied_out() -> None:
    pool = HostPool()
    array = pool.empty(5, "f4")
    array[:] = 2
    copy = pickle.loads(pickle.dumps(array))  # noqa: S301  (our own bytes)
    del array
    assert copy.tolist() == [2] * 5 and not pool.owns(copy)


def test_memory_may_come_from_elsewhere() -> None:
    made: list[bytearray] = []

    def source(size: int) -> bytearray:
        made.append(bytearray(size))
        return made[-1]

    pool = HostPool(limit=1 << 16, initial_chunk=1 << 12, source=source)
    kept = [pool.empty(n, np.uint8, alignment=128) for n in (1, 1000, 5000, 9000)]
    for number, array in enumerate(kept):
        assert address(array) % 128 == 0
        array[:] = number
    assert [set(array.tolist()) for array in kept] == [{0}, {1}, {2}, {3}]


def test_a_forked_child_has_copies_and_a_pool_that_works() -> None:
    pool = HostPool()
    array = pool.empty(100, np.uint8)
    array[:] = 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            array[:] = 2
            mine = pool.empty(100, np.uint8)
            mine[:] = 3
            os.write(write, bytes([int(array[0]), int(mine[0]), pool.statistics().live]))
        finally:
            os._exit(0)
    os.close(write)
    try:
        answer = os.read(read, 3)
    finally:
        os.close(read)
        os.waitpid(child, 0)
    assert answer == bytes([2, 3, 2])
    assert (array == 1).all() and pool.statistics().live == 1


FORKING = """
import os, sys, threading
from edgec.runtime.memory import HostPool

sys.setswitchinterval(1e-6)
kept, over = [HostPool() for _ in range(300)], threading.Event()

def make():
    while not over.is_set():
        HostPool()

threads = [threading.Thread(target=make) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(40):
    child = os.fork()
    if not child:
        kept[0].empty(3, "f4")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
for thread in threads:
    thread.join()
"""


def test_pools_may_be_made_while_another_thread_forks() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
