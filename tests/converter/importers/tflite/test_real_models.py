"""Real models: converted, verified against LiteRT, and free of transpositions that were not there before."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.converter.importers import inspect_source, open_source
from edgec.converter.importers.imported import SourceOptions
from edgec.errors import EdgecError
from edgec.ir.proto import model_to_proto
from edgec.runtime.onnxruntime import open_session
from tests.images import read_png
from tests.models import FOOLBOX, REAL_MODELS, SOURCE_MODELS, fetch_wheel, real_model, source_model

from .building import both, imported

pytestmark = pytest.mark.download

FILES = [name for name in SOURCE_MODELS if name.endswith(".tflite")]
EDGE_TPU = Path(__file__).resolve().parents[5] / "shared" / "data" / "edgetpu"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
@pytest.mark.parametrize("name", FILES)
def test_a_model_is_converted_and_verified(tmp_path: Path, name: str, target: str) -> None:
    source, data = source_model(name), None
    if name == "keyword_spotting_alexa.tflite":  # to random numbers it always says the same
        data = tmp_path / "data.npy"
        np.save(data, bursts(118, 108))
    result = edgec.convert(source, target=target, output=tmp_path / "out", batch=1, data=data)
    assert result.report is not None and result.report.passed
    if target == "tflite":
        before, after = (inspect_source(path)["operators"].get("TRANSPOSE", 0) for path in (source, result.artifact))
        assert after <= before


@pytest.mark.parametrize("name", [name for name in FILES if ".float32." in name] + ["basic-pitch.tflite"])
def test_float_models_are_within_1e_5_of_litert(name: str) -> None:
    model = imported(source_model(name), batch=1)
    generator = np.random.default_rng(0)
    feeds = {v.name: generator.random(v.dims).astype(np.float32) for v in model.model.graph.inputs}
    for wanted, found in both(model, feeds):
        np.testing.assert_allclose(found, wanted, atol=1e-5 if name != "basic-pitch.tflite" else 1e-3)


def test_basic_pitch_is_the_same_graph_in_both_formats() -> None:
    """What LiteRT's rounding adds to a power of a spectrum is not at issue here: both run in ONNX Runtime."""
    model = imported(source_model("basic-pitch.tflite"), batch=1)
    session = open_session(model_to_proto(model.model).SerializeToString(), optimise=False)
    other = open_session(real_model("basic-pitch"), optimise=False)
    names = {"note": "StatefulPartitionedCall:1", "onset": "StatefulPartitionedCall:2"}
    time = np.arange(43844) / 22050
    for pitch in (220, 440):
        sound = np.sin(2 * np.pi * pitch * time * (1 + 0.1 * time)).astype(np.float32).reshape(1, -1, 1)
        found = session.run({"input_2": sound})
        wanted = other.run({"serving_default_input_2:0": sound})
        for name, original in {**names, "contour": "StatefulPartitionedCall:0"}.items():
            np.testing.assert_allclose(found[name], wanted[original], atol=1e-5)


def bursts(rows: int, columns: int) -> np.ndarray[Any, Any]:
    """Four spectrograms with one loud burst each, [4, rows, 1, columns], int8."""
    far = np.abs(np.arange(rows) - rows / 2)
    loud = [np.where(far < length, 127, -128) for length in (8, 13, 20, 28)]
    return np.repeat(np.stack(loud).astype(np.int8)[:, :, None, None], columns, axis=3)


def photographs() -> list[tuple[np.ndarray[Any, Any], int]]:
    """The 20 labelled images of CIFAR-10 in foolbox, [32, 32, 3], uint8."""
    found = []
    with zipfile.ZipFile(io.BytesIO(fetch_wheel(FOOLBOX).read_bytes())) as archive:
        for name in sorted(archive.namelist()):
            match = re.search(r"/cifar10_\d+_(\d+)\.png$", name)
            if match:
                found.append((read_png(archive.read(name))[..., :3], int(match.group(1))))
    return found


