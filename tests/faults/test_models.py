"""Every kind of bad model ends with its own code and exit code, in convert and in check, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.cli.main import main
from tests.command import DIGITS
from tests.faults import graphs
from tests.schemas import validate

Make = Callable[[Path], Path]


def raw(data: bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(data)
        return path

    return make


def built(make_model: Callable[[], object]) -> Make:
    return lambda folder: graphs.save(make_model(), folder / "model.onnx")  # type: ignore[arg-type]


def external_outside(folder: Path) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    np.ones(4, np.float32).tofile(folder / "weights.bin")
    return graphs.save(graphs.external("../weights.bin"), inner / "model.onnx")


def external_link(folder: Path) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    np.ones(4, np.float32).tofile(folder / "weights.bin")
    (inner / "weights.bin").symlink_to(folder / "weights.bin")
    return graphs.save(graphs.external("weights.bin"), inner / "model.onnx")


def external_short(folder: Path) -> Path:
    (folder / "weights.bin").write_bytes(b"\0" * 8)
    return graphs.save(graphs.external("weights.bin"), folder / "model.onnx")


INVALID: dict[str, tuple[Make, str]] = {
    "no such file": (lambda folder: folder / "absent.onnx", "EDG101"),
    "a folder": (lambda folder: folder, "EDG101"),
    "empty": (raw(b""), "EDG102"),
    "an HTML page": (raw(b"<!DOCTYPE html><html><body>404 not found</body></html>"), "EDG103"),
    "a Git LFS pointer": (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"), "EDG103"),
    "compressed": (raw(gzip.compress(b"model" * 100)), "EDG103"),
    "truncated in the weights": (raw(DIGITS.read_bytes()[:-5000]), "EDG104"),
    "truncated by one byte": (raw(graphs.relu().SerializeToString()[:-1]), "EDG104"),
    "protobuf, but no model": (raw(graphs.relu().graph.node[0].SerializeToString()), "EDG105"),
    "protobuf without a graph": (raw(b"\x08\x08"), "EDG105"),
    "cyclic": (built(graphs.cyclic), "EDG106"),
    "external data missing": (built(lambda: graphs.external("absent.bin")), "EDG107"),
    "external data too short": (external_short, "EDG107"),
    "external data in another folder": (external_outside, "EDG108"),
    "external data behind a link": (external_link, "EDG108"),
    "external data at an absolute path": (built(lambda: graphs.external("/etc/hostname")), "EDG108"),
    "a tensor that is too short": (built(graphs.short_tensor), "EDG109"),
    "operands of different types": (built(graphs.wrong_type), "EDG109|EDG111"),
}


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
@pytest.mark.parametrize("kind", list(INVALID))
def test_an_invalid_model_exits_with_3_and_its_code(
    kind: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, codes = INVALID[kind]
    source = tmp_path / "source"
    source.mkdir()
    path = make(source)
    for command in (["convert", "-o", str(tmp_path / "new" / "out")], ["check"]):
        assert main([*command, str(path), "--target", target, "--json"]) == 3
        text = capsys.readouterr()
        document = json.loads(text.out)
        validate(document)
        assert document["error"]["code"] in codes.split("|"), document["error"]
        assert document["error"]["exit"] == 3
        assert text.err.startswith(document["error"]["code"])
        assert "Traceback" not in text.err
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


def test_a_broken_model_is_refused_by_inspect_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 3
    assert capsys.readouterr().err.startswith("EDG102")


REFUSED: dict[str, tuple[Make, str, str]] = {
    "unknown operator": (built(graphs.unknown_operator), "onnxruntime", "EDG201"),
    "unknown domain": (built(lambda: graphs.unknown_operator("org.example")), "onnxruntime", "EDG201"),
    "unknown operator for tflite": (built(graphs.unknown_operator), "tflite", "EDG201"),
    "dynamic dim without a value": (built(lambda: graphs.relu(("batch", 4))), "tflite", "EDG202"),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_a_target_cannot_hold_exits_with_4_and_check_says_so_first(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, target, code = REFUSED[kind]
    path = make(tmp_path)
    assert main(["convert", str(path), "--target", target, "-o", str(tmp_path / "out"), "--json"]) == 4
    text = capsys.readouterr()
    document = json.loads(text.out)
    validate(document)
    assert document["error"]["code"] == code
    assert document["error"]["where"] or document["error"]["details"]
    assert not (tmp_path / "out").exists()
    assert main(["check", str(path), "--target", target, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    validate(report)
    assert [(node["verdict"], node["rule"]) for node in report["nodes"]] == [("unsupported", code)]
    assert report["summary"]["verdict"] == "unsupported"


def test_a_dynamic_dim_converts_once_it_has_a_value(tmp_path: Path) -> None:
    path = graphs.save(graphs.relu(("batch", 4)), tmp_path / "model.onnx")
    assert main(["convert", str(path), "--target", "tflite", "-o", str(tmp_path / "a"), "--batch", "2"]) == 0
    assert main(["convert", str(path), "--target", "tflite", "-o", str(tmp_path / "b"), "--input-shape", "x:3,4"]) == 0
    assert main(["convert", str(path), "--target", "onnxruntime", "-o", str(tmp_path / "c")]) == 0
