"""Tables on screens of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgec.cli.tables import show_table

HEADINGS = ("batch", "latency", "samples/s", "remark")
ROWS = [["1", "90.56 us", "1.104e+04", "the fastest [bold] one"], ["8", "612.3 us", "1.307e+04", ""]]


def shown(width: int, **options: object) -> str:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    show_table(screen, HEADINGS, ROWS, **options)  # type: ignore[arg-type]
    return screen.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("folded", [None, "remark"])
@pytest.mark.parametrize("width", range(20, 90, 5))
def test_no_number_is_ever_cut_short(width: int, folded: str | None) -> None:
    text = shown(width, title="measured", folded=folded)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.startswith("measured\n")
    for cell in ("90.56 us", "1.104e+04", "612.3 us", "1.307e+04"):
        assert cell in text
    assert " ".join(text.split()).count("[bold]") == 1


def test_a_narrow_screen_gets_a_line_per_cell_and_a_wide_one_a_row() -> None:
    assert "1 90.56 us 1.104e+04" in " ".join(shown(80).split())
    narrow = shown(36).splitlines()
    assert narrow[:3] == ["batch      1", "latency    90.56 us", "samples/s  1.104e+04"]
    assert not [line for line in narrow if line.startswith("remark") and not line[6:].strip()]
