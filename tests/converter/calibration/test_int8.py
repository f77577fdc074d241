"""int8 conversions: right, honest about what stays in float, and clear about bad calibration data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.cli.main import main
from edgec.converter.calibration.collect import calibrate
from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.quantizing import PrecisionOptions
from edgec.converter.check import check
from edgec.converter.convert import ConversionResult, convert
from edgec.converter.prepare import prepare
from edgec.converter.verify import verify_folder
from edgec.errors import EdgecError
from edgec.ir.types import Array
from edgec.targets import registry
from edgec.targets.tflite.session import open_session
from tests.schemas import validate

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"

SMALL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[1,2,6,6] x) => (float[1,3,6,6] y)
  <float[3,2,1,1] w = {0.5, -0.25, 0.125, 1.0, -1.0, 0.75}, float[3] b = {0.1, -0.2, 0.3}> {
  c = Conv (x, w, b)
  y = Relu (c)
}"""

MIXED = """<ir_version: 10, opset_import: ["" : 22]>
g (float[1,2,6,6] x) => (float[1,2,36] y)
  <float[1,2,1,1] w = {0.5, -0.25}, float[1,2,1,1] v = {0.5, 0.75}, float h = {300.0}, int64[3] s = {1, 1, 36}> {
  a = Conv (x, w)
  b = Conv (x, v)
  boxes = Mul (a, h)
  scores = Sigmoid (b)
  p = Reshape (boxes, s)
  q = Reshape (scores, s)
  y = Concat <axis = 1> (p, q)
}"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(folder: Path, text: str) -> Path:
    """A model file."""
    path = folder / "source.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def samples(count: int = 8, seed: int = 0) -> Array:
    """Inputs for the models above."""
    return np.random.default_rng(seed).standard_normal((count, 1, 2, 6, 6)).astype(np.float32)


def saved(folder: Path, array: Array) -> Path:
    """A file of calibration data."""
    path = folder / "calibration.npz"
    np.savez(path, x=array)
    return path


def int8(folder: Path, model: Path, calibration: Any, **options: Any) -> ConversionResult:
    """Convert in this process."""
    return convert(
        model,
        target="tflite",
        output=folder / "out",
        precision="int8",
        calibration=calibration,
        isolate=False,
        **options,
    )


def test_a_network_is_verified_at_int8_and_the_manifest_says_how(tmp_path: Path) -> None:
    calibration = saved(tmp_path, samples())
    result = int8(tmp_path, written(tmp_path, SMALL), calibration, method="mse")
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    assert manifest["options"]["precision"] == "int8"
    assert manifest["verification"]["precision"] == "int8"
    assert manifest["verification"]["samples"] == 4 and manifest["verification"]["seed"] is None
    assert manifest["verification"]["outputs"][0]["sqnr_db"] > 30
    entry = manifest["quantization"]
    assert entry["method"] == "mse" and entry["samples"] == 8 and entry["float_nodes"] == []
    assert entry["calibration"]["files"][0]["name"] == "calibration.npz"
    assert manifest["artifact"]["operators"]["CONV_2D"] == 1


def test_two_conversions_are_byte_identical_with_and_without_the_cache(tmp_path: Path) -> None:
    model, calibration = written(tmp_path, SMALL), saved(tmp_path, samples())
    first = int8(tmp_path, model, calibration).artifact.read_bytes()
    assert list((tmp_path / "cache" / "edgec" / "calibration").glob("*.npz"))
    assert int8(tmp_path, model, calibration).artifact.read_bytes() == first
    assert int8(tmp_path, model, calibration, cache=tmp_path / "other").artifact.read_bytes() == first


def test_integer_inputs_and_outputs_are_declared_and_verified(tmp_path: Path) -> None:
    model = written(tmp_path, SMALL)
    result = int8(tmp_path, model, saved(tmp_path, samples()), io_dtype="int8")
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    held = manifest["quantization"]["quantized_io"]
    assert set(held) == {"x", "y"} and {item["dtype"] for item in held.values()} == {"int8"}
    assert {item["dtype"] for item in manifest["artifact"]["inputs"]} == {"int8"}
    assert "DEQUANTIZE" not in manifest["artifact"]["operators"]
    assert any(note.startswith("'x' is int8: real = ") for note in manifest["notes"])
    assert verify_folder(tmp_path / "out", against=model, isolate=False).passed


def test_digits_keep_their_classes(tmp_path: Path) -> None:
    result = int8(tmp_path, DIGITS / "digits.onnx", DIGITS / "samples.npz", data=DIGITS / "samples.npz")
    assert result.report is not None
    assert (result.report.outputs[0].difference.argmax_agreement or 0) >= 0.99


def test_small_numbers_beside_large_ones_survive_because_the_join_stays_float(tmp_path: Path) -> None:
    result = int8(tmp_path, written(tmp_path, MIXED), saved(tmp_path, samples()))
    assert any("joins numbers" in note for note in result.notes)
    manifest = json.loads(result.manifest.read_text())
    assert manifest["quantization"]["float_nodes"]
    session = open_session(result.artifact)
    array = samples(3, seed=5)
    reference = onnxruntime.InferenceSession(tmp_path / "source.onnx")
    for item in array:
        wanted = reference.run(None, {"x": item})[0][:, 1]
        found = session.run({"x": item})["y"][:, 1]
        assert np.linalg.norm(found - wanted) <= 0.05 * np.linalg.norm(wanted)


def test_a_callable_gives_samples(tmp_path: Path) -> None:
    def source() -> Iterator[dict[str, Array]]:
        for item in samples(4):
            yield {"x": item}

    result = int8(tmp_path, written(tmp_path, SMALL), source)
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    assert manifest["quantization"]["calibration"] == {"kind": "callable"}
    assert manifest["quantization"]["samples"] == 4


def test_random_calibration_is_stamped(tmp_path: Path) -> None:
    result = int8(tmp_path, written(tmp_path, SMALL), "random")
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    assert manifest["quantization"]["calibration"]["kind"] == "random"
    assert any("random" in note for note in result.notes)


def test_calibration_data_alone_asks_for_int8(tmp_path: Path) -> None:
    model, calibration = written(tmp_path, SMALL), saved(tmp_path, samples())
    result = convert(model, target="tflite", output=tmp_path / "out", calibration=calibration, isolate=False)
    assert result.document["options"]["precision"] == "int8"


def test_check_asks_about_int8_without_data(tmp_path: Path) -> None:
    report = check(written(tmp_path, SMALL), target="tflite", precision="int8")
    assert report.verdict == "ok" and any("no calibration data" in note for note in report.notes)


# bad data


def refused(folder: Path, calibration: Any, text: str = SMALL, **options: Any) -> EdgecError:
    """The error of a conversion that must not leave anything."""
    with pytest.raises(EdgecError) as caught:
        int8(folder, written(folder, text), calibration, **options)
    assert not (folder / "out").exists()
    return caught.value


def test_int8_without_data_says_how_to_give_it(tmp_path: Path) -> None:
    error = refused(tmp_path, None)
    assert error.code == "EDG030" and "--calibration" in (error.help or "")


def test_data_of_the_wrong_shape(tmp_path: Path) -> None:
    error = refused(tmp_path, saved(tmp_path, np.zeros((4, 1, 2, 5, 6), np.float32)))
    assert error.code == "EDG005" and "--calibration" in (error.where or "")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_data_that_is_not_finite(tmp_path: Path, number: float) -> None:
    array = samples()
    array[3, 0, 1, 2, 2] = number
    error = refused(tmp_path, saved(tmp_path, array))
    assert error.code == "EDG031" and error.where == "file 'calibration.npz', sample 3, counted from 0"
    folder = tmp_path / "calib"
    folder.mkdir()
    for place, sample in enumerate(array):
        np.save(folder / f"{place}.npy", sample)
    assert refused(tmp_path, folder).where == "file '3.npy'"


def test_data_that_makes_the_model_compute_nan(tmp_path: Path) -> None:
    text = SMALL.replace("c = Conv (x, w, b)", "l = Sqrt (x)\n c = Conv (l, w, b)")
    error = refused(tmp_path, saved(tmp_path, -np.abs(samples()) - 1), text)
    assert error.code == "EDG031" and (error.where or "").startswith("value 'y'; file '")


def test_what_is_no_calibration_data_is_named(tmp_path: Path) -> None:
    image = tmp_path / "photo.png"
    image.write_bytes(b"")
    text = tmp_path / "text.npz"
    text.write_text("text")
    for path, message in ((tmp_path / "none", "no file or folder"), (image, "one image"), (text, "no .npy or .npz")):
        error = refused(tmp_path, path)
        assert error.code == "EDG006" and message in error.message and error.help
        assert "allow_pickle" not in str(error.why)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, tmp_path / "empty").code == "EDG006"


def test_a_callable_without_samples(tmp_path: Path) -> None:
    assert refused(tmp_path, lambda: []).code == "EDG032"


def test_one_sample_is_a_warning(tmp_path: Path) -> None:
    result = int8(tmp_path, written(tmp_path, SMALL), saved(tmp_path, samples(1)), data=saved(tmp_path, samples(3)))
    assert result.report is not None and result.report.passed


def test_one_sample_of_calibration_is_noted(tmp_path: Path) -> None:
    one = tmp_path / "one.npz"
    np.savez(one, x=samples(1))
    result = int8(tmp_path, written(tmp_path, SMALL), one, data=saved(tmp_path, samples(1)))
    assert any("one sample" in note for note in result.notes)


def test_a_constant_input_is_noted(tmp_path: Path) -> None:
    data = CalibrationData(saved(tmp_path, np.full((4, 1, 2, 6, 6), 0.5, np.float32)))
    found = prepare(written(tmp_path, SMALL), registry.load("tflite"), precision=PrecisionOptions("int8", data))
    assert any("same number everywhere" in note for note in found.notes)


def test_a_model_of_integers_has_nothing_to_quantize(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 22]> g (int32[4] x) => (int32[4] y) { y = Add (x, x) }'
    error = refused(tmp_path, "random", text)
    assert error.code == "EDG034" and error.exit_code == 4 and "int32" in (error.why or "")
    assert "tflite and onnxruntime" in (error.help or "")
    report = check(tmp_path / "source.onnx", target="edgetpu")
    assert report.verdict == "unsupported" and report.general[0].rule == "EDG034"
    assert {node.reason for node in report.nodes} == {"not examined: the model as a whole is refused"}


def test_a_float_operator_without_an_integer_form_is_noted(tmp_path: Path) -> None:
    text = SMALL.replace("{\n  c = Conv (x, w, b)", "{\n  s = Sin (x)\n  c = Conv (s, w, b)")
    result = int8(tmp_path, written(tmp_path, text), saved(tmp_path, samples()))
    assert any("(Sin) is computed in float32" in note for note in result.notes)
    manifest = json.loads(result.manifest.read_text())
    validate(manifest)
    assert manifest["quantization"]["float_nodes"] == ["Sin_0"]
    assert manifest["artifact"]["operators"]["SIN"] == 1 and manifest["artifact"]["operators"]["CONV_2D"] == 1


def test_a_cancelled_calibration_leaves_nothing(tmp_path: Path) -> None:
    def stop(step: str) -> None:
        if step == "calibrating: 2 of 8":
            raise KeyboardInterrupt

    calibration, model = saved(tmp_path, samples()), written(tmp_path, SMALL)
    with pytest.raises(KeyboardInterrupt):
        int8(tmp_path, model, calibration, progress=stop)
    assert not (tmp_path / "out").exists() and not list((tmp_path / "cache").rglob("*.npz"))


def test_the_message_of_a_cancelled_calibration_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgec.converter.calibration.statistics import Statistics

    def stop(self: Statistics, array: Array) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Statistics, "add", stop)
    model, calibration = written(tmp_path, SMALL), saved(tmp_path, samples())
    arguments = ["convert", str(model), "-t", "tflite", "--calibration", str(calibration), "-o", str(tmp_path / "out")]
    assert main(arguments) == 130
    shown = capsys.readouterr().err
    assert "EDG020" in shown and "the calibration was cancelled" in shown
    assert not (tmp_path / "out").exists()


def test_a_target_without_the_precision_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        convert(written(tmp_path, SMALL), target="onnxruntime", output=tmp_path / "out", precision="int16x8")
    assert caught.value.code == "EDG001" and "float32" in (caught.value.why or "")


def test_a_value_called_like_an_output_is_observed_apart(tmp_path: Path) -> None:
    text = SMALL.replace("c = Conv (x, w, b)\n  y = Relu (c)", "c = Conv (x, w, b)\n  y = Add (c, c)")
    model = prepare(written(tmp_path, text), registry.load("tflite")).model
    graph = model.graph
    graph.set_output(0, graph.build(next(iter(graph.nodes)), "Abs", [graph.inputs[0]]).output)
    found = calibrate(model, ["x", "y"], CalibrationData("random"))
    assert found.samples == 16 and found.values["y"].high > found.values["y"].low


@pytest.mark.parametrize(("precision", "least"), [("float16", 60.0), ("dynamic-int8", 30.0), ("int16x8", 30.0)])
def test_other_precisions_are_verified_with_float_inputs_and_outputs(
    tmp_path: Path, precision: str, least: float
) -> None:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((32, 16, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Relu", ["c"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 16, 6, 6])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 32, 6, 6])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = tmp_path / "source.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10), model)
    calibration = "random" if precision == "int16x8" else None
    result = convert(
        model, target="tflite", output=tmp_path / "out", precision=precision, calibration=calibration, isolate=False
    )
    validate(json.loads(result.manifest.read_text()))
    assert result.report is not None and result.report.outputs[0].difference.sqnr_db > least
    assert result.document["options"]["precision"] == precision
    assert {item["dtype"] for item in result.document["artifact"]["inputs"]} == {"float32"}
    assert result.artifact.stat().st_size < weights.nbytes * 0.75
    assert verify_folder(tmp_path / "out", against=model, isolate=False).passed


def test_weights_that_float16_cannot_hold_stay_float32_and_are_listed(tmp_path: Path) -> None:
    weights = np.full((64, 64), 1e6, np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [2, 64])],
        [onnx.helper.make_tensor_value_info("y", 1, [2, 64])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = tmp_path / "source.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10), model)
    result = convert(model, target="tflite", output=tmp_path / "out", precision="float16", isolate=False)
    assert any("stays float32" in note and "overflows" in note for note in result.notes)
    assert "DEQUANTIZE" not in result.document["artifact"]["operators"]


def test_a_quantized_model_is_honoured_and_needs_no_data(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 22]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float a = {0.03}, int8 p = {5}, float c = {0.02}, int8 r = {-128}> {
      q = QuantizeLinear (x, a, p)
      d = DequantizeLinear (q, a, p)
      h = Relu (d)
      e = QuantizeLinear (h, c, r)
      y = DequantizeLinear (e, c, r)
    }"""
    model = written(tmp_path, text)
    result = int8(tmp_path, model, None, io_dtype="int8")
    assert any("quantized already" in note for note in result.notes)
    held = result.document["quantization"]["quantized_io"]
    assert held["x"]["zero_point"] == 5 and held["y"]["scale"] == pytest.approx(0.02)
    validate(json.loads(result.manifest.read_text()))
    assert verify_folder(tmp_path / "out", against=model, isolate=False).passed


