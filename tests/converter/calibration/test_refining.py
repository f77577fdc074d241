"""Equalisation and bias correction are kept where they raise the SQNR, and only there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import pytest

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.judge import IN_FLOAT, Floats, Judge, Scored
from edgec.converter.calibration.statistics import Statistics
from edgec.converter.convert import ConversionResult, convert
from edgec.converter.verification.metrics import Difference
from edgec.errors import UsageError
from edgec.ir.graph import Model
from edgec.ir.types import Array
from edgec.runtime.onnxruntime import open_session
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.ir.equivalence import model_of
from tests.schemas import validate


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def network(path: Path, spread: float, activation: str, seed: int = 0) -> Path:
    """Two convolutions; the channels between them differ by up to ``spread``."""
    generator = np.random.default_rng(seed)
    factors = np.geomspace(1, spread, 16)
    first = generator.normal(0, 1, (16, 3, 3, 3)) * factors[:, None, None, None]
    second = generator.normal(0, 1, (8, 16, 1, 1)) / factors[None, :, None, None]
    offset = generator.normal(0, 1, 16) * factors
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        onnx.helper.make_node(activation, ["c"], ["m"]),
        onnx.helper.make_node("Conv", ["m", "v"], ["y"]),
    ]
    arrays = {"w": first, "b": offset, "v": second}
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 12, 12])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 10, 10])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10), path)
    return path


def samples(count: int = 12) -> Array:
    return np.random.default_rng(1).normal(0, 1, (count, 1, 3, 12, 12)).astype(np.float32)


def int8(
    folder: Path, spread: float, activation: str = "Relu", method: str = "minmax"
) -> tuple[ConversionResult, dict[str, Any]]:
    """Convert; the result, and the manifest's entry on what was kept."""
    model = network(folder / "model.onnx", spread, activation)
    np.savez(folder / "calibration.npz", x=samples())
    result = convert(
        model,
        target="tflite",
        output=folder / "out",
        precision="int8",
        calibration=folder / "calibration.npz",
        method=method,
        isolate=False,
    )
    document = json.loads(result.manifest.read_text(encoding="utf-8"))
    validate(document)
    return result, document["quantization"]["refinement"]


def test_channels_that_differ_are_equalised(tmp_path: Path) -> None:
    result, entry = int8(tmp_path, 200.0)
    assert entry["used"] == ["equalisation", "bias-correction"]
    assert entry["sqnr_db"]["equalisation+bias-correction"] > entry["sqnr_db"]["bias-correction"] + 3
    assert entry["operators_added"] == 0 and entry["samples"] == 6
    assert any("kept equalisation and bias-correction: SQNR on 6 calibration samples" in note for note in result.notes)
    assert result.report is not None and result.report.outputs[0].difference.sqnr_db > 30


def test_hard_swish_is_written_in_parts_where_that_helps(tmp_path: Path) -> None:
    result, entry = int8(tmp_path, 200.0, "HardSwish")
    assert "equalisation" in entry["used"]
    assert entry["operators_added"] == 2
    assert any("2 operators were added" in note for note in result.notes)
    operators = json.loads(result.manifest.read_text(encoding="utf-8"))["artifact"]["operators"]
    assert "HARD_SWISH" not in operators and operators["MUL"] == 1


def test_channels_that_are_alike_are_left(tmp_path: Path) -> None:
    _, entry = int8(tmp_path, 1.0)
    assert "equalisation" not in entry["used"]


def test_the_same_data_choose_the_same(tmp_path: Path) -> None:
    shas = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result, _ = int8(tmp_path / name, 200.0)
        shas.append(result.artifact.read_bytes())
    assert shas[0] == shas[1]


