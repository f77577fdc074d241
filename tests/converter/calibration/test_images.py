"""Images become the inputs that the model was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.images import ImageOptions, load_images
from edgec.converter.convert import convert
from edgec.errors import EdgecError
from edgec.runtime.session import TensorSpec
from tests.schemas import validate

images = pytest.importorskip("PIL.Image", reason="needs the extra [images]")

FLOAT = np.dtype(np.float32)
MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[1,3,8,8] x) => (float[1,2,8,8] y) <float[2,3,1,1] w = {0.5, -0.25, 0.125, 1.0, -1.0, 0.75}> {
  c = Conv (x, w)
  y = Relu (c)
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photographs of noise, wider than high, the left half red."""
    made = tmp_path / "photographs"
    made.mkdir()
    generator = np.random.default_rng(0)
    for number in range(4):
        pixels = generator.integers(0, 256, (16, 32, 3), np.uint8)
        pixels[:, :16] = (255, 0, 0)
        images.fromarray(pixels).save(made / f"{number}.png")
    return made


def test_pixels_are_centred_and_scaled_per_channel(folder: Path) -> None:
    options = ImageOptions(mean=(255.0, 1.0, 2.0), scale=(1.0, 2.0, 3.0))
    (first, *_) = load_images(folder, [TensorSpec("x", FLOAT, (1, 3, 16, 32))], options)
    assert first["x"].shape == (1, 3, 16, 32) and first["x"].dtype == np.float32
    assert np.array_equal(first["x"][0, :, 3, 3], [0.0, -2.0, -6.0])


def test_the_layout_follows_the_shape_or_is_given(folder: Path) -> None:
    (last, *_) = load_images(folder, [TensorSpec("x", FLOAT, (1, 16, 32, 3))], ImageOptions())
    assert np.array_equal(last["x"][0, 3, 3], [255.0, 0.0, 0.0])
    (given, *_) = load_images(folder, [TensorSpec("x", FLOAT, (1, 3, 32, 3))], ImageOptions(layout="NHWC"))
    assert given["x"].shape == (1, 3, 32, 3)


def test_images_are_stretched_cropped_or_padded(folder: Path) -> None:
    spec = [TensorSpec("x", FLOAT, (1, 3, 16, 16))]
    found = {
        name: next(load_images(folder, spec, ImageOptions(resize=name)))["x"] for name in ("stretch", "crop", "pad")
    }
    assert np.array_equal(found["pad"][0, :, 0, 5], [0.0, 0.0, 0.0])
    assert np.array_equal(found["stretch"][0, :, 5, 2], [255.0, 0.0, 0.0])
    assert np.array_equal(found["crop"][0, :, 5, 2], [255.0, 0.0, 0.0])


def test_integer_inputs_get_pixels(folder: Path) -> None:
    (first, *_) = load_images(folder, [TensorSpec("x", np.dtype(np.uint8), (1, 3, 16, 32))], ImageOptions())
    assert first["x"].dtype == np.uint8 and first["x"][0, 0, 0, 0] == 255


def test_a_model_with_a_batch_takes_so_many_images_at_once(folder: Path) -> None:
    single = [item["x"] for item in load_images(folder, [TensorSpec("x", FLOAT, (1, 3, 16, 32))], ImageOptions())]
    threes = [item["x"] for item in load_images(folder, [TensorSpec("x", FLOAT, (3, 3, 16, 32))], ImageOptions())]
    assert [item.shape for item in threes] == [(3, 3, 16, 32)] * 2
    assert np.array_equal(np.concatenate(threes), np.concatenate([*single, *single[:2]]))


def test_a_model_is_quantized_with_images_and_verified_with_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "source.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), model)
    options = ImageOptions(mean=(127.5,), scale=(1 / 127.5,))
    result = convert(model, target="tflite", output=tmp_path / "out", calibration=folder, images=options, isolate=False)
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    entry = manifest["quantization"]["calibration"]
    assert entry["kind"] == "images" and len(entry["files"]) == 4 and entry["preprocessing"]["mean"] == [127.5]
    assert manifest["verification"]["samples"] == 4 and manifest["verification"]["seed"] is None


def test_a_model_without_an_image_input_says_so(folder: Path) -> None:
    with pytest.raises(EdgecError, match="does not take one image"):
        list(load_images(folder, [TensorSpec("x", FLOAT, (1, 10))], ImageOptions()))
    with pytest.raises(EdgecError, match="--mean has 2 numbers"):
        list(load_images(folder, [TensorSpec("x", FLOAT, (1, 3, 8, 8))], ImageOptions(mean=(1.0, 2.0))))


def test_a_file_that_is_no_image_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "0.jpg").write_bytes(b"no image")
    assert CalibrationData(folder).origin()["kind"] == "images"
    with pytest.raises(EdgecError, match=r"0\.jpg"):
        list(load_images(folder, [TensorSpec("x", FLOAT, (1, 3, 8, 8))], ImageOptions()))


def test_options_of_images_are_refused_without_images(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="folder of images"):
        convert(tmp_path, target="tflite", output=tmp_path, calibration="random", images=ImageOptions(mean=(1.0,)))