def test_errors_are_listed_per_channel_of_a_detector(tmp_path: Path) -> None:
    result = int8(tmp_path, written(tmp_path, MIXED), saved(tmp_path, samples()))
    (output,) = result.document["verification"]["outputs"]
    assert len(output["channels"]) == 2 and max(output["channels"]) <= 0.05
    assert output["worst_channel"]["relative_l2"] == max(output["channels"])


def test_biases_take_back_the_shift_of_rounded_weights(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], group=2)],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 16, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 6, 6, 6])],
        [
            onnx.numpy_helper.from_array(generator.standard_normal((6, 8, 3, 3)).astype(np.float32), "w"),
            onnx.numpy_helper.from_array(np.zeros(6, np.float32), "b"),
        ],
    )
    model = tmp_path / "source.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10), model)
    array = (generator.standard_normal((8, 1, 16, 8, 8)) + 5).astype(np.float32)
    result = int8(tmp_path, model, saved(tmp_path, array), data=saved(tmp_path, array))
    reference, session = onnxruntime.InferenceSession(model), open_session(result.artifact)
    errors = [session.run({"x": item})["y"] - reference.run(None, {"x": item})[0] for item in array]
    shift = np.abs(np.mean(errors, axis=(0, 1, 3, 4)))
    weights = onnx.numpy_helper.to_array(graph.initializer[0])
    step = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    uncorrected = 5 * np.abs((np.round(weights / step) * step - weights).sum(axis=(1, 2, 3)))
    assert shift.max() < 0.25 * uncorrected.max()


