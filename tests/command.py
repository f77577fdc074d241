"""Run the command line as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples/digits/digits.onnx"
DIGIT_SAMPLES = ROOT / "examples/digits/samples.npz"


@dataclass(frozen=True)
class Finished:
    """Exit code and both streams of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document it must be."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment(**more: str) -> dict[str, str]:
    """The environment of this process, with the package on the path and a terminal of fixed width."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **more}


def edgec(
    *arguments: str | Path,
    timeout: float = 600,
    before: Callable[[], None] | None = None,
    module: str = "edgec",
    **more: str,
) -> Finished:
    """``python -m edgec ARGUMENTS``; ``before`` runs in the child just before it starts."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        preexec_fn=before,
    )
    return Finished(result.returncode, result.stdout, result.stderr)


def edgec_into(arguments: Sequence[str], stdout: int | IO[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """``python -m edgec ARGUMENTS`` whose standard output goes there."""
    return subprocess.run(
        [sys.executable, "-m", "edgec", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=600,
        check=False,
        **options,
    )
