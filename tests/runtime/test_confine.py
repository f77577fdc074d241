"""A confined process writes into its own folder and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import environment

SCRIPT = """
import socket, sys
from edgec.runtime.confine import confine
if not confine([sys.argv[1]]):
    print("not available")
    raise SystemExit
open(sys.argv[1] + "/inside", "w").close()
open("/dev/null", "w").close()
print("inside")
for attempt in (lambda: open(sys.argv[2] + "/outside", "w"), lambda: open(sys.argv[2] + "/kept", "r+")):
    try:
        attempt()
    except PermissionError:
        print("refused")
print(open(sys.argv[2] + "/kept").read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is a part of Linux")
def test_writing_outside_is_refused_and_reading_is_not(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    (other / "kept").write_text("kept", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(own), str(other)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "not available" in result.stdout:
        pytest.skip("this kernel has no Landlock")
    assert result.stdout.split() == ["inside", "refused", "refused", "kept"], result.stderr
    assert [item.name for item in other.iterdir()] == ["kept"]