def test_photographs_are_classified_as_litert_does() -> None:
    model = imported(source_model("image_classification.tflite"), batch=1)
    (value,) = model.model.graph.inputs
    right, images = 0, photographs()
    assert len(images) == 20
    for image, label in images:
        pixels = (image.astype(np.int64) - 128).astype(np.int8)[None]
        ((wanted, found),) = both(model, {value.name: pixels})
        assert np.abs(found.astype(np.int64) - wanted).max() <= 1
        right += int(found.argmax()) == label
    assert right >= 18


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in REAL_MODELS if not n.startswith(("light_", "silero"))])
def test_what_edgec_writes_it_reads_back(tmp_path: Path, name: str) -> None:
    shapes = dict(REAL_MODELS[name].input_shapes)
    if name == "ppocr-det":
        shapes = {"x": (1, 3, 224, 224)}
    given: dict[str, Any] = {"input_shapes": shapes} if shapes else {"batch": 1}
    first = edgec.convert(real_model(name), target="tflite", output=tmp_path / "first", **given).artifact
    second = edgec.convert(first, target="tflite", output=tmp_path / "second")
    assert second.report is not None and second.report.passed
    before, after = (inspect_source(path)["operators"].get("TRANSPOSE", 0) for path in (first, second.artifact))
    assert after == before
    back = open_session(model_to_proto(open_source(first).model).SerializeToString(), optimise=False)
    original = open_session(real_model(name), optimise=False, input_shapes=shapes or None)
    generator = np.random.default_rng(0)
    feeds = {
        spec.name: generator.random([d if isinstance(d, int) else 1 for d in spec.shape], np.float32)
        for spec in back.inputs
    }
    wanted = original.run(feeds)
    for key, array in back.run(feeds).items():
        assert np.linalg.norm(array - wanted[key]) <= max(1e-4 * np.linalg.norm(wanted[key]), 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not EDGE_TPU.is_dir(), reason="Coral's test models are not beside the repository")
@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("mobilenet_v1_0.25_128_quant", ""),
        ("split_concat", ""),
        ("deeplabv3_mnv2_dm05_pascal_quant", ""),
        ("keras_lstm_mnist_ptq", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
        ("posenet_mobilenet_v1_075_353_481_16_quant_decoder", "PosenetDecoderOp"),
    ],
)
def test_coral_models_are_converted_or_refused_by_name(tmp_path: Path, name: str, refused: str) -> None:
    source = EDGE_TPU / f"{name}.tflite"
    if refused:
        with pytest.raises(EdgecError) as caught:
            open_source(source)
        assert caught.value.code == "EDG201" and refused in caught.value.message
        return
    data = None
    if name.startswith("deeplab"):  # noise shows it nothing but background
        data = tmp_path / "data.npy"
        np.save(data, np.stack([_enlarged(image, 513) for image, _ in photographs()[:4]]))
    for target in ("tflite", "onnxruntime"):
        result = edgec.convert(source, target=target, output=tmp_path / target, data=data)
        assert result.report is not None and result.report.passed


def _enlarged(image: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The image drawn larger, with straight lines between the pixels."""
    places = np.linspace(0, len(image) - 1, size)
    below = np.minimum(places.astype(np.int64), len(image) - 2)
    share = (places - below)[:, None]
    wide = image.astype(np.float64)
    rows = wide[below] * (1 - share[..., None]) + wide[below + 1] * share[..., None]
    both_ways = rows[:, below] * (1 - share) + rows[:, below + 1] * share
    pixels: np.ndarray[Any, Any] = both_ways.round().astype(np.uint8)
    return pixels


def test_the_batch_of_a_real_model_is_a_name() -> None:
    model = open_source(source_model("basic-pitch.tflite"), SourceOptions())
    assert model.model.graph.inputs[0].shape == ("batch", 43844, 1)
