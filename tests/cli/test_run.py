"""``edgec run``, as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from edgec.cli.main import main
from edgec.cli.session_options import named_delegate, plain, settings
from tests.command import DIGIT_SAMPLES, DIGITS, edgec
from tests.schemas import validate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "out"
    assert main(["convert", str(DIGITS), "--target", "tflite", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "out"
    options = ["--precision", "int8", "--io-dtype", "int8", "--calibration", str(DIGIT_SAMPLES)]
    assert main(["convert", str(DIGITS), "--target", "tflite", *options, "-o", str(path)]) == 0
    return path


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    """A sample of the digit 6."""
    with np.load(DIGIT_SAMPLES) as data:
        np.save(tmp_path / "six.npy", data["x"][:1])
    return tmp_path / "six.npy"


def built_delegate(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test's delegate with")
    library = folder / "libtestdelegate.so"
    source = Path(__file__).parents[1] / "targets/tflite/delegate.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["run", *map(str, arguments), "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    validate(found)
    return found


def test_an_artifact_runs_on_a_file(folder: Path, digit: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit [{number}]" for number in range(10)))
    done = edgec("run", folder, "--input", digit, "--labels", labels, "--threads", "2", "-o", tmp_path / "kept")
    assert done.code == 0, done.stderr
    assert "digit [6]" in done.stdout and "kept.npz" in done.stdout
    with np.load(tmp_path / "kept.npz") as kept:
        (name,) = kept.files
        assert kept[name].shape == (1, 10) and kept[name].argmax() == 6


@pytest.mark.parametrize(
    "arguments",
    [("bench",), ("run", "--input", "x.npy"), ("verify", "--against", str(DIGITS))],
    ids=lambda item: item[0],
)
def test_a_folder_that_is_not_there_is_a_usage_error(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = arguments
    assert main([command, str(tmp_path / "nowhere"), *options, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    validate(found)
    assert found["error"]["code"] == "EDG017" and "nowhere" in found["error"]["message"]


def test_labels_that_are_too_few_are_said(
    folder: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.txt").write_text("zero\none\ntwo\n")
    found = document(capsys, folder, "--input", digit, "--labels", tmp_path / "few.txt")
    assert found["notes"] == ["'few.txt' names 3 classes, 'logits' has 10"]
    (output,) = found["outputs"]  # type: ignore[misc]
    assert output["top"][0] == {**output["top"][0], "index": 6, "label": None}


def test_an_array_of_another_name_is_taken_for_the_only_input_and_said(
    folder: Path, integers: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", picture=np.load(digit))
    found = document(capsys, folder, "--input", tmp_path / "other.npz")
    assert found["notes"] == ["'picture' of 'other.npz' is taken for 'x', the only input"]
    notes = document(capsys, integers, "--input", tmp_path / "other.npz")["notes"]
    assert "'picture' of 'other.npz'" in notes[0] and "float32 made int8" in notes[1]  # type: ignore[index]
    np.savez(tmp_path / "unnamed.npz", np.load(digit))
    assert document(capsys, folder, "--input", tmp_path / "unnamed.npz")["notes"] == []


def test_what_is_wrong_with_floats_for_integers_is_said_of_floats(
    integers: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Floats are quantized; that a file holds floats is never what is wrong with it."""
    np.save(tmp_path / "wide.npy", np.load(digit).astype(np.float64))
    np.save(tmp_path / "long.npy", np.load(digit)[..., :7])
    np.save(tmp_path / "integers.npy", np.zeros((1, 1, 8, 7), np.int8))
    for file, said in (
        (DIGIT_SAMPLES, "holds more than one sample"),
        (tmp_path / "wide.npy", "is float64, the input is float32"),
        (tmp_path / "long.npy", "has shape [1, 1, 8, 7], the input has [1, 1, 8, 8]"),
        (tmp_path / "integers.npy", "has shape [1, 1, 8, 7], the input has [1, 1, 8, 8]"),
    ):
        assert main(["run", str(integers), "--input", str(file)]) == 2
        error = capsys.readouterr().err
        assert "EDG005" in error and said in error and "int8" not in error, error


def test_the_document_follows_its_schema(
    folder: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, folder, "--input", f"x={digit}", "--top-k", "3")
    (output,) = found["outputs"]  # type: ignore[misc]
    assert output["top"][0]["index"] == 6 and len(output["top"]) == 3 and len(output["values"]) == 10
    assert found["inputs"] == [{"name": "x", "file": "six.npy", "dtype": "float32", "shape": [1, 1, 8, 8]}]
    np.savez(tmp_path / "all.npz", x=np.load(digit))
    again = document(capsys, folder, "--input", tmp_path / "all.npz")
    assert again["outputs"][0]["values"] == output["values"] and again["outputs"][0]["top"] is None  # type: ignore[index]


