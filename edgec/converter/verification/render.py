"""A verification report as a table for people.

It is as wide as their terminal: what fits least is left out first.  A file or a pipe gets every column, and does not
wait for the import of rich.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

_STYLES: Final = {"passed": "green", "constant": "green", "unverified": "yellow", "failed": "bold red"}
_COLUMNS: Final = (
    ("output", "left"),
    ("shape", "left"),
    ("max abs", "right"),
    ("max rel", "right"),
    ("rel L2", "right"),
    ("limit", "right"),
    ("SQNR dB", "right"),
    ("argmax", "right"),
    ("worst channel", "right"),
    ("", "left"),
)
_EXPENDABLE: Final = ("worst channel", "max rel", "argmax", "shape", "max abs", "SQNR dB")
"""Columns in the order in which they give way."""


def render(verification: dict[str, Any]) -> RenderableType:
    """The ``verification`` member of a manifest or document as a table and its notes."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = [_OutputTable(verification["outputs"])] if verification["outputs"] else []
    lines.extend(Text(text, style=style) for text, style in _remarks(verification))
    return Group(*lines)


def plain(verification: dict[str, Any]) -> str:
    """The same as lines of text, each output on one line however long."""
    rows = [_cells(output) for output in verification["outputs"]]
    empty = _empty(rows)
    shown = [(title, justify) for title, justify in _COLUMNS if title not in empty]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title, _ in shown} if rows else {}
    heading = {title: title for title, _ in shown}
    lines = [
        "  ".join(
            row[title].rjust(widths[title]) if justify == "right" else row[title].ljust(widths[title])
            for title, justify in shown
        ).rstrip()
        for row in ([heading, *rows] if rows else [])
    ]
    return "\n".join([*lines, *(text for text, _ in _remarks(verification))])


def _remarks(verification: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands below the table, and the style of each."""
    lines = [
        (f"{output['name']}: {output['why']}", _STYLES[output["status"]])
        for output in verification["outputs"]
        if output["status"] not in ("passed", "constant")
    ]
    lines += [(f"interface: {problem}", "bold red") for problem in verification["interface"]]
    return [*lines, (_summary(verification), "dim"), *((note, "dim") for note in verification["notes"])]


def _empty(rows: list[dict[str, str]]) -> set[str]:
    """Titles of the columns that say nothing of any output."""
    return {title for title, _ in _COLUMNS if title and not any(row[title] for row in rows)}


class _OutputTable:
    """One row per output, and the columns that the console has room for."""

    def __init__(self, outputs: list[dict[str, Any]]):
        self.rows = [_cells(output) for output in outputs]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement

        left_out = _empty(self.rows)
        for title in (None, *_EXPENDABLE):
            left_out |= {title} if title is not None else set()
            table = self._table(left_out)
            if Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width:
                break
        yield table

    def _table(self, left_out: set[str]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        shown = [column for column in _COLUMNS if column[0] not in left_out]
        for title, justify in shown:
            table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(row[title], style=_STYLES[row[""]] if not title else "") for title, _ in shown))
        return table


def _cells(output: dict[str, Any]) -> dict[str, str]:
    worst = output["worst_channel"]
    return {
        "output": output["name"],
        "shape": f"{output['dtype']}[{','.join(str(dim) for dim in output['shape'])}]",
        "max abs": _number(output["max_abs"]),
        "max rel": _number(output["max_rel"]),
        "rel L2": _number(output["relative_l2"]),
        "limit": _number(output["threshold"]),
        "SQNR dB": "exact" if output["sqnr_db"] is None and output["max_abs"] == 0 else _number(output["sqnr_db"]),
        "argmax": "" if output["argmax_agreement"] is None else f"{output['argmax_agreement']:.1%}",
        "worst channel": "" if worst is None else f"{worst['index']}: {_number(worst['relative_l2'])}",
        "": output["status"],
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _summary(verification: dict[str, Any]) -> str:
    samples, seed = verification["samples"], verification["seed"]
    origin = "of the given data" if seed is None else f"drawn at random, seed {seed}"
    levels = ", ".join(f"{level} {state}" for level, state in verification["levels"].items())
    runtime = verification["reference"]
    plural = "sample" if samples == 1 else "samples"
    return f"{samples} {plural} {origin}; reference {runtime['runtime']} {runtime['version']}; {levels}"
