"""A verification report as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"passed": "green", "constant": "green", "unverified": "yellow", "failed": "bold red"}


def render(verification: dict[str, Any]) -> RenderableType:
    """The ``verification`` member of a manifest or document as a table and its notes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
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
    ):
        table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
    for output in verification["outputs"]:
        worst = output["worst_channel"]
        status = output["status"]
        table.add_row(
            output["name"],
            f"{output['dtype']}[{','.join(str(dim) for dim in output['shape'])}]",
            _number(output["max_abs"]),
            _number(output["max_rel"]),
            _number(output["relative_l2"]),
            _number(output["threshold"]),
            "exact" if output["sqnr_db"] is None and output["max_abs"] == 0 else _number(output["sqnr_db"]),
            "" if output["argmax_agreement"] is None else f"{output['argmax_agreement']:.1%}",
            "" if worst is None else f"{worst['index']}: {_number(worst['relative_l2'])}",
            Text(status, style=_STYLES[status]),
        )
    lines: list[RenderableType] = [table] if verification["outputs"] else []
    for output in verification["outputs"]:
        if output["status"] not in ("passed", "constant"):
            lines.append(Text(f"{output['name']}: {output['why']}", style=_STYLES[output["status"]]))
    lines.extend(Text(f"interface: {problem}", style="bold red") for problem in verification["interface"])
    lines.append(Text(_summary(verification), style="dim"))
    lines.extend(Text(note, style="dim") for note in verification["notes"])
    return Group(*lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _summary(verification: dict[str, Any]) -> str:
    samples, seed = verification["samples"], verification["seed"]
    origin = "of the given data" if seed is None else f"drawn at random, seed {seed}"
    levels = ", ".join(f"{level} {state}" for level, state in verification["levels"].items())
    runtime = verification["reference"]
    plural = "sample" if samples == 1 else "samples"
    return f"{samples} {plural} {origin}; reference {runtime['runtime']} {runtime['version']}; {levels}"
