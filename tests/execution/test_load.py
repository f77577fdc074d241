"""``edgec.load``: what a conversion left runs, and what is missing or changed is named."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import edgec
from edgec.errors import EdgecError
from edgec.runtime.memory import HostPool
from tests.command import DIGIT_SAMPLES, DIGITS


def digits(count: int = 1) -> np.ndarray:
    with np.load(DIGIT_SAMPLES) as data:
        return data["x"][:count]


def reference(x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(DIGITS).run(None, {"x": x})[0]


def refused(folder: Path, code: str, **options: Any) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        edgec.load(folder, **options)
    assert caught.value.code == code, str(caught.value)
    return caught.value


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_a_loaded_artifact_computes_what_the_model_does(
    artifacts: dict[str, Path], target: str, isolated: bool
) -> None:
    with edgec.load(artifacts[target], isolated=isolated, threads=2) as model:
        assert model.target == target and model.path.name.startswith("model.")
        assert [spec.name for spec in model.inputs] == ["x"] and model.inputs[0].dtype == np.float32
        (name,) = (spec.name for spec in model.outputs)
        np.testing.assert_allclose(model.run({"x": digits()})[name], reference(digits()), rtol=1e-4, atol=1e-4)
    with pytest.raises(EdgecError, match="closed"):
        model.run({"x": digits()})


def test_an_integer_artifact_says_what_its_numbers_mean(artifacts: dict[str, Path]) -> None:
    with edgec.load(artifacts["int8"]) as model:
        x, name = digits(), model.outputs[0].name
        assert model.inputs[0].dtype == np.int8
        with pytest.raises(EdgecError, match="float32, the input is int8") as caught:
            model.run({"x": x})
        assert caught.value.code == "EDG005" and "quantize('x'" in str(caught.value.help)
        held = model.quantize("x", x)
        assert held.dtype == np.int8
        raw = model.run({"x": held})[name]
        real = model.dequantize(name, raw)
        assert raw.dtype == np.int8 and real.dtype == np.float32
        assert real.argmax() == reference(x).argmax()
        assert model.dequantize("no such output", raw) is raw


@pytest.mark.parametrize(
    ("feeds", "code", "words"),
    [
        ({}, "EDG005", "no array for the input 'x'"),
        ({"x": digits(), "z": digits()}, "EDG002", "'z' is no input"),
        ({"x": digits().astype(np.float64)}, "EDG005", "float64"),
        ({"x": digits()[0]}, "EDG005", "has shape [1, 8, 8]"),
        ({"x": digits(2)}, "EDG005", "has shape [2, 1, 8, 8]"),
    ],
    ids=["missing", "unknown", "dtype", "rank", "batch"],
)
def test_inputs_that_do_not_fit_are_refused(
    artifacts: dict[str, Path], feeds: dict[str, np.ndarray], code: str, words: str
) -> None:
    with edgec.load(artifacts["tflite"]) as model, pytest.raises(EdgecError) as caught:
        model.run(feeds)
    assert caught.value.code == code and words in caught.value.message


def test_a_folder_without_a_conversion_is_refused(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "none", "EDG017").message
    assert "no manifest.json" in refused(tmp_path, "EDG017").message
    (tmp_path / "model.tflite").write_bytes(b"")
    given = refused(tmp_path / "model.tflite", "EDG017")
    assert "is a file" in given.message and str(tmp_path) in str(given.help)
    (tmp_path / "model.plan.json").write_text("{}")
    assert "model.plan.json" in str(refused(tmp_path, "EDG017").why)
    for text in ("", "{", "[]", "{}", '{"artifact": {"path": "a"}}'):
        (tmp_path / "manifest.json").write_text(text)
        assert "is no manifest" in refused(tmp_path, "EDG306").message


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
def test_what_is_missing_or_changed_is_named(artifacts: dict[str, Path], tmp_path: Path, isolated: bool) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifacts["onnxruntime"], folder)
    edgec.load(folder, isolated=isolated).close()
    sidecar = folder / "model.session.json"
    kept = sidecar.read_bytes()
    sidecar.write_bytes(kept + b" ")
    assert "'model.session.json' has changed" in refused(folder, "EDG306", isolated=isolated).message
    sidecar.unlink()
    assert "'model.session.json' is not there" in refused(folder, "EDG306", isolated=isolated).message
    sidecar.write_bytes(kept)
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert "'model.onnx' has changed" in refused(folder, "EDG306", isolated=isolated).message
    model.unlink()
    assert "'model.onnx' is not there" in refused(folder, "EDG306", isolated=isolated).message


def test_a_manifest_cannot_reach_outside_its_folder(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifacts["tflite"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    outside = tmp_path / "other.tflite"
    (folder / "model.tflite").rename(outside)
    manifest["artifact"]["path"] = "../other.tflite"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "'other.tflite' is not there" in refused(folder, "EDG306").message


@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
def test_options_that_the_target_does_not_have_are_refused(artifacts: dict[str, Path], isolated: bool) -> None:
    assert "'delegates'" in refused(artifacts["onnxruntime"], "EDG040", delegates=[], isolated=isolated).message
    assert "'arena'" in refused(artifacts["tflite"], "EDG040", arena=True, isolated=isolated).message
    assert "threads" in refused(artifacts["tflite"], "EDG040", threads=0, isolated=isolated).message


@pytest.mark.parametrize(("target", "code"), [("edgetpu", "EDG520"), ("ethosu", "EDG521")])
@pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])
def test_targets_whose_device_is_elsewhere_say_so(
    artifacts: dict[str, Path], tmp_path: Path, target: str, code: str, isolated: bool
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifacts["int8"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "target": target}))
    with pytest.raises(EdgecError) as caught:
        edgec.load(folder, isolated=isolated)
    assert caught.value.code in (code, "EDG521") and caught.value.exit_code == 5 and caught.value.help
    assert "session option" in refused(folder, "EDG040", provider="cpu", isolated=isolated).message


def test_an_unknown_target_says_so(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifacts["tflite"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "target": "abacus"}))
    refused(folder, "EDG003")


def test_what_tuning_found_is_the_default(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifacts["onnxruntime"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tuned"] = {"session": {"threads": 2, "optimise": "basic"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with edgec.load(folder) as model:
        assert model.options == {"threads": 2, "optimise": "basic"}
        found = model._session._session.get_session_options()  # type: ignore[attr-defined]
        assert found.intra_op_num_threads == 2
        assert found.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with edgec.load(folder, threads=1) as model:
        assert model.options["threads"] == 1 and model.options["optimise"] == "basic"


def test_buffers_are_bound_here_but_not_in_another_process(artifacts: dict[str, Path]) -> None:
    pool = HostPool()
    with edgec.load(artifacts["onnxruntime"]) as model:
        binding = model.bind(pool)
        binding.inputs["x"][...] = digits()
        binding.run()
        np.testing.assert_allclose(next(iter(binding.outputs.values())), reference(digits()), rtol=1e-4, atol=1e-4)
    with edgec.load(artifacts["tflite"], api="compiled") as model:
        binding = model.bind(pool)
        binding.inputs["x"][...] = digits()
        binding.run()
        np.testing.assert_allclose(next(iter(binding.outputs.values())), reference(digits()), rtol=1e-4, atol=1e-4)
    assert pool.statistics().live == 0
    with edgec.load(artifacts["tflite"], isolated=True) as model, pytest.raises(EdgecError, match="own") as caught:
        model.bind(pool)
    assert caught.value.code == "EDG040"


UNUSUAL = {
    "one value, two outputs": "agraph (float[1,4] x) => (float[1,4] y, float[1,4] z) { y = Relu(x) z = Identity(y) }",
    "an input as output": "agraph (float[1,4] x) => (float[1,4] y, float[1,4] z) { y = Relu(x) z = Identity(x) }",
    "a single number": "agraph (float x, float[3] w) => (float[3] y, float z) { y = Mul(x, w) z = Relu(x) }",
    "booleans": "agraph (float[4] x, float[4] w) => (bool[4] y) { y = Less(x, w) }",
    "no elements": "agraph (float[0,4] x) => (float[0,4] y) { y = Relu(x) }",
    "an unused input": "agraph (float[4] x, float[3] w) => (float[4] y) { y = Relu(x) }",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_bindings_and_runs_agree_on_unusual_interfaces(tmp_path: Path, name: str) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {UNUSUAL[name]}')
    source = tmp_path / "model.onnx"
    onnx.save(model, source)
    reference = onnxruntime.InferenceSession(source)
    generator = np.random.default_rng(0)
    feeds = {item.name: generator.standard_normal(item.shape).astype(np.float32) for item in reference.get_inputs()}
    feeds = {key: np.asarray(array, np.float32) for key, array in feeds.items()}
    expected = dict(zip([item.name for item in reference.get_outputs()], reference.run(None, feeds)))
    for target, options in (("onnxruntime", {}), ("tflite", {}), ("tflite", {"api": "compiled"})):
        edgec.convert(source, target=target, output=tmp_path / target)
        with edgec.load(tmp_path / target, **options) as loaded:
            if name == "no elements" and options:
                with pytest.raises(EdgecError) as caught:
                    loaded.run(feeds)
                assert caught.value.code == "EDG303"
                continue
            found = loaded.run(feeds)
            binding = loaded.bind()
            for key, array in feeds.items():
                binding.inputs[key][...] = array
            binding.run()
            assert set(found) == set(expected) == set(binding.outputs)
            for key, array in expected.items():
                assert found[key].dtype == array.dtype == binding.outputs[key].dtype
                np.testing.assert_allclose(found[key], array, rtol=1e-6)
                np.testing.assert_array_equal(binding.outputs[key], found[key])


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_closing_while_others_run_ends_their_runs_properly(artifacts: dict[str, Path], target: str) -> None:
    """Whoever is running finishes, whoever comes later is told; nothing crashes."""
    x, expected = digits(), reference(digits())
    for _ in range(5):
        model = edgec.load(artifacts[target])
        problems: list[object] = []
        started = threading.Barrier(5)

        def work(model: Any = model, problems: list[object] = problems, started: Any = started) -> None:
            started.wait()
            while True:
                try:
                    (y,) = model.run({"x": x}).values()
                except EdgecError as error:
                    if "closed" not in error.message:
                        problems.append(error)
                    return
                if not np.allclose(y, expected, rtol=1e-3, atol=1e-3):
                    problems.append(y)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        model.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not problems
