"""CPU seconds and peak memory of a whole process tree."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MESSAGE_CHARACTERS = 300
LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class ProcessCost:
    """What one run cost, memory in 10^6 bytes: of the largest process of the tree, and of the whole tree at once."""

    returncode: int
    cpu_seconds: float
    wall_seconds: float
    largest_process_megabytes: float
    peak_megabytes: float
    message: str


def run_measured(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> ProcessCost:
    """Run a command in `folder` to its end; user and system time of it and of all its waited-for children (wait4).

    Python may write bytecode, whatever this process was told, so that from the second run on edgec's is there, as it is
    for the peers, which were installed: what is measured is the command, not the compilation of its source.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        result = Path(scratch) / "result.json"
        subprocess.run(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(result), *command],
            cwd=folder,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
        cost = json.loads(result.read_text())
        log.seek(0)
        text = log.read().decode(errors="replace")
    return ProcessCost(
        returncode=cost["returncode"],
        cpu_seconds=cost["cpu_seconds"],
        wall_seconds=cost["wall_seconds"],
        largest_process_megabytes=cost["largest_process_megabytes"],
        peak_megabytes=cost["tree_megabytes"],
        message="" if cost["returncode"] == 0 else _message(text),
    )


def _message(text: str) -> str:
    """The line that says what failed: edgec's error, or the last one, which is Python's; no paths of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return next((line for line in lines if line.startswith("EDG")), lines[-1])[:MESSAGE_CHARACTERS]


def summary(costs: Sequence[ProcessCost]) -> dict[str, object]:
    """Medians over the runs that ended with exit code 0, or the last failure."""
    good = [cost for cost in costs if cost.returncode == 0]
    if not good:
        return {"ok": False, "returncode": costs[-1].returncode, "message": costs[-1].message}
    return {
        "ok": True,
        "runs": len(good),
        "cpu_seconds": round(statistics.median(cost.cpu_seconds for cost in good), 3),
        "cpu_seconds_all": [round(cost.cpu_seconds, 3) for cost in good],
        "wall_seconds": round(statistics.median(cost.wall_seconds for cost in good), 3),
        "largest_process_megabytes": round(statistics.median(cost.largest_process_megabytes for cost in good), 1),
        "peak_megabytes": round(statistics.median(cost.peak_megabytes for cost in good), 1),
    }
