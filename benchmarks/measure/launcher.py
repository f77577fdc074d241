"""Run one command and print what it cost, as JSON: `python -I launcher.py RESULT COMMAND...`.

A small process between the benchmark and the command: Linux counts the memory of the process that forked into the peak
of the one that it started (the peak survives exec), and the benchmark itself is large. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

INTERVAL_SECONDS = 0.01


def main() -> None:
    """Run the command to its end, watching the memory of its tree."""
    result, command = Path(sys.argv[1]), sys.argv[2:]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ended = threading.Event()
    peaks: list[int] = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    ended.set()
    watcher.join()
    document = {
        "returncode": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": wall,
        "largest_process_megabytes": usage.ru_maxrss * 1024 / 1e6,
        "tree_megabytes": max(peaks[0] * 1024, usage.ru_maxrss * 1024) / 1e6,
    }
    result.write_text(json.dumps(document))


def _watch(root: int, ended: threading.Event, peaks: list[int]) -> None:
    """Keep the largest sum seen over the tree, in kibibytes; only sums of several processes say more than wait4."""
    while not ended.wait(INTERVAL_SECONDS):
        tree = _tree(root)
        if len(tree) > 1:
            peaks[0] = max(peaks[0], sum(_proportional_kibibytes(process) for process in tree))


def _tree(root: int) -> list[int]:
    found = [root]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += [int(child) for child in _read(task).split()]
    return found


def _proportional_kibibytes(process: int) -> int:
    """Resident memory with shared pages divided among those that share them (Pss)."""
    for line in _read(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


if __name__ == "__main__":
    main()
