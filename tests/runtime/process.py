"""What this process holds: threads and memory; and what its runtimes lack."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def threads() -> int:
    """Threads of this process."""
    folder = Path("/proc/self/task")
    if not folder.is_dir():
        pytest.skip("the threads of the process are listed on Linux only")
    return len(list(folder.iterdir()))


def resident() -> int:
    """Bytes of memory that this process has in use."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory of the process is told on Linux only")
    return int(statm.read_text().split()[1]) * 4096


def settled_threads(most: int) -> int:
    """Threads once there are at most so many, or after ten seconds: the kernel lists one for a moment after its end."""
    limit = time.monotonic() + 10
    while threads() > most and time.monotonic() < limit:
        time.sleep(0.01)
    return threads()


def growth(cycle: Callable[[], None], rounds: int = 20) -> int:
    """Bytes that repeating something adds to the process, after three rounds to warm up."""
    for _ in range(3):
        cycle()
    gc.collect()
    before = resident()
    for _ in range(rounds):
        cycle()
    gc.collect()
    return resident() - before


def needs_compiled(api: str = "compiled") -> None:
    """Skip where LiteRT is older than the options of its compiled model."""
    from ai_edge_litert import compiled_model

    if api == "compiled" and not hasattr(compiled_model, "CpuOptions"):
        pytest.skip("this version of LiteRT has no compiled model with options")
