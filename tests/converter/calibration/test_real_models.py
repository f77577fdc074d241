"""A text detector that int8 does not hold without equalisation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgec.converter.convert import convert
from tests.models import ModelUnavailable, real_model
from tests.schemas import validate


@pytest.mark.slow
@pytest.mark.download
def test_the_text_detector_passes_at_int8_because_its_channels_are_equalised(tmp_path: Path) -> None:
    """PP-OCRv4 detection: 12 dB and refused as it is; HardSwish between channels that differ by 50 is the reason."""
    pytest.importorskip("PIL", reason="the text is drawn with Pillow")
    from benchmarks.int8.samples import samples

    try:
        given = samples("ppocr-det", tmp_path)
        model = real_model("ppocr-det")
    except ModelUnavailable as error:
        pytest.skip(str(error))
    np.save(tmp_path / "calibration.npy", given.calibration)
    np.save(tmp_path / "comparison.npy", given.comparison)
    result = convert(
        model,
        target="tflite",
        output=tmp_path / "out",
        input_shapes={"x": (1, 3, 320, 320)},
        precision="int8",
        calibration=tmp_path / "calibration.npy",
        data=tmp_path / "comparison.npy",
        cache=tmp_path / "cache",
    )
    document = json.loads(result.manifest.read_text(encoding="utf-8"))
    validate(document)
    assert document["verification"]["passed"]
    entry = document["quantization"]["refinement"]
    assert "equalisation" in entry["used"] and entry["operators_added"] > 0
    plain, best = entry["sqnr_db"]["bias-correction"], max(entry["sqnr_db"].values())
    assert best > plain + 3
    assert document["quantization"]["float_nodes"] == []
