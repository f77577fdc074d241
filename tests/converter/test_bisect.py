"""Which node is wrong: mistakes planted in ten models are found, exactly, in few runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.cli.main import main
from edgec.converter.bisect import bisect, thresholds
from edgec.converter.bisection.report import BisectReport
from edgec.converter.bisection.steps import Step, find_steps
from edgec.converter.importers.imported import SourceOptions
from edgec.converter.prepare import prepare
from edgec.errors import UsageError
from edgec.targets import registry
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.converter.planted import MISTAKES, SYNTHETIC, Planted, chain, gated, residual, spoil
from tests.models import REAL_MODELS, real_model
from tests.schemas import validate

REAL = ("mnist-conv", "espcn", "ppocr-cls", "basic-pitch")


def candidates(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> list[Step]:
    """The places where a float mistake can be made."""
    model = prepare(path, registry.load("tflite"), SourceOptions(shapes)).model
    names = {value.name for node in model.graph.nodes for value in node.outputs}
    steps = find_steps(model.graph, names).steps
    return [step for step in steps if len(step.watches) == 1 and step.watches[0].value.dtype.is_float]


def plant(monkeypatch: pytest.MonkeyPatch, value: str, mistake: str) -> Planted:
    planted = Planted("tflite", value, mistake)
    monkeypatch.setattr("edgec.converter.bisect.registry.load", lambda name: planted)
    return planted


def require_found(report: BisectReport, value: str) -> None:
    assert report.status == "differs"
    assert report.first is not None
    assert [item.name for item in report.first.values] == [value], report.verdict
    assert report.first.before_db >= report.above_db
    assert report.runs <= math.log2(report.nodes) + 3


@pytest.mark.parametrize("make", SYNTHETIC, ids=lambda make: make.__name__)
def test_a_planted_mistake_is_located(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "model.onnx")
    steps = candidates(path)
    for number, place in enumerate((0.15, 0.5, 0.8)):
        value = steps[int(place * len(steps))].watches[0].value.name
        planted = plant(monkeypatch, value, MISTAKES[number])
        report = bisect(path, target="tflite", isolate=False)
        require_found(report, value)
        assert planted.lowered == report.runs + report.dump_runs
        monkeypatch.undo()


def test_a_mistake_in_the_digits_model_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    value = candidates(DIGITS)[9].watches[0].value.name
    plant(monkeypatch, value, "sign")
    require_found(bisect(DIGITS, target="tflite", data=DIGIT_SAMPLES), value)


def test_a_mistake_in_an_integer_model_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values in front are only as good as int8 makes them, so the upper threshold is lower."""
    for value in ("hardswish_12_output", "conv_16_output", "flatten_23_output"):
        plant(monkeypatch, value, "sign")
        report = bisect(DIGITS, target="tflite", calibration=DIGIT_SAMPLES, cache=tmp_path, isolate=False)
        require_found(report, value)
        monkeypatch.undo()


@pytest.mark.download
@pytest.mark.parametrize("name", REAL)
def test_a_mistake_in_a_real_model_is_located(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shapes = real_model(name), dict(REAL_MODELS[name].input_shapes)
    steps = candidates(path, shapes)
    value = steps[len(steps) * 2 // 3].watches[0].value.name
    plant(monkeypatch, value, "scale")
    require_found(bisect(path, target="tflite", input_shapes=shapes), value)


def test_a_mistake_that_the_outputs_hide_is_located_from_the_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "tanh_3", "sign")
    report = bisect(gated(tmp_path / "model.onnx"), target="tflite", isolate=False)
    require_found(report, "tanh_3")
    assert any("outputs hardly show" in note for note in report.notes)
    assert report.worst[0].values[0].name in ("tanh_3", "sin_4", "mul_5")


def test_a_wrong_activation_is_named_with_the_kernel_that_applies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "samples.npy", np.random.default_rng(0).random((4, 1, 3, 12, 12), np.float32))
    plant(monkeypatch, "relu_2", "order")
    report = bisect(
        residual(tmp_path / "model.onnx"),
        target="tflite",
        calibration=tmp_path / "samples.npy",
        cache=tmp_path / "cache",
        above_db=20,
        isolate=False,
    )
    require_found(report, "relu_2")
    assert report.first is not None
    assert report.first.sources == ("conv_1", "relu_2")
    assert report.first.operator == "Conv+Relu"


def test_wrong_passes_are_told_from_a_wrong_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.converter import bisect as module

    def spoiled(*arguments: object, **options: object) -> object:
        prepared = prepare(*arguments, **options)  # type: ignore[arg-type]
        node = list(prepared.imported.model.graph.nodes)[-2]
        spoil(prepared.imported.model.graph, node.output, "sign")
        return prepared

    monkeypatch.setattr(module, "prepare", spoiled)
    report = bisect(residual(tmp_path / "model.onnx"), target="tflite", isolate=False)
    assert report.status == "differs"
    assert report.first is None
    assert "the passes changed the function" in report.verdict


def test_nothing_differs_in_a_right_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = chain(tmp_path / "model.onnx")
    assert main(["bisect", str(path), "--target", "onnxruntime", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["status"] == "same"
    assert document["first"] is None
    assert document["runs"] == 1
    assert main(["bisect", str(path), "--target", "tflite"]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_the_command_names_the_node_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain(tmp_path / "model.onnx")
    plant(monkeypatch, "elu_5", "sign")
    assert main(["bisect", str(path), "--target", "tflite", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["first"]["node"] == "elu_5"
    assert document["first"]["sharp"] is True
    assert 1 <= len(document["worst"]) <= 10
    assert main(["bisect", str(path), "--target", "tflite"]) == 1
    shown = capsys.readouterr().out
    assert "the first node that differs is 'elu_5' (Elu)" in shown
    assert ">5" in shown


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        edgec.bisect(DIGITS, target="tflite", below_db=40, above_db=30)
    assert caught.value.code == "EDG001"
    assert main(["bisect", str(DIGITS), "--target", "tflite", "--io-dtype", "int8"]) == 2


def test_a_quantized_file_that_a_target_takes_as_it_is_cannot_be_bisected(tmp_path: Path) -> None:
    edgec.convert(DIGITS, target="tflite", calibration=DIGIT_SAMPLES, output=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(UsageError) as caught:
        edgec.bisect(tmp_path / "model.tflite", target="edgetpu")
    assert caught.value.code == "EDG001"


@pytest.mark.parametrize(
    ("precision", "given", "expected"),
    [
        ("float32", (None, None), (10, 30)),
        ("float16", (None, None), (10, 30)),
        ("int8", (None, None), (10, 20)),
        ("mixed", (None, None), (10, 20)),
        ("int8", (25.0, None), (25, 25)),
        ("int8", (None, 40.0), (10, 40)),
    ],
)
def test_the_thresholds_follow_the_precision(
    precision: str, given: tuple[float | None, float | None], expected: tuple[float, float]
) -> None:
    assert thresholds(precision, *given) == expected
