"""Tables for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.converter.import_ import ImportResult
    from edgec.converter.quantize import QuantizeResult


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


def show_table(
    screen: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    right: Sequence[str] = (),
    folded: str | None = None,
) -> None:
    """A table on the screen or, where that is too narrow for it, a line per cell; never a number cut short.

    Args:
        right: headings of the columns that are aligned to the right.
        folded: heading of the one column that may take several lines per row.
    """
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for heading in headings:
        grid.add_column(Text(heading), justify="right" if heading in right else "left", no_wrap=heading != folded)
    for row in rows:
        grid.add_row(*map(Text, row))
    if title:
        screen.print(Text(title), style="italic")
    needed = Measurement.get(screen, screen.options.update(max_width=10_000), grid)
    if (needed.maximum if folded is None else needed.minimum) <= screen.width:
        screen.print(grid)
        return
    label = max(map(len, headings))
    for row in rows:
        for heading, cell in zip(headings, row):
            if cell:
                screen.print(Text(f"{heading:{label}}  {cell}" if heading else f"{'':{label}}  {cell}"))
        if len(rows) > 1:
            screen.print()


def size(count: float) -> str:
    """Bytes in units that a person reads."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def show_verification(verification: dict[str, Any], *, error: bool = False) -> None:
    """The table of a verification report on standard output, or with ``error`` on standard error."""
    from edgec.converter.verification.render import plain, render

    file = sys.stderr if error else sys.stdout
    if not file.isatty() and not os.environ.get("FORCE_COLOR"):
        import click

        click.echo(plain(verification), file=file)
        return
    from rich.console import Console

    Console(file=file, width=None if file.isatty() else 140, highlight=False).print(render(verification))


def show_written(result: ImportResult | QuantizeResult) -> None:
    """Notes, verification, name and size of an ONNX model that was written."""
    import click

    for note in result.notes:
        click.echo(f"note: {note}")
    show_verification(result.report.to_json())
    total = sum(path.stat().st_size for path in result.files)
    click.echo(f"model: {result.model} ({size(total)}, opset {result.opset})")
