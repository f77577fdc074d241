"""Where calibration samples come from: folders, files larger than memory, functions; and what is said of bad ones."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.cli.main import main
from edgec.converter.calibration.collect import calibrate
from edgec.converter.calibration.data import CalibrationData
from edgec.converter.convert import convert
from edgec.converter.prepare import prepare
from edgec.errors import EdgecError
from edgec.ir.graph import Model
from edgec.targets import registry
from tests.schemas import validate

TEXT = """<ir_version: 10, opset_import: ["" : 22]>
g (float[1,2,64,64] x) => (float[1,2,64,64] y) <float[2,2,1,1] w = {0.5, -0.25, 0.125, 1.0}> {
  c = Conv (x, w)
  y = Relu (c)
}"""
SAMPLE_BYTES = 2 * 64 * 64 * 4


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model file with one input of 32 KiB."""
    path = tmp_path / "source.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


@pytest.fixture
def model(source: Path) -> Model:
    return prepare(source, registry.load("tflite")).model


def noise(count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, 1, 2, 64, 64)).astype(np.float32)


def peak(model: Model, data: CalibrationData) -> int:
    """Most bytes that NumPy and Python hold while a model is calibrated."""
    tracemalloc.start()
    try:
        found = calibrate(model, ["x", "y"], data)
        assert found.samples == data.count(model)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".npy", "compressed"])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path, model: Model, suffix: str) -> None:
    peaks = []
    for count in (16, 512):
        path = tmp_path / f"{count}.npy"
        if suffix == ".npy":
            np.save(path, noise(count))
        else:
            path = path.with_suffix(".npz")
            (np.savez if suffix == ".npz" else np.savez_compressed)(path, x=noise(count))
        calibrate(model, ["x", "y"], CalibrationData(path))  # what is imported and cached the first time does not count
        peaks.append(peak(model, CalibrationData(path)))
    assert peaks[1] < peaks[0] + 4 * SAMPLE_BYTES, "512 samples are 16 MiB"


def test_the_progress_of_a_calibration_is_counted(tmp_path: Path, model: Model) -> None:
    np.savez(tmp_path / "a.npz", x=noise(3))
    steps: list[Any] = []
    calibrate(model, ["x"], CalibrationData(tmp_path / "a.npz"), progress=steps.append)
    assert steps == ["calibrating: 1 of 3", "calibrating: 2 of 3", "calibrating: 3 of 3"]
    steps.clear()
    calibrate(model, ["x"], CalibrationData(lambda: [{"x": noise(1)[0]}]), progress=steps.append)
    assert steps == ["calibrating, sample 1"], "how many a function gives is known only at its end"


def refused(source: Path, calibration: Any) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        convert(
            source,
            target="tflite",
            output=source.parent / "out",
            precision="int8",
            calibration=calibration,
            isolate=False,
        )
    assert not (source.parent / "out" / "model.tflite").exists()
    return caught.value


def test_a_folder_of_images_and_arrays_is_refused(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    np.savez(folder / "b.npz", x=noise(1))
    error = refused(source, folder)
    assert error.code == "EDG006" and "both images and arrays" in error.message and "b.npz" in (error.where or "")


def test_folders_in_a_folder_are_not_samples_and_the_message_says_so(tmp_path: Path, source: Path) -> None:
    (tmp_path / "photographs" / "cats").mkdir(parents=True)
    error = refused(source, tmp_path / "photographs")
    assert error.code == "EDG006" and "not looked into" in (error.why or "")


def test_what_lies_beside_the_samples_is_noted(tmp_path: Path, model: Model) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    np.savez(folder / "a.npz", x=noise(2))
    for name in ("README", "b.txt", "c.gif", "d.csv"):
        (folder / name).write_text("")
    (note,) = (note for note in calibrate(model, ["x"], CalibrationData(folder)).notes if "left out" in note)
    assert "'README', 'b.txt', 'c.gif' and 1 more" in note


def test_a_function_that_returns_the_same_iterator_twice_is_named(source: Path) -> None:
    once = iter([{"x": sample} for sample in noise(8)])
    error = refused(source, lambda: once)
    assert error.code == "EDG032" and "called again" in error.message and error.help


@pytest.mark.parametrize(
    ("returned", "code", "words"),
    [
        (None, "EDG005", "returned a NoneType"),
        ([noise(1)[0]], "EDG005", "gave a ndarray as a sample"),
        ([{"z": noise(1)[0]}], "EDG002", "'z', which is no input"),
        ([{"x": noise(1)[0].astype(np.float64)}], "EDG005", "float64[1, 2, 64, 64]"),
        ([{"x": noise(1)[0, 0]}], "EDG005", "float32[2, 64, 64]"),
    ],
)
def test_what_a_function_must_not_return(source: Path, returned: Any, code: str, words: str) -> None:
    error = refused(source, lambda: returned)
    assert error.code == code and words in error.message


def test_samples_themselves_are_no_calibration_data(source: Path) -> None:
    for given in ([{"x": noise(1)[0]}], noise(1)):
        error = refused(source, given)
        assert error.code == "EDG001" and "lambda" in (error.help or "")


def test_an_error_of_the_users_function_is_passed_on(source: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield {"x": noise(1)[0]}
        raise FloatingPointError("from the loader")

    with pytest.raises(FloatingPointError, match="from the loader"):
        convert(source, target="tflite", output=source.parent / "out", precision="int8", calibration=failing)
    assert not (source.parent / "out").exists()


def test_the_notes_of_a_refused_artifact_name_the_constant_data(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "constant.npz", x=np.full((4, 1, 2, 64, 64), 3, np.float32))
    arguments = ["convert", str(source), "-t", "tflite", "--calibration", str(tmp_path / "constant.npz")]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["error"]["code"] == "EDG305"
    assert any("the same number everywhere (3)" in note for note in document["notes"])
    assert main([*arguments, "-o", str(tmp_path / "again")]) == 1
    assert "note: the calibration data for 'x' is the same number everywhere (3)" in capsys.readouterr().err


def test_an_output_below_one_step_of_its_integers_is_explained(tmp_path: Path) -> None:
    text = TEXT.replace("y = Relu (c)", "d = Add (c, low)\n  y = Sigmoid (d)")
    path = tmp_path / "detector.onnx"
    onnx.save(
        onnx.parser.parse_model(text.replace("<float[2,2,1,1] w", "<float low = {-14.0}, float[2,2,1,1] w")), path
    )
    np.savez(tmp_path / "nothing.npz", x=noise(4))
    error = refused(path, tmp_path / "nothing.npz")
    assert error.code == "EDG301"
    (note,) = (note for note in error.details["verification"]["notes"] if "everywhere" in note)
    assert "less than a step of 8 bits" in note


@pytest.mark.parametrize(("rows", "told"), [(1, "one sample:"), (4, "one sample of 4 rows:"), (20, None)])
def test_rows_of_an_open_batch_count_as_inputs(rows: int, told: str | None, tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    onnx.save(onnx.parser.parse_model(TEXT.replace("float[1,", "float[N,")), path)
    np.savez(tmp_path / "data.npz", x=noise(rows)[:, 0])
    options: dict[str, Any] = {"precision": "int8", "calibration": tmp_path / "data.npz", "isolate": False}
    notes = convert(path, target="onnxruntime", output=tmp_path / "out", **options).notes
    (found,) = [note for note in notes if note.startswith("calibrated with")] or [None]
    assert found is None if told is None else found is not None and told in found