@pytest.mark.parametrize(
    ("activation", "method"), [("Relu", "minmax"), ("HardSwish", "minmax"), ("Relu", "percentile")]
)
def test_only_what_equalisation_changed_beyond_factors_is_observed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activation: str, method: str
) -> None:
    """The extents of channels multiply with them, histograms do not."""
    from edgec.converter.calibration import collect

    observed: list[set[str]] = []
    real = collect.calibrate

    def counting(model: Model, names: Sequence[str], *rest: Any, **options: Any) -> Any:
        observed.append(set(names))
        return real(model, names, *rest, **options)

    monkeypatch.setattr(collect, "calibrate", counting)
    _, entry = int8(tmp_path, 200.0, activation, method)
    assert "equalisation" in entry["used"]
    first, *again = observed
    assert first >= {"x", "y"}
    if (activation, method) == ("Relu", "minmax"):
        assert not again
    else:
        assert len(again) == 1 and not again[0] & first


def test_candidates_are_computed_in_float_with_their_integers_rounded(tmp_path: Path) -> None:
    """The judge's session gives what NumPy gives for QuantizeLinear, DequantizeLinear and a product between them."""
    generator = np.random.default_rng(0)
    weights, x = generator.integers(-127, 128, (6, 5)).astype(np.int8), generator.normal(size=(4, 6)).astype(np.float32)
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[4,6] x) => (float[4,5] y) <float s = {0.02}, int8 z = {3}, float t = {0.01}, int8 o = {0}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) e = DequantizeLinear (w, t, o) y = MatMul (d, e)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", configuration=IN_FLOAT)
    (found,) = session.run({"x": x}).values()
    rounded = np.clip(np.round(x / np.float32(0.02)) + 3, -128, 127) - 3
    np.testing.assert_allclose(found, (rounded * 0.02) @ (weights * 0.01), rtol=1e-5, atol=1e-5)


def test_few_samples_are_compared_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held in memory is bounded, whatever the size of the outputs."""
    sample = 4 * (3 * 12 * 12 + 8 * 10 * 10)
    monkeypatch.setattr("edgec.converter.calibration.judge.BYTES", 2 * sample)
    _, entry = int8(tmp_path, 200.0)
    assert entry["samples"] == 2


def test_auto_keeps_the_method_with_the_best_score(tmp_path: Path) -> None:
    result, entry = int8(tmp_path, 200.0, method="auto")
    held = json.loads(result.manifest.read_text(encoding="utf-8"))["quantization"]
    assert set(held["methods"]) == {"minmax", "percentile", "mse"}
    assert held["method"] in held["methods"]
    assert held["methods"][held["method"]] >= max(held["methods"].values()) - 0.11
    assert held["methods"][held["method"]] == max(entry["sqnr_db"].values())
    assert any(f"took the ranges of {held['method']}" in note for note in result.notes)


def test_auto_is_for_eight_bits(tmp_path: Path) -> None:
    model = network(tmp_path / "model.onnx", 1.0, "Relu")
    with pytest.raises(UsageError) as caught:
        convert(
            model,
            target="tflite",
            output=tmp_path / "out",
            precision="int16x8",
            calibration="random",
            method="auto",
            isolate=False,
        )
    assert caught.value.code == "EDG001"


def test_candidates_are_compared_with_what_the_calibration_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float model runs again only where its statistics came from the cache; the result is the same."""
    runs: list[int] = []
    real = Judge._run

    def counting(self: Judge, model: Model, data: CalibrationData, count: int) -> None:
        runs.append(count)
        real(self, model, data, count)

    monkeypatch.setattr(Judge, "_run", counting)
    _, first = int8(tmp_path, 200.0)
    assert not runs and first["samples"] == 6
    _, again = int8(tmp_path, 200.0)
    assert runs == [12]
    assert again == first


def scored(values: Sequence[float]) -> Scored:
    """A candidate with these SQNRs in dB, one per sample."""
    made = Scored(model_of("g (float[1] x) => (float[1] y) { y = Relu (x) }"))
    made.differences = [
        {"y": Difference(error_energy=10 ** (-value / 10), reference_energy=1.0 if value > -math.inf else 0.0)}
        for value in values
    ]
    return made


