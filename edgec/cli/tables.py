"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def table(rows: Iterable[Sequence[object]], heading: Sequence[str] = ()) -> str:
    """Rows as lines with aligned columns, numbers to the right; the last column is never padded."""
    cells = [[str(cell) for cell in row] for row in ([heading] if heading else []) + list(rows)]
    if not cells:
        return ""
    body = cells[1:] if heading else cells
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    numeric = [bool(body) and all(row[column].isdigit() for row in body) for column in range(len(widths))]
    lines = []
    for row in cells:
        padded = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes in units that a person reads."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def show_verification(verification: dict[str, Any], *, error: bool = False) -> None:
    """The table of a verification report on standard output, or with ``error`` on standard error."""
    from rich.console import Console

    from edgec.converter.verification.render import render

    file = sys.stderr if error else sys.stdout
    Console(file=file, width=None if file.isatty() else 140, highlight=False).print(render(verification))
