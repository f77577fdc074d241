"""What the benchmark of quantized models rests on: on the same integers no operator is more than one step away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quantized import PAIRS, WAYS, measure, table

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.mark.slow
def test_every_operator_of_digits_is_within_one_step_however_it_was_quantized(tmp_path: Path) -> None:
    samples = np.load(DIGITS / "samples.npz")["x"][:19]
    rows = measure("digits", DIGITS / "digits.onnx", samples, tmp_path, 3)
    assert [row["quantized by"] for row in rows] == ["edgec", *WAYS]
    for row in rows:
        assert max(row["whole"]["XNNPACK/integer"]) <= 1
        for kind, apart in row["operators"].items():
            near = [apart[f"{a}/{b}"] for a, b in PAIRS if b != "default"]  # where sums saturate without VNNI
            assert max(near) <= 1, f"{kind} of {row['quantized by']}: {apart}"
        assert all(counts["XNNPACK/integer"] == 0 for counts in row.get("differing", {}).values())
    assert sum(len(row["operators"]) > 4 for row in rows) == 4
    assert table(rows, 3, "").count("| digits |") == 5
