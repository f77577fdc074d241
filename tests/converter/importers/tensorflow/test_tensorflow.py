"""Models of TensorFlow and Keras, imported by the real thing: names, numbers, layouts and refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import edgec
from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.tensorflow.importer import convert_to_onnx
from edgec.converter.verify import verify_folder
from edgec.errors import EdgecError
from tests.command import ROOT, Finished
from tests.command import edgec as run_edgec
from tests.models import real_model, source_model
from tests.schemas import validate

PACKAGES = ("tensorflow", "tf2onnx", "tf_keras", "keras", "h5py")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs the extra [tensorflow]: {', '.join(MISSING)} not installed"),
]

TINY = ("anomaly_detection", "image_classification", "keyword_spotting", "visual_wake_words")
FLOAT = {*(f"{name}.h5" for name in TINY), "autoencoder_example.h5", "image_example1.h5", "emotion_model.hdf5"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model of build_models.py."""
    folder = tmp_path_factory.mktemp("models")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_models.py")), str(folder)],
        env={**os.environ, **quiet},
        check=True,
        timeout=600,
        capture_output=True,
    )
    return folder


def edgec_json(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    result: Finished = run_edgec(*arguments, "--json", timeout=600)
    assert result.code == code, result.stdout + result.stderr
    validate(result.document)
    return result.document


def test_a_channels_last_network_becomes_litert_without_a_transpose(models: Path, tmp_path: Path) -> None:
    document = edgec_json("convert", models / "image.keras", "-t", "tflite", "--batch", "1", "-o", tmp_path / "out")
    assert "TRANSPOSE" not in document["operators"]
    verification = document["verification"]
    assert verification["reference"]["runtime"] == "tensorflow"
    assert [item["name"] for item in verification["outputs"]] == ["logits", "mask"]
    assert all(item["status"] == "passed" and item["relative_l2"] < 1e-5 for item in verification["outputs"])
    assert [item["shape"] for item in verification["outputs"]] == [[1, 10], [1, 32, 32, 4]]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
    validate(manifest)
    report = verify_folder(tmp_path / "out", against=models / "image.keras", seed=1)
    assert report.passed


def test_names_order_and_types_are_the_sources_and_the_batch_has_a_name(models: Path, tmp_path: Path) -> None:
    document = edgec_json("import", models / "sequence.keras", "-o", tmp_path / "model.onnx")
    assert document["opset"] == 17
    assert {item["name"]: (item["dtype"], item["shape"]) for item in document["inputs"]} == {
        "features": ("float32", ["batch", 16]),
        "words": ("int32", ["batch", 12]),
    }
    assert [(item["name"], item["shape"]) for item in document["outputs"]] == [
        ("tone", ["batch", 3]),
        ("style", ["batch", 2]),
    ]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {"features": np.ones((5, 16), np.float32), "words": np.ones((5, 12), np.int32)}
    assert [array.shape for array in session.run(None, feeds)] == [(5, 3), (5, 2)]


def test_recurrent_layers_and_attention_become_litert(models: Path, tmp_path: Path) -> None:
    result = edgec.convert(models / "sequence.keras", target="tflite", output=tmp_path, batch=1)
    assert result.report is not None and result.report.passed


def test_a_model_of_keras_2_is_read_with_keras_2(models: Path, tmp_path: Path) -> None:
    result = edgec.import_(models / "legacy.h5", tmp_path / "model.onnx", opset=15)
    assert result.opset == onnx.load(result.model).opset_import[0].version == 15
    assert any("keras 2." in note for note in result.notes)
    assert result.report.passed


def test_a_signature_can_be_chosen_and_keeps_its_names(models: Path, tmp_path: Path) -> None:
    source = models / "signatures"
    facts = edgec.inspect(source)
    assert set(facts["signatures"]) == {"combine", "odd"}
    assert facts["signature"] is None
    with pytest.raises(EdgecError) as raised:
        edgec.convert(source, target="tflite", output=tmp_path)
    assert raised.value.code == "EDG016"
    result = edgec.convert(source, target="tflite", output=tmp_path, signature="combine", batch=2)
    assert result.report is not None
    assert [item.name for item in result.report.inputs] == ["left", "right"]
    assert {item.name: item.dtype for item in result.report.outputs} == {"classes": "int64", "sum": "float32"}
    assert verify_folder(tmp_path, against=source).passed


def test_an_operator_that_tf2onnx_lacks_is_named(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    document = edgec_json("import", models / "signatures", "--signature", "odd", "-o", output, code=4)
    assert document["error"]["code"] == "EDG201"
    assert "Digamma" in document["error"]["message"]
    assert not output.exists()


def test_a_static_batch_can_be_written(models: Path, tmp_path: Path) -> None:
    result = edgec.import_(models / "image_saved", tmp_path / "a.onnx", batch=1)
    assert [item["shape"] for item in result.facts["inputs"]] == [[1, 32, 32, 3]]


@pytest.mark.parametrize("name", ["image_saved", "sequence.keras"])
def test_two_imports_give_the_same_bytes(name: str, models: Path) -> None:
    written = []
    for _ in range(2):
        with convert_to_onnx(models / name, SourceOptions()) as converted:
            written.append(converted.path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_bytecode_runs_only_when_it_is_trusted(name: str, models: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as raised:
        edgec.convert(models / name, target="tflite", output=tmp_path, batch=1)
    assert (raised.value.code, raised.value.exit_code) == ("EDG115", 3)
    assert "'twice' holds Python bytecode" in (raised.value.why or "")
    result = edgec.convert(models / name, target="tflite", output=tmp_path, batch=1, trust=True)
    assert result.report is not None and result.report.passed


@pytest.mark.parametrize(
    ("name", "code"), [("only.weights.h5", "EDG116"), ("linked.h5", "EDG117"), ("damaged.h5", "EDG116")]
)
def test_files_that_hold_no_model_are_refused_by_name(name: str, code: str, models: Path, tmp_path: Path) -> None:
    document = edgec_json("import", models / name, "-o", tmp_path / "model.onnx", code=3)
    assert document["error"]["code"] == code
    assert name in document["error"]["message"]


def test_inspect_reads_hdf5_in_the_child(models: Path) -> None:
    document = edgec_json("inspect", models / "lambda.h5")
    assert document["format"] == "hdf5"
    assert document["code"] == ["layer 'twice' holds Python bytecode"]
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4]}]


@pytest.mark.parametrize(("option", "code"), [(("--timeout", "1"), "EDG502"), (("--memory-limit", "0.6"), "EDG503")])
def test_limits_hold_for_tensorflow_itself(option: tuple[str, str], code: str, models: Path, tmp_path: Path) -> None:
    document = edgec_json("import", models / "image_saved", "-o", tmp_path / "m.onnx", *option, code=6)
    assert document["error"]["code"] == code
    assert not list(tmp_path.iterdir())


def test_tensorflow_is_never_imported_by_edgec_itself(models: Path, tmp_path: Path) -> None:
    script = (
        "import sys, edgec\n"
        f"edgec.import_({os.fspath(models / 'legacy.h5')!r}, {os.fspath(tmp_path / 'm.onnx')!r})\n"
        "print([name for name in ('tensorflow', 'keras', 'tf_keras', 'tf2onnx', 'h5py') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.download
@pytest.mark.parametrize("name", sorted(FLOAT))
def test_real_keras_models_are_within_1e_5_of_tensorflow(name: str, tmp_path: Path) -> None:
    result = edgec.convert(source_model(name), target="tflite", output=tmp_path, batch=1)
    assert result.report is not None
    assert all(item["relative_l2"] <= 1e-5 for item in result.report.to_json()["outputs"])
    assert "TRANSPOSE" not in result.document["artifact"]["operators"]


@pytest.mark.download
def test_one_network_in_three_formats_is_one_function(tmp_path: Path) -> None:
    """basic-pitch as SavedModel, LiteRT and ONNX: all are imported, and agree within 1e-5."""
    samples = np.random.default_rng(0).uniform(-1, 1, (1, 43844, 1)).astype(np.float32)
    results = []
    for index, source in enumerate((source_model("basic-pitch"), source_model("basic-pitch.tflite"))):
        written = edgec.import_(source, tmp_path / f"{index}.onnx", batch=1).model
        results.append(_by_shape(written, samples))
    results.append(_by_shape(real_model("basic-pitch"), samples))
    for other in results[1:]:
        for key, array in results[0].items():
            assert np.linalg.norm(other[key] - array) <= 1e-5 * np.linalg.norm(array), key


def _by_shape(path: Path, samples: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs under the source's own names; the ONNX file has TensorFlow's numbered ones, in the order of names."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    arrays = session.run(None, {session.get_inputs()[0].name: samples})
    numbered = {f"StatefulPartitionedCall:{index}": name for index, name in enumerate(("contour", "note", "onset"))}
    return {numbered.get(name, name): array for name, array in zip(names, arrays)}
