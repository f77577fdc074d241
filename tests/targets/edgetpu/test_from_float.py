"""Float ONNX models of MLPerf Tiny: quantized, channels last, and wholly on the Edge TPU as far as can be predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.errors import EdgecError
from edgec.targets.tflite.target import TARGET
from tests.models import ModelUnavailable
from tests.schemas import validate
from tests.targets.ethosu.float_models import float_model, photographs

SOURCES = {
    "resnet8": ("image_classification.tflite", lambda: (photographs(32) - 128) / 128),
    "vww": ("visual_wake_words.tflite", lambda: photographs(96)),
}


@pytest.mark.download
@pytest.mark.parametrize("name", SOURCES)
def test_no_transpose_and_no_operator_on_the_cpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_EDGETPU_COMPILER", str(tmp_path / "absent"))
    packaged, make = SOURCES[name]
    try:
        np.save(tmp_path / "calibration.npy", make().astype(np.float32))
        model = float_model(packaged, tmp_path / "source")
    except ModelUnavailable as error:
        pytest.skip(str(error))
    with pytest.raises(EdgecError) as caught:
        edgec.convert(
            model,
            target="edgetpu",
            output=tmp_path / "out",
            batch=1,
            calibration=tmp_path / "calibration.npy",
            cache=tmp_path / "cache",
        )
    assert caught.value.code == "EDG510", "the compiler is missing, everything before it is there"
    made = tmp_path / "out" / "model.tflite"
    assert "TRANSPOSE" not in TARGET.inspect(made)["operators"]
    report = edgec.check(made, target="edgetpu")
    assert report.summary["unsupported"] == report.summary["uncertain"] == 0
    plan = json.loads((tmp_path / "out" / "model.plan.json").read_text(encoding="utf-8"))
    validate(plan)
    assert {item["dtype"] for item in plan["quantized_io"].values()} == {"int8"}
    assert any("kept " in note and "calibration samples" in note for note in plan["notes"])