def test_int16_inputs_and_outputs(tmp_path: Path) -> None:
    model, data = written(tmp_path, SMALL), saved(tmp_path, samples())
    options: dict[str, Any] = {"target": "tflite", "output": tmp_path / "out", "calibration": data, "isolate": False}
    result = convert(model, precision="int16x8", io_dtype="int16", **options)
    validate(json.loads(result.manifest.read_text()))
    assert {item["dtype"] for item in result.document["artifact"]["inputs"]} == {"int16"}
    with pytest.raises(EdgecError, match="cannot be int8"):
        convert(model, precision="int16x8", io_dtype="int8", **options)


def test_fp16_is_float16(tmp_path: Path) -> None:
    result = convert(
        written(tmp_path, SMALL), target="tflite", output=tmp_path / "out", precision="fp16", isolate=False
    )
    assert result.document["options"]["precision"] == "float16"


def test_a_sum_of_several_operands_runs_on_integers(tmp_path: Path) -> None:
    text = SMALL.replace("y = Relu (c)", "r = Relu (c)\n  y = Sum (c, r, r)")
    result = int8(tmp_path, written(tmp_path, text), saved(tmp_path, samples()))
    assert result.document["quantization"]["float_nodes"] == []
    assert result.document["artifact"]["operators"]["ADD"] == 2


