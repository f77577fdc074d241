"""How much memory this process holds."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resident:
    """Bytes of physical memory: now, and the most since the process began or :func:`reset_peak` was called."""

    current: int
    peak: int


def resident() -> Resident:
    """What the kernel counts for this process (``VmRSS`` and ``VmHWM``; elsewhere the peak alone, for both).

    Source: proc_pid_status(5); getrusage(2).
    """
    status = Path("/proc/self/status")
    if status.exists():
        found: dict[str, int] = {}
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found[name] = int(value.split()[0]) * 1024
        if len(found) == 2:
            return Resident(found["VmRSS"], max(found.values()))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = peak if sys.platform == "darwin" else peak * 1024
    return Resident(size, size)


def reset_peak() -> bool:
    """Let the peak begin anew; False where the kernel does not offer it.  Source: proc_pid_clear_refs(5)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False