@pytest.mark.parametrize(
    ("gains", "hopeless"),
    [
        ([-1.2, -1.0, -1.4, -1.1], True),
        ([0.02, 0.0, 0.01, 0.03], True),
        ([1.0, 1.2, 0.9, 1.1], False),
        ([-1.2, 1.4, -2.0, 0.3], False),
        ([0.05, 0.3, -0.1, 0.1], False),
        ([-math.inf, -1.0, -1.0, -1.0], False),
    ],
)
def test_a_candidate_is_given_up_only_where_it_clearly_gains_nothing(gains: list[float], hopeless: bool) -> None:
    rival = [30.0, 28.0, 33.0, 31.0, 30.0, 29.0]
    ours = scored([value + gain for value, gain in zip(rival, gains)])
    assert ours.is_hopeless(scored(rival), 0.1) is hopeless


def test_what_is_given_up_is_not_run_on_the_other_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest and a note say so; what is kept was run on all of them."""
    seen: list[Scored] = []
    real = Judge.score

    def keeping(self: Judge, *rest: Any) -> Scored:
        seen.append(real(self, *rest))
        return seen[-1]

    monkeypatch.setattr(Judge, "score", keeping)
    monkeypatch.setattr("edgec.converter.calibration.refining.PLENTY_DB", 100.0)
    result, entry = int8(tmp_path, 200.0)
    assert [item.given_up for item in seen] == [False, False, True]
    assert [len(item.differences) for item in seen] == [6, 6, 4]
    (gain,) = entry["given_up"].values()
    assert list(entry["given_up"]) == ["equalisation"] and gain["samples"] == 4 and gain["gain_db"] < 0.1
    assert any("; given up after 4 of them: equalisation (" in note for note in result.notes)


@pytest.mark.parametrize("method", ["minmax", "auto"])
def test_without_a_float_output_nothing_is_compared(method: str, tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["best"], axis=1))
    model.graph.output.append(onnx.helper.make_tensor_value_info("best", onnx.TensorProto.INT64, [1, 1]))
    del model.graph.output[0]
    onnx.save(model, tmp_path / "model.onnx")
    options: dict[str, Any] = {"precision": "int8", "calibration": DIGIT_SAMPLES, "method": method}
    result = convert(tmp_path / "model.onnx", target="tflite", output=tmp_path / "out", **options)
    validate(json.loads(result.manifest.read_text()))
    wanted = ["kept bias-correction untried: the model has no float output to compare by"]
    if method == "auto":
        wanted.insert(0, "took the ranges of minmax: no float output to compare by")
    assert list(result.notes) == wanted


def test_first_samples_are_taken_evenly() -> None:
    floats = Floats.of(model_of("g (float[1] x) => (float[1] y) { y = Relu (x) }"), 16)
    for number in range(16):
        floats.take(number, {"x": np.zeros(1, np.float32)}, {"y": np.zeros(1, np.float32)})
    assert floats.order == [0, 2, 4, 6, 1, 3, 5, 7]


def test_samples_of_unknown_number_are_run_again() -> None:
    """A function does not say how many samples it gives, so the calibration cannot take them evenly."""
    floats = Floats.of(model_of("g (float[1] x) => (float[1] y) { y = Relu (x) }"), None)
    floats.take(0, {"x": np.zeros(1, np.float32)}, {"y": np.zeros(1, np.float32)})
    assert not floats.feeds


@pytest.mark.parametrize(
    ("methods", "calibrations"), [(["minmax", "percentile", "minmax"], 2), (["percentile", "minmax"], 1)]
)
def test_statistics_without_histograms_serve_minmax_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: list[str], calibrations: int
) -> None:
    from edgec.converter.calibration import collect

    observed: list[bool] = []
    real = collect._observe

    def counting(session: Any, model: Model, values: dict[str, Statistics], *rest: Any) -> int:
        observed.append(all(item.counted for item in values.values()))
        found = real(session, model, values, *rest)
        assert all((item.counts.sum() > 0) == item.counted for item in values.values())
        return found

    monkeypatch.setattr(collect, "_observe", counting)
    for method in methods:
        int8(tmp_path, 1.0, method=method)
    assert observed == [method != "minmax" for method in methods[:calibrations]]
