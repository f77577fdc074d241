"""Artifacts of the digits example, converted once per session of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgec
from tests.command import DIGIT_SAMPLES, DIGITS


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target, or what is special about the artifact, to its folder."""
    root = tmp_path_factory.mktemp("artifacts")
    made = {name: root / name for name in ("tflite", "onnxruntime", "int8")}
    edgec.convert(DIGITS, target="tflite", output=made["tflite"])
    edgec.convert(DIGITS, target="onnxruntime", output=made["onnxruntime"])
    edgec.convert(
        DIGITS,
        target="tflite",
        output=made["int8"],
        precision="int8",
        calibration=DIGIT_SAMPLES,
        io_dtype="int8",
    )
    return made
