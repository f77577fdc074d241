"""What the example tests share: a copy of the examples to work in, and a PATH that finds edgec and this Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone as far as the examples can see: they write into their own folders."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("out", "__pycache__"))
    return folder


@pytest.fixture
def shell(tmp_path: Path, clone: Path) -> Shell:
    """Run a script with /bin/sh in the clone; `edgec`, `python` and `python3` are those that run the tests."""
    programs = tmp_path / "bin"
    programs.mkdir()
    start = "import sys; from edgec.cli.main import main; sys.exit(main())"
    commands = {"python": '"$@"', "python3": '"$@"', "edgec": f"-c '{start}' \"$@\""}
    for name, arguments in commands.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n', encoding="utf-8")
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-euc", script, "sh", *arguments],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
