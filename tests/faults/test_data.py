"""Samples that do not fit the model are usage errors with their own codes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.cli.main import main
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.schemas import validate


def npz(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
        return folder / "data.npz"

    return make


def raw(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def pickled(folder: Path) -> Path:
    np.save(folder / "data.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return folder / "data.npy"


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another shape": (npz(x=np.zeros((1, 1, 9, 9), np.float32)), "EDG005"),
    "another rank": (npz(x=np.zeros((8, 8), np.float32)), "EDG005"),
    "another dtype": (npz(x=np.zeros((1, 1, 8, 8), np.int32)), "EDG005"),
    "arrays of other names": (npz(z=np.zeros((1, 1, 8, 8), np.float32), q=np.zeros(3, np.float32)), "EDG002"),
    "no arrays at all": (npz(), "EDG005"),
    "no file": (lambda folder: folder / "absent.npz", "EDG006"),
    "no arrays file": (raw("data.npz", b"not a zip"), "EDG006"),
    "text": (raw("data.npy", b"1 2 3"), "EDG006"),
    "another kind of file": (raw("data.csv", b"1,2,3"), "EDG006"),
    "pickled objects": (pickled, "EDG006"),
    "a pickle": (raw("data.npy", pickle.dumps([1, 2, 3])), "EDG006"),
}


@pytest.mark.parametrize("kind", list(CASES))
def test_data_that_does_not_fit_exits_with_2(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, code = CASES[kind]
    source = tmp_path / "source"
    source.mkdir()
    data = make(source)
    out = tmp_path / "out"
    arguments = ["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(out), "--data", str(data), "--json"]
    assert main(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    validate(document)
    assert document["error"]["code"] == code
    assert not out.exists()


def test_a_range_for_an_input_that_does_not_exist_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "convert",
        str(DIGITS),
        "--target",
        "onnxruntime",
        "-o",
        str(tmp_path / "out"),
        "--range",
        "absent:0,1",
    ]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("EDG002")


def test_labelled_samples_are_used_and_named_in_the_manifest(tmp_path: Path) -> None:
    with np.load(DIGIT_SAMPLES) as arrays:
        np.savez(tmp_path / "few.npz", x=arrays["x"][:5])
    arguments = ["convert", str(DIGITS), "--target", "onnxruntime", "-o", str(tmp_path / "out")]
    assert main([*arguments, "--data", str(tmp_path / "few.npz")]) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
    assert [item["name"] for item in manifest["options"]["data"]] == ["few.npz"]
