"""CPU seconds and peak memory of a whole process tree."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL_CHARACTERS = 600


@dataclass(frozen=True)
class ProcessCost:
    """What one run cost; `peak_megabytes` is the largest process of the tree, in 10^6 bytes."""

    returncode: int
    cpu_seconds: float
    wall_seconds: float
    peak_megabytes: float
    tail: str


def run_measured(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> ProcessCost:
    """Run a command in `folder` to its end; user and system time of it and of all its waited-for children (wait4)."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        text = log.read().decode(errors="replace")
    return ProcessCost(
        returncode=process.returncode,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        wall_seconds=wall,
        peak_megabytes=usage.ru_maxrss * 1024 / 1e6,
        tail="" if process.returncode == 0 else text[-TAIL_CHARACTERS:],
    )


def summary(costs: Sequence[ProcessCost]) -> dict[str, object]:
    """Medians over the runs that ended with exit code 0, or the last failure."""
    good = [cost for cost in costs if cost.returncode == 0]
    if not good:
        return {"ok": False, "returncode": costs[-1].returncode, "message": costs[-1].tail}
    return {
        "ok": True,
        "runs": len(good),
        "cpu_seconds": round(statistics.median(cost.cpu_seconds for cost in good), 3),
        "cpu_seconds_all": [round(cost.cpu_seconds, 3) for cost in good],
        "wall_seconds": round(statistics.median(cost.wall_seconds for cost in good), 3),
        "peak_megabytes": round(statistics.median(cost.peak_megabytes for cost in good), 1),
    }
