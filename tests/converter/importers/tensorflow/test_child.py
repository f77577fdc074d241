"""Whatever happens to the process that runs TensorFlow, the exit code is right, the message says it, nothing is left.

A script stands in for the worker: TensorFlow itself is not needed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.cli.main import main
from edgec.converter.importers.tensorflow import child, importer
from tests.command import DIGITS

from .saved_models import identity_model

OPEN = "import json, os, sys, time\nrequest = json.load(open(sys.argv[1]))\n"
ANSWER = OPEN + "json.dump({answer!r}, open(request['result'], 'w'))\n"

Stand = Callable[..., dict[str, Any]]


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stand:
    """Import a SavedModel with a script as the worker; gives the error. Exit code and leftovers are checked."""
    model = identity_model(tmp_path / "model")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = tmp_path / "worker.py"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(child, "plan", lambda request: [sys.executable, str(script), str(request)])
    monkeypatch.setattr(importer, "require_packages", lambda packages, what: None)

    def run(text: str, *options: str) -> dict[str, Any]:
        script.write_text(text, encoding="utf-8")
        output = tmp_path / "out" / "model.onnx"
        code = main(["import", str(model), "-o", str(output), "--json", *options])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == document["error"]["exit"]
        assert not list(temporary.iterdir())
        assert not (tmp_path / "out").exists()
        return document["error"]  # type: ignore[no-any-return]

    return run


def test_a_hanging_process_is_stopped(stand: Stand) -> None:
    began = time.monotonic()
    error = stand(OPEN + "print('loading', flush=True)\ntime.sleep(600)", "--timeout", "4")
    assert (error["code"], error["exit"]) == ("EDG502", 6)
    assert "longer than 4 s" in error["message"]
    assert "loading" in error["details"]["log"]
    assert time.monotonic() - began < 30


def test_what_tensorflow_prints_at_every_start_is_no_reason(stand: Stand) -> None:
    chatter = [
        "2026-11-28 12:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is optimized",
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "E0000 00:00:1764331.1 1234 cuda_dnn.cc:8579] Unable to register cuDNN factory",
        "W0000 00:00:1764331.1 1234 computation_placer.cc:177] computation placer already registered.",
    ]
    printing = f"print({chr(10).join(chatter)!r}, flush=True)\n"
    error = stand(OPEN + printing + "time.sleep(600)", "--timeout", "4")
    assert error["code"] == "EDG502" and error["why"] is None
    assert "Unable to register" in error["details"]["log"]
    error = stand(OPEN + "print('layer 7 has no weights', flush=True)\n" + printing + "sys.exit(3)")
    assert error["code"] == "EDG501" and error["why"] == "layer 7 has no weights"


def test_a_killed_process_is_named(stand: Stand) -> None:
    error = stand(OPEN + "os.kill(os.getpid(), 9)")
    assert (error["code"], error["exit"]) == ("EDG503", 6)
    assert "killed" in error["message"] and "memory" in error["message"]


def test_a_crash_is_named_with_its_signal(stand: Stand) -> None:
    error = stand(OPEN + "print('about to crash', flush=True)\nos.kill(os.getpid(), 11)")
    assert (error["code"], error["exit"]) == ("EDG503", 6)
    assert "SIGSEGV" in error["message"]
    assert "about to crash" in error["why"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process's memory")
def test_a_process_that_takes_too_much_memory_is_refused_it(stand: Stand) -> None:
    error = stand(OPEN + "time.sleep(0.5)\nx = bytearray(8 << 30)", "--memory-limit", "1")
    assert (error["code"], error["exit"]) == ("EDG503", 6)
    assert "out of memory" in error["message"] and "1.0 GiB" in error["message"]


def test_an_abort_for_want_of_memory_is_recognised(stand: Stand) -> None:
    error = stand(OPEN + "print(\"terminate called after throwing 'std::bad_alloc'\", flush=True)\nos.abort()")
    assert error["code"] == "EDG503"
    assert "out of memory" in error["message"]


def test_openblas_without_memory_is_recognised(stand: Stand) -> None:
    says = "OpenBLAS error: Memory allocation still failed after 10 retries, giving up."
    error = stand(OPEN + f"print({says!r})\nsys.exit(1)")
    assert error["code"] == "EDG503" and "--memory-limit" in error["help"]


def test_megabytes_of_output_are_bounded_and_the_last_lines_shown(stand: Stand) -> None:
    error = stand(OPEN + "for i in range(200000): print('noise ' * 10)\nprint('the reason')\nsys.exit(3)")
    assert (error["code"], error["exit"]) == ("EDG501", 6)
    assert "the reason" in error["why"]
    assert len(error["details"]["log"]) < 1 << 20


def test_success_without_an_answer_is_none(stand: Stand) -> None:
    error = stand(OPEN)
    assert (error["code"], error["exit"]) == ("EDG504", 6)
    assert "no answer" in error["why"]


@pytest.mark.parametrize(
    "answer", ["garbage", "[]", "\x00" * 10, '{"status": "odd"}', '{"status": "error"}', "[" * 99999]
)
def test_an_answer_that_is_garbage_is_none(answer: str, stand: Stand) -> None:
    error = stand(OPEN + f"open(request['result'], 'w').write({answer!r})")
    assert error["exit"] == 6
    assert error["code"] in ("EDG501", "EDG504")


def test_success_without_a_file_is_none(stand: Stand) -> None:
    error = stand(ANSWER.format(answer={"status": "ok"}))
    assert (error["code"], error["exit"]) == ("EDG504", 6)
    error = stand(ANSWER.format(answer={"status": "ok"}) + "open(request['model'], 'w').close()")
    assert error["code"] == "EDG504"


def test_a_file_that_is_no_model_is_refused_under_the_name_of_the_source(stand: Stand) -> None:
    error = stand(ANSWER.format(answer={"status": "ok"}) + "open(request['model'], 'w').write('hello')")
    assert (error["code"], error["exit"]) == ("EDG103", 3)
    assert "edgec-" not in json.dumps(error)
    assert "'model'" in error["message"]


def test_a_missing_package_is_named_with_its_extra(stand: Stand) -> None:
    error = stand(ANSWER.format(answer={"status": "missing", "package": "tf_keras"}))
    assert (error["code"], error["exit"]) == ("EDG013", 5)
    assert "tf_keras" in error["why"] and "edgec[tensorflow]" in error["help"]


def test_errors_of_the_worker_keep_their_code(stand: Stand) -> None:
    inner = {
        "code": "EDG201",
        "message": "no conversion for 'Odd'",
        "where": None,
        "why": "x",
        "help": None,
        "details": {},
    }
    error = stand(ANSWER.format(answer={"status": "error", "error": inner}))
    assert (error["code"], error["exit"], error["message"]) == ("EDG201", 4, "no conversion for 'Odd'")
    error = stand(ANSWER.format(answer={"status": "error", "error": {**inner, "code": "EDG999"}}))
    assert error["code"] == "EDG504"


def test_the_worker_gets_nothing_that_it_does_not_need(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    text = OPEN + "print(json.dumps(sorted(os.environ)), os.getcwd(), os.environ['HOME'])\nsys.exit(1)"
    shown = stand(text)["details"]["log"]
    assert "AWS_SECRET_ACCESS_KEY" not in shown
    assert "CUDA_VISIBLE_DEVICES" in shown and "PYTHONHASHSEED" in shown
    assert str(tmp_path / "temporary") in shown.split()[-1]


def test_a_process_that_cannot_be_started_is_an_error(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "plan", lambda request: ["/nonexistent/python"])
    error = stand("")
    assert (error["code"], error["exit"]) == ("EDG501", 6)


def test_the_log_is_kept_where_it_is_asked_for(stand: Stand, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    stand(OPEN + "print('what happened')\nsys.exit(1)", "--log", str(log))
    assert log.read_text(encoding="utf-8") == "what happened\n"


def test_the_file_of_the_worker_becomes_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "worker.py"
    answer = {"status": "ok", "versions": {"tensorflow": "9.9"}, "signature": "serving_default", "notes": ["a note"]}
    script.write_text(
        ANSWER.format(answer=answer) + f"import shutil\nshutil.copy({os.fspath(DIGITS)!r}, request['model'])",
        encoding="utf-8",
    )
    monkeypatch.setattr(child, "plan", lambda request: [sys.executable, str(script), str(request)])
    monkeypatch.setattr(importer, "require_packages", lambda packages, what: None)
    model = identity_model(tmp_path / "model")
    assert main(["check", str(model), "--target", "tflite", "--batch", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "model"
    assert document["summary"]["verdict"] == "ok"
    assert document["notes"][:2] == ["imported with tensorflow 9.9, signature 'serving_default'", "a note"]


def test_without_tensorflow_the_extra_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed here")
    model = identity_model(tmp_path / "model")
    assert main(["convert", str(model), "--target", "tflite", "-o", str(tmp_path / "out")]) == 5
    shown = capsys.readouterr().err
    assert "EDG013" in shown and "pip install 'edgec[tensorflow]'" in shown
    assert not (tmp_path / "out").exists()
