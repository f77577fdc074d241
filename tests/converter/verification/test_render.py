"""The table of a verification, at the widths of real terminals."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from edgec.converter.verification.render import plain, render


def output(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name, "dtype": "float32", "shape": [1, 2, 120, 160], "max_abs": 1.23e-07, "max_rel": 4.5e-05,
        "relative_l2": 1.1e-07, "threshold": 1e-4, "sqnr_db": 138.6, "argmax_agreement": 1.0,
        "worst_channel": {"index": 12, "relative_l2": 2.2e-07}, "status": "passed", "why": "", **changed,
    }  # fmt: skip


def report(*outputs: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "outputs": list(outputs), "interface": [], "samples": 3, "seed": 0, "levels": {"model": "passed"},
        "reference": {"runtime": "ONNX Runtime", "version": "1.31"}, "notes": [], **changed,
    }  # fmt: skip


def lines(width: int, *outputs: dict[str, Any], **changed: Any) -> list[str]:
    console = Console(file=StringIO(), width=width)
    console.print(render(report(*outputs, **changed)))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_output_has_one_line_with_its_status(width: int) -> None:
    header, first, second, *_ = lines(width, output("heatmap"), output("landmarks", status="failed", why="off"))
    assert max(len(line) for line in (header, first, second)) <= width
    assert first.startswith("heatmap") and first.endswith("passed")
    assert second.startswith("landmarks") and second.endswith("failed")
    assert "rel L2" in header and "limit" in header


def test_a_wide_terminal_shows_every_column() -> None:
    header = lines(200, output("y"))[0]
    assert all(title in header for title in ("max abs", "max rel", "SQNR dB", "argmax", "worst channel"))


def test_columns_that_are_empty_for_all_outputs_are_left_out() -> None:
    assert "argmax" not in lines(200, output("y", argmax_agreement=None))[0]


def test_a_name_longer_than_the_terminal_is_folded_not_cut() -> None:
    name = "StatefulPartitionedCall/" * 5
    found = "".join(line.split()[0] for line in lines(80, output(name)) if line)
    assert name in found


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [output("y")],
        [output("y", argmax_agreement=None, worst_channel=None), output("heat", max_abs=0.0, sqnr_db=None)],
        [output("heatmap"), output("landmarks", status="failed", why="too far off")],
    ],
)
def test_a_file_gets_what_a_wide_terminal_shows(outputs: list[dict[str, Any]]) -> None:
    said = {"interface": ["an input is gone"], "notes": ["no device is here"]}
    assert plain(report(*outputs, **said)).splitlines() == lines(400, *outputs, **said)


def test_a_file_gets_an_output_in_one_line_however_long_its_name() -> None:
    name = "StatefulPartitionedCall/" * 20
    assert plain(report(output(name))).splitlines()[1].startswith(f"{name}  float32[1,2,120,160]")
