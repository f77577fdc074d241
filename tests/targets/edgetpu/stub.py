"""A Python script in the place of `edgetpu_compiler`: says what it is told to say, writes what it is told to write."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """#!{python}
import shutil, sys, time
from pathlib import Path

VERSION, RUNS, MEMORY = {version!r}, {runs!r}, Path({memory!r})
if "--version" in sys.argv:
    sys.stdout.write(VERSION)
    raise SystemExit(0)
count = int(MEMORY.read_text()) if MEMORY.exists() else 0
MEMORY.write_text(str(count + 1))
MEMORY.with_suffix(".arguments").write_text("\\n".join(sys.argv[1:]))
run = RUNS[min(count, len(RUNS) - 1)]
sys.stdout.write(run["says"])
sys.stdout.flush()
for name, origin in run["writes"].items():
    if origin:
        shutil.copyfile(origin, name)
    else:
        Path(name).write_bytes(b"")
for name, text in run["texts"].items():
    Path(name).write_text(text)
time.sleep(run["sleeps"])
raise SystemExit(run["status"])
"""


@dataclass(frozen=True)
class Run:
    """One run: what it prints, which files it copies into its folder (from nothing: empty), texts, time, status."""

    says: str = ""
    writes: Mapping[str, Path | None] | None = None
    texts: Mapping[str, str] | None = None
    sleeps: float = 0.0
    status: int = 0


@dataclass(frozen=True)
class Stub:
    """The script, and what it noted."""

    program: Path
    memory: Path

    @property
    def count(self) -> int:
        return int(self.memory.read_text()) if self.memory.exists() else 0

    @property
    def arguments(self) -> list[str]:
        return self.memory.with_suffix(".arguments").read_text().splitlines()


def stub(folder: Path, *runs: Run, version: str = "Edge TPU Compiler version 16.0.384591198\n") -> Stub:
    """Write the script; the last run repeats."""
    folder.mkdir(parents=True, exist_ok=True)
    program, memory = folder / "edgetpu_compiler", folder / "count"
    text = SCRIPT.format(python=sys.executable, version=version, runs=[_plain(run) for run in runs], memory=str(memory))
    program.write_text(text)
    program.chmod(0o755)
    return Stub(program, memory)


def _plain(run: Run) -> dict[str, object]:
    writes = {name: None if origin is None else str(origin) for name, origin in (run.writes or {}).items()}
    return {
        "says": run.says,
        "writes": writes,
        "texts": dict(run.texts or {}),
        "sleeps": run.sleeps,
        "status": run.status,
    }


def names(stems: Sequence[str]) -> list[str]:
    """The outputs for stems."""
    return [f"{stem}_edgetpu.tflite" for stem in stems]
