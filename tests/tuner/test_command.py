"""``edgec tune`` as users give it: a study, its report, its artifact."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import onnx
import onnx.parser
import pytest

from edgec.cli import quantities
from edgec.cli.main import main
from edgec.execution.load import load
from tests.command import DIGIT_SAMPLES, DIGITS, edgec
from tests.schemas import validate

from .quick import edgec as quickly

FEW = ["--knob", "optimise=all,none", "--knob", "execution_mode=sequential", "--knob", "arena=true"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune") / "study"
    result = edgec("tune", DIGITS, "-t", "onnxruntime", *FEW, "--trials", "5", "-o", folder, "--json")
    assert result.code == 0, result.stderr
    validate(result.document)
    return folder


def test_the_document_has_the_trials_the_default_and_the_winner(study: Path) -> None:
    result = edgec("tune", "report", study, "--json")
    assert result.code == 0
    document = result.document
    validate(document)
    assert document["status"] == "finished"
    assert [trial["number"] for trial in document["trials"]] == [0, 1, 2, 3, 4]
    assert document["default"]["configuration"] == document["trials"][0]["configuration"]
    assert document["trials"][0]["configuration"]["threads"] == 1
    for trial in document["trials"]:
        if trial["state"] == "complete":
            low, high = trial["intervals"]["latency_ms"]
            assert low <= trial["values"]["latency_ms"] <= high
    assert document["winner"]["number"] == 0 or document["gain"]["significant"]
    keys = [json.dumps(trial["configuration"], sort_keys=True) for trial in document["trials"]]
    assert len(set(keys)) == 5


def test_the_same_command_on_a_finished_study_measures_nothing(study: Path) -> None:
    before = (study / "journal.jsonl").read_bytes()
    result = edgec("tune", DIGITS, "-t", "onnxruntime", *FEW, "--trials", "5", "-o", study, "--json")
    assert result.code == 0
    assert (study / "journal.jsonl").read_bytes() == before


def test_the_report_on_a_terminal_names_winner_and_default(study: Path) -> None:
    result = edgec("tune", "report", study)
    assert result.code == 0
    assert "default" in result.stdout
    assert "winner: trial" in result.stdout
    assert "edgec tune apply" in result.stdout


def test_apply_makes_an_artifact_that_is_opened_as_it_was_tuned(study: Path, tmp_path: Path) -> None:
    result = edgec("tune", "apply", study, "-o", tmp_path / "out", "--json")
    assert result.code == 0, result.stderr
    validate(result.document)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
    validate(manifest)
    session = json.loads((tmp_path / "out/model.session.json").read_text(encoding="utf-8"))
    winner = edgec("tune", "report", study, "--json").document["winner"]["configuration"]
    assert session["intra_op_num_threads"] == winner["threads"] == manifest["tuned"]["session"]["threads"]
    artifact = load(tmp_path / "out")
    given = np.load(DIGIT_SAMPLES)["x"][:1]
    assert artifact.run({"x": given})
    artifact.close()
    assert edgec("verify", tmp_path / "out", "--against", DIGITS).code == 0


def test_convert_takes_the_settings_of_a_study(study: Path, tmp_path: Path) -> None:
    arguments = ["convert", DIGITS, "-t", "onnxruntime", "--tuned", study, "-o", tmp_path / "out"]
    result = edgec(*arguments, "--json")
    assert result.code == 0, result.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
    validate(manifest)
    assert manifest["tuned"]["trial"] == edgec("tune", "report", study, "--json").document["winner"]["number"]
    assert edgec(*arguments, "--precision", "float16", "--json").document["error"]["code"] == "EDG001"
    other = edgec("convert", DIGITS.with_name("digits_qdq.onnx"), *arguments[2:], "--json")
    assert other.document["error"]["code"] == "EDG811"
    assert edgec("convert", DIGITS, "-t", "tflite", *arguments[4:], "--json").document["error"]["code"] == "EDG811"


def test_a_limit_that_nothing_keeps_ends_with_1_and_the_whole_document(tmp_path: Path) -> None:
    arguments = [*FEW, "--max-latency", "0.001us", "--trials", "2", "-o", tmp_path / "study"]
    result = quickly("tune", DIGITS, "-t", "onnxruntime", *arguments, "--json")
    assert result.code == 1
    validate(result.document)
    assert result.document["status"] == "infeasible"
    assert result.document["winner"] is None
    applied = quickly("tune", "apply", tmp_path / "study", "-o", tmp_path / "out", "--json")
    assert applied.code == 1
    assert applied.document["error"]["code"] == "EDG813"


def test_a_precision_that_loses_too_much_is_pruned_by_labels(tmp_path: Path) -> None:
    labels = np.load(DIGITS.with_name("labels.npy"))
    np.savez(tmp_path / "data.npz", x=np.load(DIGIT_SAMPLES)["x"][:64], labels=(labels[:64] + 1) % 10)
    arguments = ["--max-drop", "0.5%", "--calibration", DIGIT_SAMPLES, "--data", tmp_path / "data.npz"]
    only: list[str | Path] = [
        "--knob",
        "precision=float32,int8",
        "--knob",
        "threads=1",
        "--knob",
        "memory_pattern=false",
    ]
    only += ["--knob", "optimise=all", "--knob", "execution_mode=sequential", "--knob", "arena=false"]
    result = quickly(
        "tune", DIGITS, "-t", "onnxruntime", *arguments, *only, "-o", tmp_path / "study", "--trials", "9", "--json"
    )
    assert result.code == 0, result.stderr
    document = result.document
    assert document["ended"] == "exhausted"
    assert "the loss is that of the top-1 accuracy, on 64 samples with labels" in document["notes"]
    assert {trial["configuration"]["precision"] for trial in document["trials"]} == {"float32", "int8"}
    assert all("drop" in trial["values"] for trial in document["trials"])
    shown = edgec("tune", "report", tmp_path / "study").stdout
    assert all(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)
    for trial in document["trials"]:
        if trial["state"] == "pruned":
            assert trial["reason"] in shown


def test_a_batch_that_the_model_cannot_have_is_a_failed_trial_and_paid_for_once(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        fixed (float[1, 4] x) => (float[1, 4] y)
        <int64[2] shape = {1, 4}> { a = Relu(x)  b = Reshape(a, shape)  y = Neg(b) }"""
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "fixed.onnx"))
    arguments = ["--objective", "throughput", "--knob", "batch=1,2", *FEW, "--knob", "threads=1", "--json"]
    arguments += ["-o", str(tmp_path / "study"), "--trials", "99"]
    result = quickly("tune", tmp_path / "fixed.onnx", "-t", "onnxruntime", *arguments)
    assert result.code == 0, result.stderr
    failed = [trial for trial in result.document["trials"] if trial["state"] == "failed"]
    failed = [trial for trial in failed if trial["failure"]["kind"] != "unstable"]  # a microsecond on a busy machine
    assert len(failed) == 1, [trial["reason"] for trial in failed]
    assert failed[0]["failure"]["part"] == {"batch": 2}
    assert "Reshape" in failed[0]["reason"]
    assert failed[0]["values"] == {}
    assert result.document["ended"] == "exhausted"


