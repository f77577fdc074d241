"""One processor for two processes that run in turns.

A host thread that only launches kernels is as fast as the processor that it happens to be on, and on a shared host a
processor is half as fast again for a second at a time, because of what its neighbours do.  Two processes that run one
after the other on the same processor meet the same of it: on an H200 the A/A differences of ONNX Runtime's CUDA
provider fell from 13 % to 1.4 % (docs/measuring.md).  Where the work itself is the processors', they are left alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

Opened = TypeVar("Opened")
LOOK_S: Final = 0.1
"""How long is looked at what the processors do; the kernel counts in hundredths of a second."""


def one_processor(device: str, *, root: Path = Path("/"), seconds: float = LOOK_S) -> int | None:
    """The processor on which both sides of a comparison on `device` (``cuda:0``) are to run; None for all of them."""
    return quietest(root=root, seconds=seconds) if device.startswith("cuda") else None


def place_of(device: str, processor: int | None) -> str:
    """The device as an A/A floor's key names it: floors on one processor are other floors."""
    return device if processor is None else f"{device}, one processor"


def in_pairs(opener: Callable[[int | None], Opened], device: str) -> Callable[[], Opened]:
    """Calls that open something twice in a row on the same processor, then on another, where it is to be one."""
    used: list[int | None] = []

    def opened() -> Opened:
        used.append(used[-1] if len(used) % 2 else one_processor(device))
        return opener(used[-1])

    return opened


def quietest(*, root: Path = Path("/"), seconds: float = LOOK_S) -> int | None:
    """The processor that has the least to do, of those that this process may use; None where nobody can say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    before = _idle(root)
    time.sleep(seconds)
    after = _idle(root)
    idle = {number: after[number] - before[number] for number in allowed & before.keys() & after.keys()}
    # The last among equals: interrupts go to the first ones.
    return max(idle, key=lambda number: (idle[number], number)) if len(idle) > 1 else None


def _idle(root: Path) -> dict[int, int]:
    """Ticks that each processor had nothing to do, since the start.  Source: proc(5), ``/proc/stat``."""
    try:
        lines = (root / "proc/stat").read_text(encoding="utf-8").splitlines()
    except OSError:  # no such file on this system
        return {}
    found: dict[int, int] = {}
    for line in lines:
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(ticks) > 3:
            found[int(name[3:])] = int(ticks[3])
    return found
