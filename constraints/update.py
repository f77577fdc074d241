"""Write constraints/ci.txt anew: every package that the checks install, pinned, with the hash of its file.

    python constraints/update.py

Asks pip what it would install for ``.[dev]`` on this machine; the hashes are those of the files for its platform (CI
runs on Linux x86-64 with Python 3.11).  Only CI uses the pins: what users install stays unpinned.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HEADER = """\
# Written by constraints/update.py for Linux x86-64 and Python 3.11: do not edit.
#     pip install --require-hashes -r constraints/ci.txt && pip install --no-deps --no-build-isolation .
"""


def resolve() -> list[dict[str, Any]]:
    """What pip would install, as the entries of its installation report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), f"{HERE.parent}[dev]", "hatchling"], check=True)
        entries: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return entries


def pin(entry: dict[str, Any]) -> str:
    """One requirement with its hash."""
    data, archive = entry["metadata"], entry["download_info"]["archive_info"]
    return f"{data['name'].lower()}=={data['version']} --hash=sha256:{archive['hashes']['sha256']}"


def main() -> None:
    """Resolve and write."""
    pins = sorted(pin(entry) for entry in resolve() if entry["metadata"]["name"] != "edgec")
    (HERE / "ci.txt").write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
