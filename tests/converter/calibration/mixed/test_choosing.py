"""Mixed precision: what int8 cannot hold stays in float, as little as possible, and the trade-off is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.converter.convert import ConversionResult, convert
from edgec.converter.verify import verify_folder
from edgec.errors import EdgecError
from edgec.ir.types import Array
from tests.converter.calibration.mixed.planted import BAD, network, samples, saved
from tests.schemas import validate

TARGETS = ("tflite", "onnxruntime")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def mixed(folder: Path, target: str = "tflite", **options: Any) -> ConversionResult:
    """Convert the planted network in this process."""
    given = {"calibration": saved(folder), "precision": "mixed", "isolate": False, **options}
    return convert(network(folder), target=target, output=folder / "out", **given)


def chosen(result: ConversionResult) -> dict[str, Any]:
    """What the manifest says of the choice."""
    found: dict[str, Any] = result.document["quantization"]["mixed"]
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_exactly_the_bad_place_is_raised(target: str, tmp_path: Path) -> None:
    result = mixed(tmp_path, target, max_drop=0.03)
    found = chosen(result)
    assert tuple(found["raised_nodes"]) == BAD
    assert found["loss"] <= 0.03 < found["curve"][0]["loss"]
    assert (found["curve"][0]["raised"], found["curve"][0]["accepted"]) == (0, False)
    assert found["int8_weights"] == 1.0 and found["boundaries"] == 4
    assert set(BAD) <= set(result.document["quantization"]["float_nodes"])
    assert any("2 of 10 nodes are raised to float32" in note for note in result.notes)
    validate(result.document)
    validate(result.to_json())
    assert json.loads(result.manifest.read_text())["options"]["precision"] == "mixed"
    assert verify_folder(result.artifact.parent, against=tmp_path / "source.onnx", isolate=False).passed


def test_where_integers_are_enough_nothing_is_raised_and_no_noise_is_measured(tmp_path: Path) -> None:
    found = chosen(mixed(tmp_path, max_drop=0.1))
    assert found["raised_nodes"] == [] and len(found["curve"]) == 1
    assert found["samples"]["noise"] == 0


def test_a_smaller_limit_raises_more_and_loses_less(tmp_path: Path) -> None:
    tight, loose = chosen(mixed(tmp_path, max_drop=0.002)), chosen(mixed(tmp_path, max_drop=0.03))
    assert tight["raised"] > loose["raised"]
    assert tight["loss"] <= 0.002 < loose["loss"]
    losses = [point["loss"] for point in tight["curve"]]
    assert [point["raised"] for point in tight["curve"]] == sorted(point["raised"] for point in tight["curve"])
    assert losses[0] == max(losses)


def test_the_artifact_computes_the_bad_place_in_float_between_one_pair_of_borders(tmp_path: Path) -> None:
    operators = mixed(tmp_path, max_drop=0.03).document["artifact"]["operators"]
    assert (operators["QUANTIZE"], operators["DEQUANTIZE"]) == (
        2,
        2,
    )  # the input and behind gather; before and the output
    assert operators["MUL"] == 2


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    first = mixed(tmp_path, max_drop=0.002)
    artifact, manifest = first.artifact.read_bytes(), first.manifest.read_bytes()
    second = mixed(tmp_path, max_drop=0.002)
    assert (second.artifact.read_bytes(), second.manifest.read_bytes()) == (artifact, manifest)


def labelled(folder: Path, **more: Any) -> Path:
    """Held-out samples with the classes that the float model finds, but for every tenth."""
    import onnxruntime

    network(folder)
    session = onnxruntime.InferenceSession(str(folder / "source.onnx"), providers=["CPUExecutionProvider"])
    x = samples(60, seed=3)
    labels = np.array([int(np.argmax(session.run(None, {"x": item})[0])) for item in x])
    labels[::10] = (labels[::10] + 1) % 4
    return saved(folder, "data.npz", x=x, **{"labels": labels, **more})


def test_with_labels_the_loss_is_that_of_accuracy(tmp_path: Path) -> None:
    result = mixed(tmp_path, data=labelled(tmp_path), max_drop=0.02)
    found = chosen(result)
    assert found["metric"] == "top-1"
    assert found["float_score"] == 0.9
    assert found["score"] >= 0.9 - 0.02 and found["loss"] == pytest.approx(0.9 - found["score"], abs=1e-3)
    assert found["samples"]["loss"] == 60
    validate(result.document)


def test_the_metric_can_be_chosen_and_can_be_a_function(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    plain = chosen(mixed(tmp_path, data=data, metric="relative-l2", max_drop=0.03))
    assert plain["metric"] == "relative-l2" and plain["score"] is None
    assert chosen(mixed(tmp_path, data=data, metric="top-5"))["float_score"] == 1.0  # there are four classes

    def margin(outputs: Sequence[Mapping[str, Array]], labels: Sequence[Array]) -> float:
        return float(np.mean([item["y"][0, wanted[0]] for item, wanted in zip(outputs, labels, strict=True)]))

    found = chosen(mixed(tmp_path, data=data, metric=margin, max_drop=0.5))
    assert found["metric"] == "margin" and found["float_score"] != plain["float_score"]


def test_a_metric_of_labels_needs_labels(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        mixed(tmp_path, metric="top-1")
    assert caught.value.code == "EDG037"
    with pytest.raises(EdgecError) as caught:
        mixed(tmp_path, metric="bleu")
    assert caught.value.code == "EDG001"


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        mixed(tmp_path, data=labelled(tmp_path, labels=np.arange(59)))
    assert caught.value.code == "EDG037" and "59 labels for 60 samples" in str(caught.value)


def test_a_limit_out_of_reach_is_an_error_that_says_what_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        mixed(tmp_path, "onnxruntime", max_drop=1e-5, raise_to="float16")
    assert caught.value.code == "EDG038" and caught.value.exit_code == 1
    assert 1e-5 < caught.value.details["loss"] < 1e-2
    assert not (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_nodes_can_be_raised_to_float16(target: str, tmp_path: Path) -> None:
    result = mixed(tmp_path, target, max_drop=0.004, raise_to="float16")
    found = chosen(result)
    assert found["raise_to"] == "float16" and set(BAD) <= set(found["raised_nodes"])
    if target == "onnxruntime":
        types = {node.op_type: node for node in onnx.load(str(result.artifact)).graph.node}
        assert "Cast" in types and "QuantizeLinear" in types
    validate(result.document)


def test_nodes_can_be_raised_to_int16_between_integers(tmp_path: Path) -> None:
    result = mixed(tmp_path, max_drop=0.01, raise_to="int16x8")
    found = chosen(result)
    assert tuple(found["raised_nodes"]) == BAD and found["loss"] <= 0.01
    operators = result.document["artifact"]["operators"]
    assert (operators["QUANTIZE"], operators["DEQUANTIZE"]) == (3, 1)  # into int8, to 16 bits and back; the output
    with pytest.raises(EdgecError) as caught:
        mixed(tmp_path, "onnxruntime", raise_to="int16x8")
    assert caught.value.code == "EDG001"


def test_the_options_belong_to_mixed_and_need_data(tmp_path: Path) -> None:
    for options, code in (
        ({"precision": "int8", "max_drop": 0.1}, "EDG001"),
        ({"max_drop": 1.5}, "EDG001"),
        ({"calibration": None}, "EDG030"),
        ({"target": "edgetpu"}, "EDG001"),
    ):
        with pytest.raises(EdgecError) as caught:
            mixed(tmp_path, **options)
        assert caught.value.code == code, options


def test_a_plan_does_not_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.converter.calibration.mixed.choose import Chooser

    def search(*given: object) -> None:
        raise AssertionError("a plan makes no artifacts")

    monkeypatch.setattr(Chooser, "__call__", search)
    result = mixed(tmp_path, max_drop=0.03, plan=True)
    assert result.plan is not None
    assert any("which a plan does not do: shown as int8" in note for note in result.plan["notes"])
    (entry,) = result.plan["verification"]["inputs"]
    assert entry["from"] == "the first 4 samples of the calibration" and result.plan["verification"]["seed"] is None
    validate(result.to_json())
