"""Float ONNX to the NPU: no operator is left to the CPU, and the same input gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgec
from benchmarks.synthetic import write
from edgec.converter.manifest import sha256
from tests.models import ModelUnavailable
from tests.schemas import validate
from tests.targets.ethosu.float_models import float_model, photographs
from tests.targets.ethosu.vela import need_vela

SOURCES = {
    "resnet8": ("image_classification.tflite", lambda: (photographs(32) - 128) / 128),
    "vww": ("visual_wake_words.tflite", lambda: photographs(96)),
    "kws": ("keyword_spotting.tflite", lambda: np.random.default_rng(0).uniform(0, 225, (20, 1, 50, 10, 1))),
}
"""MLPerf Tiny: the packaged file, and what to calibrate with.  There is no speech at hand: the keyword spotter gets
numbers of the size of its spectrograms."""


def source(name: str, folder: Path) -> tuple[Path, Path]:
    """A float ONNX model and its calibration data."""
    folder.mkdir()
    data = folder / "calibration.npy"
    if name == "mobilenetv2":
        write(name, folder / "model.onnx")
        np.save(data, photographs(224).transpose(0, 1, 4, 2, 3)[:8] / 128 - 1)
        return folder / "model.onnx", data
    try:
        packaged, make = SOURCES[name]
        np.save(data, make().astype(np.float32))
        return float_model(packaged, folder), data
    except ModelUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.download
@pytest.mark.parametrize("name", [*SOURCES, "mobilenetv2"])
def test_everything_runs_on_the_npu_and_two_runs_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    need_vela()
    model, data = source(name, tmp_path / "source")
    shas = []
    for turn in ("one", "two"):
        edgec.convert(
            model,
            target="ethosu",
            output=tmp_path / turn,
            batch=None if name == "mobilenetv2" else 1,
            calibration=data,
            cache=tmp_path / f"cache-{turn}",
            target_options={"accelerator": "ethos-u55-128"},
        )
        shas.append(sha256(tmp_path / turn / "model_vela.tflite"))
    assert shas[0] == shas[1]
    document = json.loads((tmp_path / "one" / "manifest.json").read_text(encoding="utf-8"))
    validate(document)
    assert document["artifact"]["ethosu"]["operators_on_cpu"] == []
    assert document["artifact"]["operators"] == {"CUSTOM:ethos-u": 1}
    assert document["artifact"]["toolchain"]["operators_on_cpu"] == 0
    assert document["verification"]["levels"] == {"lowered-numerics": "passed", "artifact-structure": "passed"}
    assert document["quantization"]["float_nodes"] == []
    assert document["quantization"]["calibration"]["kind"] == "files"
