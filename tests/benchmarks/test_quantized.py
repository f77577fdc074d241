"""What the benchmark of quantized models rests on: on the same integers no operator is more than one step away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quantized import PAIRS, WAYS, joined, kept, measure, processor, table

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


def test_rows_of_other_models_are_kept_if_they_were_measured_alike(tmp_path: Path) -> None:
    first, second, third = ({"model": name, "quantized by": way} for name, way in (("a", "1"), ("b", "1"), ("b", "2")))
    (tmp_path / "quantized.json").write_text(
        json.dumps({"samples": 8, "processor": processor(), "rows": [first, second]})
    )
    assert joined(kept(tmp_path, 8), [third]) == [first, third]
    assert joined([second, first], [third, {"model": "c"}]) == [third, first, {"model": "c"}]
    with pytest.raises(SystemExit, match="8 samples"):
        kept(tmp_path, 3)