def test_unknown_knobs_and_values_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for knob in ("thread=1", "optimise=most"):
        result = edgec("tune", DIGITS, "-t", "onnxruntime", "--knob", knob, "-o", tmp_path / "study", "--json")
        assert result.code == 2
        assert result.document["error"]["code"] == "EDG812"
    assert not (tmp_path / "study" / "journal.jsonl").read_bytes()


def test_a_target_that_neither_runs_nor_is_estimated_here_is_refused(tmp_path: Path) -> None:
    result = edgec("tune", DIGITS, "-t", "edgetpu", "--calibration", DIGIT_SAMPLES, "-o", tmp_path / "study", "--json")
    assert result.code != 0
    assert result.document["error"]["code"] == "EDG521"


def test_a_folder_without_a_study_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("EDG810")
    assert main(["tune", "report"]) == 2
    assert main(["tune", "no-such-model.onnx", "-t", "onnxruntime", "-o", str(tmp_path / "s")]) == 3


@pytest.mark.parametrize(
    ("text", "value"), [("20ms", 0.02), ("10m", 600), ("1.5 s", 1.5), ("2h", 7200), ("500us", 0.0005), ("1e2ms", 0.1)]
)
def test_times(text: str, value: float) -> None:
    assert quantities.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("512MB", 512e6), ("1GiB", 1 << 30), ("4096", 4096), ("1.5kb", 1500)])
def test_sizes(text: str, value: float) -> None:
    assert quantities.size(text) == value


@pytest.mark.parametrize(("text", "value"), [("0.5%", 0.005), ("0.005", 0.005), ("0", 0), ("100%", 1)])
def test_shares(text: str, value: float) -> None:
    assert quantities.share(text) == value


@pytest.mark.parametrize("text", ["", "20", "ms", "-3s", "0s", "10 parsecs", "nanms", "infs"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        quantities.seconds(text)


def test_knob_values_are_numbers_truths_and_words() -> None:
    assert quantities.named_settings("a=1,true,null,all") == ("a", (1, True, None, "all"))
    with pytest.raises(click.BadParameter):
        quantities.named_settings("threads")


def test_a_study_that_measured_nothing_does_not_stand_in_the_way(tmp_path: Path) -> None:
    study = tmp_path / "study"
    wrong = quickly("tune", DIGITS, "-t", "tflite", "--provider", "cuda", "--trials", "1", "-o", study, "--json")
    assert wrong.document["error"]["code"] == "EDG040"
    right = quickly("tune", DIGITS, "-t", "onnxruntime", *FEW, "--trials", "1", "-o", study, "--json")
    assert right.code == 0, right.stderr
    assert right.document["target"] == "onnxruntime" and right.document["trials"][0]["state"] == "complete"
    other = quickly("tune", DIGITS, "-t", "tflite", "--trials", "1", "-o", study, "--json")
    assert other.document["error"]["code"] == "EDG811"


def test_a_limit_on_the_memory_of_a_gpu_needs_sessions_on_a_gpu(tmp_path: Path) -> None:
    given = ["tune", DIGITS, "-t", "onnxruntime", "--max-device-memory", "1GB", "-o", tmp_path / "study", "--json"]
    refused = edgec(*given)
    assert refused.code == 2
    assert refused.document["error"]["code"] == "EDG001"
    assert "--provider cuda" in refused.document["error"]["help"]
    assert not (tmp_path / "study").exists(), "refused before anything is written"
