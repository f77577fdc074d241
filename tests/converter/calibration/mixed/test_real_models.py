"""Mixed precision on models that int8 alone does not do justice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.converter.convert import convert
from edgec.errors import EdgecError
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.converter.calibration.mixed.planted import BAD, network, saved
from tests.models import REAL_MODELS, real_model

YOLO_LIKE = """<ir_version: 10, opset_import: ["" : 22]>
g (float[1,4,8,8] x) => (float[1,6,64] y)
  <float[4,4,3,3] a, float[4,4,1,1] v, float[2,4,1,1] w, float h = {300.0}, int64[3] s = {1, -1, 64}> {
  c = Conv <pads = [1, 1, 1, 1]> (x, a)
  r = Relu (c)
  b = Conv (r, v)
  n = Conv (r, w)
  boxes = Mul (b, h)
  scores = Sigmoid (n)
  p = Reshape (boxes, s)
  q = Reshape (scores, s)
  y = Concat <axis = 1> (p, q)
}"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_a_model_that_int8_alone_fails_is_accepted_in_mixed_precision(target: str, tmp_path: Path) -> None:
    given = {"target": target, "calibration": saved(tmp_path), "isolate": False}
    source = network(tmp_path, spread=3000)
    with pytest.raises(EdgecError) as caught:
        convert(source, output=tmp_path / "int8", precision="int8", **given)  # type: ignore[arg-type]
    assert caught.value.code == "EDG301"
    result = convert(source, output=tmp_path / "mixed", precision="mixed", **given)  # type: ignore[arg-type]
    assert result.report is not None and result.report.passed
    found = result.document["quantization"]["mixed"]
    assert found["curve"][0]["loss"] > 0.178 and found["loss"] <= 0.05
    assert found["raised"] <= 3 and set(BAD) <= set(found["raised_nodes"])


def test_a_real_network_is_kept_inside_the_limit(tmp_path: Path) -> None:
    result = convert(
        real_model("ppocr-cls"),
        target="onnxruntime",
        output=tmp_path / "out",
        input_shapes=dict(REAL_MODELS["ppocr-cls"].input_shapes),
        precision="mixed",
        max_drop=0.1,
        calibration="random",
        isolate=False,
    )
    found = result.document["quantization"]["mixed"]
    assert found["curve"][0]["loss"] > 0.1 >= found["loss"]
    assert 0 < found["raised"] < found["nodes"] / 2
    assert found["int8_operations"] > 0.3


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_scores_beside_boxes_stay_in_float_beside_what_is_raised(target: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    model = onnx.parser.parse_model(YOLO_LIKE)
    for name, shape in (("a", (4, 4, 3, 3)), ("v", (4, 4, 1, 1)), ("w", (2, 4, 1, 1))):
        array = generator.standard_normal(shape).astype(np.float32) / np.prod(shape[1:]) ** 0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "source.onnx")
    np.savez(tmp_path / "data.npz", x=generator.standard_normal((10, 1, 4, 8, 8)).astype(np.float32))
    result = convert(
        tmp_path / "source.onnx",
        target=target,
        output=tmp_path / "out",
        precision="mixed",
        max_drop=0.01,
        calibration=tmp_path / "data.npz",
        isolate=False,
    )
    found = result.document["quantization"]
    assert found["mixed"]["raised"] > 0 and found["mixed"]["loss"] <= 0.01
    assert len(found["float_nodes"]) > found["mixed"]["raised"]  # the tail as well
    assert any("one int8 scale would lose the small ones" in note for note in result.notes)
    assert result.report is not None
    channels = result.report.outputs[0].difference.channels
    assert channels is not None and float(channels.max()) < 0.05


def test_the_accuracy_of_the_digits_is_kept(tmp_path: Path) -> None:
    with np.load(DIGIT_SAMPLES) as archive:
        np.savez(tmp_path / "data.npz", x=archive["x"], labels=np.load(DIGIT_SAMPLES.with_name("labels.npy")))
    result = convert(
        DIGITS,
        target="tflite",
        output=tmp_path / "out",
        precision="mixed",
        calibration=DIGIT_SAMPLES,
        data=tmp_path / "data.npz",
        max_drop=0.005,
        isolate=False,
    )
    found = result.document["quantization"]["mixed"]
    assert found["metric"] == "top-1" and found["float_score"] > 0.95
    assert found["score"] >= found["float_score"] - 0.005