def test_integers_are_shown_as_real_numbers(
    folder: Path, integers: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = document(capsys, folder, "--input", digit)["outputs"][0]["values"]  # type: ignore[index]
    found = document(capsys, integers, "--input", digit, "-o", tmp_path / "raw.npz", "--top-k", "1")
    (output,) = found["outputs"]  # type: ignore[misc]
    assert output["dtype"] == "int8" and output["top"][0]["index"] == 6
    np.testing.assert_allclose(output["values"], real, atol=1.5)
    assert found["notes"][0] == "input 'x': float32 made int8: real = 0.0627451 * (integer + 128)"  # type: ignore[index]
    with np.load(tmp_path / "raw.npz") as raw:
        assert raw[output["name"]].dtype == np.int8


def test_images_are_prepared_as_for_calibration(
    folder: Path, integers: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pytest.importorskip("PIL.Image", reason="needs Pillow (extra images)")
    pixels = np.load(digit)[0, 0]
    scale = 255 / pixels.max()
    images.fromarray(np.round(pixels * scale).astype(np.uint8)).save(tmp_path / "six.png")
    for artifact in (folder, integers):
        found = document(
            capsys, artifact, "--input", tmp_path / "six.png", "--scale", repr(float(1 / scale)), "--top-k", "1"
        )
        assert found["outputs"][0]["top"][0]["index"] == 6  # type: ignore[index]
    (tmp_path / "bad.png").write_text("no image")
    assert main(["run", str(folder), "--input", str(tmp_path / "bad.png")]) == 2
    assert "EDG006" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], "EDG005", "no file for the input 'x'"),
        (["--input", "none.npy"], "EDG006", "no file 'none.npy'"),
        (["--input", "DIGIT", "--input", "DIGIT"], "EDG005", "given twice"),
        (["--input", "z=DIGIT"], "EDG002", "'z' is no input"),
        (["--input", "DIGIT", "--labels", "none.txt"], "EDG006", "labels"),
        (["--input", "DIGIT", "--labels", "DIGIT"], "EDG006", "one name per line"),
        (["--input", "DIGIT", "--provider", "cuda"], "EDG040", "provider"),
        (["--input", "DIGIT", "--session-option", "threads=none"], "EDG040", "threads"),
        (["--input", "DIGIT", "--delegate", "/none/libx.so"], "EDG520", "is not there"),
        (["--input", "DIGIT", "--delegate", "=1"], "EDG001", "library"),
        (["--input", "SAMPLES"], "EDG005", "more than one sample"),
        (["--input", "DIGIT", "-o", "/proc/none/out.npz"], "EDG010", "cannot be written"),
    ],
)
def test_what_does_not_fit_is_said(
    folder: Path, digit: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, words: str
) -> None:
    given = [item.replace("DIGIT", str(digit)).replace("SAMPLES", str(DIGIT_SAMPLES)) for item in arguments]
    assert main(["run", str(folder), *given]) != 0
    said = capsys.readouterr().err
    assert code in said and words in said


def test_a_moved_channel_axis_is_pointed_out(digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nhwc"
    assert main(["convert", str(DIGITS), "--target", "tflite", "--io-layout", "NHWC", "-o", str(path)]) == 0
    assert main(["run", str(path), "--input", str(digit)]) == 2
    assert "permuted the axes of 'x' by [0, 2, 3, 1]" in capsys.readouterr().err
    np.save(tmp_path / "moved.npy", np.load(digit).transpose(0, 2, 3, 1))
    found = document(capsys, path, "--input", tmp_path / "moved.npy", "--top-k", "1")
    assert found["outputs"][0]["top"][0]["index"] == 6  # type: ignore[index]


def test_a_delegate_and_what_it_leaves(
    folder: Path, digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = built_delegate(tmp_path)
    found = document(capsys, folder, "--input", digit, "--delegate", f"{library},gain=1,most=9")
    assert found["assignment"]["runner"] == library.name  # type: ignore[index]
    assert any(note.startswith(library.name) for note in found["notes"])  # type: ignore[attr-defined]
    arguments = ["run", str(folder), "--input", str(digit), "--delegate", str(library), "--require-delegate", "--json"]
    assert main(arguments) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "EDG523" and error["details"]["left"]


def test_delegates_and_options_are_read() -> None:
    assert named_delegate("libfoo.so") == {"library": "libfoo.so", "options": {}}
    assert named_delegate("/a/b.so,device=0,backends=GpuAcc,CpuAcc,x=") == {
        "library": "/a/b.so",
        "options": {"device": "0", "backends": "GpuAcc,CpuAcc", "x": ""},
    }
    assert settings([], "GPU", None, True, [("device-limit", "5")]) == {
        "api": "compiled",
        "accelerator": "gpu",
        "require_delegate": True,
        "device_limit": 5,
    }
    assert [plain(text) for text in ("3", "true", "a b", "[1, 2]", "0x3")] == [3, True, "a b", [1, 2], "0x3"]


def test_bench_tells_what_a_delegate_leaves(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path / "leases"))
    library = built_delegate(tmp_path)
    arguments = ["bench", str(folder), "--budget", "1s", "--delegate", str(library)]
    assert main([*arguments, "--json"]) in (0, 7)
    found = json.loads(capsys.readouterr().out)
    validate(found)
    taken = found["rows"][0]["assignment"]
    assert taken["runner"] == library.name and taken["left"] and not taken["complete"]
    assert main(arguments) in (0, 7)
    assert f"note: {library.name} took" in capsys.readouterr().out


def test_the_documented_session_options_are_those_that_exist() -> None:
    from edgec.runtime.onnxruntime.options import Options as OnnxRuntimeOptions
    from edgec.targets.tflite.options import Options as LiteRTOptions

    text = (Path(__file__).parents[2] / "docs/running.md").read_text(encoding="utf-8")
    for heading, options in (("### ONNX Runtime", OnnxRuntimeOptions), ("### LiteRT", LiteRTOptions)):
        table = text.split(heading)[1].split("\n## ")[0].split("\n### ")[0]
        listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
        assert listed == {item.name for item in fields(options)}