def test_a_constant_joined_to_a_value_is_quantized_with_it(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 22]>
    g (float[1,2,6,6] x) => (float[1,3,6,7] y)
      <float[3,2,1,1] w = {0.5, -0.25, 0.125, 1.0, -1.0, 0.75}, float[1,2,6,1] token> {
      j = Concat <axis = 3> (token, x)
      y = Conv (j, w)
    }"""
    model = onnx.parser.parse_model(text)
    token = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 2, 6, 1)
    held = [item for item in model.graph.initializer if item.name != "token"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*held, onnx.numpy_helper.from_array(token, "token")])
    onnx.save(model, tmp_path / "source.onnx")
    result = int8(tmp_path, tmp_path / "source.onnx", saved(tmp_path, samples()))
    assert result.report is not None and result.report.passed
    assert "CONCATENATION" in result.document["artifact"]["operators"]


def test_integers_at_a_border_that_has_no_integer_kernel_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = written(
        tmp_path,
        '<ir_version: 10, opset_import: ["" : 22]> '
        "g (float[1, 4] x) => (float[1, 4] y) { a = Sin(x) b = Relu(a) y = Cos(b) }",
    )
    options = ["--precision", "int8", "--io-dtype", "int8", "--calibration", "random", "-o", str(tmp_path / "out")]
    assert main(["convert", str(model), "--target", "tflite", *options]) == 2
    assert "EDG035" in capsys.readouterr().err


def test_weights_that_stay_float32_for_being_few_are_counted(tmp_path: Path) -> None:
    result = convert(DIGITS / "digits.onnx", target="tflite", output=tmp_path / "out", precision="dynamic-int8")
    assert "weights of fewer than 1024 numbers stay float32 (6 constants)" in result.notes
    result = convert(written(tmp_path, SMALL), target="tflite", output=tmp_path / "small", precision="dynamic-int8")
    assert result.notes == (
        "weights of fewer than 1024 numbers stay float32 (1 constants): the artifact is the float32 one",
    )
