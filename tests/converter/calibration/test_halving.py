"""float16 conversions: what overflows or underflows stays float32, and is listed with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgec.converter.convert import ConversionResult, convert
from edgec.converter.importers import open_source
from edgec.converter.importers.imported import SourceOptions
from edgec.converter.verify import verify_folder
from edgec.errors import EdgecError
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.passes.float16 import Float16
from edgec.ir.proto import model_to_proto
from edgec.ir.types import Array
from tests.command import DIGIT_SAMPLES, DIGITS
from tests.schemas import validate

PLANTED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,64] x, float[1,64] s) => (float[1,64] y, float[1,64] z)
  {
  large = Mul (x, s)
  y = Div (large, s)
  again = Div (x, s)
  small = Div (again, s)
  back = Mul (small, s)
  nearly = Mul (back, s)
  z = Tanh (nearly)
}"""
"""With s = 2e4, ``large`` overflows float16 and ``small`` (2.5e-9) underflows; y = x and z = tanh(x)."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def samples(scale: float, count: int = 6) -> dict[str, Array]:
    """Inputs of the planted model."""
    x = np.random.default_rng(0).standard_normal((count, 1, 64)).astype(np.float32) * 4
    return {"x": x, "s": np.full(x.shape, scale, np.float32)}


def planted(folder: Path, scale: float, **options: Any) -> ConversionResult:
    """The planted model for ONNX Runtime at float16."""
    source = folder / "source.onnx"
    onnx.save(onnx.parser.parse_model(PLANTED), source)
    np.savez(folder / "data.npz", **samples(scale))  # type: ignore[arg-type]
    given = {"calibration": folder / "data.npz", "isolate": False, "precision": "fp16", **options}
    return convert(source, target="onnxruntime", output=folder / "out", **given)


def by_numpy(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The outputs by ONNX's reference, which computes float16 in float16."""
    with np.errstate(all="ignore"):
        return [np.asarray(item) for item in ReferenceEvaluator(model).run(None, feeds)]


def test_what_overflows_or_underflows_stays_float32_and_the_rest_does_not(tmp_path: Path) -> None:
    result = planted(tmp_path, 2e4)
    kept = {item["node"]: item for item in result.document["quantization"]["float32"]}
    listed = {item["operator"] for item in kept.values()}
    assert listed == {"Mul", "Div"}
    reasons = " ".join(item["reason"] for item in kept.values())
    assert "'large'" in reasons and "largest of float16" in reasons
    assert "'small'" in reasons and "below what float16 resolves" in reasons
    assert any("stay float32" in note and "'large'" in note for note in result.notes)
    validate(result.document)
    written = onnx.load(str(result.artifact))
    types = {
        item.name: item.type.tensor_type.elem_type
        for item in onnx.shape_inference.infer_shapes(written).graph.value_info
    }
    assert types["large"] == onnx.TensorProto.FLOAT and types["small"] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in types.values()
    feeds = {name: array[0] for name, array in samples(2e4).items()}
    y, z = by_numpy(written, feeds)
    np.testing.assert_allclose(y, feeds["x"], rtol=5e-3)
    np.testing.assert_allclose(z, np.tanh(feeds["x"]), rtol=5e-3, atol=1e-3)


def test_without_the_ranges_the_same_model_would_be_wrong(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(PLANTED), tmp_path / "source.onnx")
    model = open_source(tmp_path / "source.onnx", SourceOptions()).model
    for item in parse_pipeline("fold-constants"):
        item.apply(model)
    Float16().apply(model)
    y, z = by_numpy(model_to_proto(model), {name: array[0] for name, array in samples(2e4).items()})
    assert not np.isfinite(y).all()
    assert float(np.abs(z).max()) == 0


def test_harmless_numbers_keep_nothing_in_float32(tmp_path: Path) -> None:
    result = planted(tmp_path, 2.0)
    assert result.document["quantization"]["float32"] == []
    assert not any("stay float32" in note for note in result.notes)


def test_without_calibration_the_samples_of_the_verification_are_used_and_that_is_said(tmp_path: Path) -> None:
    result = planted(tmp_path, 2e4, calibration=None, data=tmp_path / "data.npz")
    assert any("samples of --data" in note for note in result.notes)
    assert result.document["quantization"]["float32"]
    made_up = planted(tmp_path, 2e4, calibration=None, ranges={"s": (1.0, 2.0)})
    assert any("random samples of the verification" in note for note in made_up.notes)
    assert made_up.document["quantization"]["float32"] == []


def test_inputs_and_outputs_can_be_float16(tmp_path: Path) -> None:
    result = planted(tmp_path, 2.0, io_dtype="float16")
    written = onnx.load(str(result.artifact)).graph
    assert {item.type.tensor_type.elem_type for item in (*written.input, *written.output)} == {onnx.TensorProto.FLOAT16}
    assert set(result.document["quantization"]["quantized_io"]) == {"x", "s", "y", "z"}
    assert "'x' is float16" in result.notes, "not integers"
    assert any("slower than float32" in note for note in result.notes)
    assert verify_folder(result.artifact.parent, against=tmp_path / "source.onnx", isolate=False).passed
    validate(result.document)


def test_an_input_that_does_not_fit_stays_float32(tmp_path: Path) -> None:
    result = planted(tmp_path, 4e4, io_dtype="float16")
    types = {item.name: item.type.tensor_type.elem_type for item in onnx.load(str(result.artifact)).graph.input}
    assert types == {"x": onnx.TensorProto.FLOAT16, "s": onnx.TensorProto.FLOAT}
    assert any(note.startswith("'s' stays float32") for note in result.notes)


def test_a_model_without_floats_outside_cannot_have_float16_there(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (int32[4] x) => (int32[4] y) { y = Add (x, x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "source.onnx")
    with pytest.raises(EdgecError) as caught:
        convert(
            tmp_path / "source.onnx",
            target="onnxruntime",
            output=tmp_path / "out",
            precision="float16",
            io_dtype="float16",
            isolate=False,
        )
    assert caught.value.code == "EDG036"


def forced(artifact: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a .tflite where LiteRT's XNNPACK is told to compute in float16 (its flag 4)."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.options import Options

    model = CompiledModel.from_file(
        str(artifact), options=Options(cpu_options=CpuOptions(num_threads=1, xnnpack_flags=4))
    )
    details = model.get_signature_by_index(0)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    for name, buffer in zip(details["inputs"], inputs, strict=True):
        buffer.write(np.ascontiguousarray(feeds[name]))
    model.run_by_index(0, inputs, outputs)
    return {
        name: np.array(buffer.read(64, np.float32)) for name, buffer in zip(details["outputs"], outputs, strict=True)
    }


@pytest.mark.parametrize(("scale", "sound"), [(2.0, True), (2e4, False)])
def test_litert_is_told_which_nodes_would_not_survive_float16_arithmetic(
    scale: float, sound: bool, tmp_path: Path
) -> None:
    planted(tmp_path, scale)  # writes source and data
    result = convert(
        tmp_path / "source.onnx",
        target="tflite",
        output=tmp_path / "lite",
        precision="float16",
        calibration=tmp_path / "data.npz",
        isolate=False,
    )
    assert (result.document["quantization"]["float32"] == []) is sound
    assert any("would not fit into float16" in note for note in result.notes) is not sound
    feeds = {name: array[0] for name, array in samples(scale).items()}
    found = forced(result.artifact, feeds)
    assert np.allclose(found["y"], feeds["x"].reshape(-1), rtol=1e-2) is sound
    validate(result.document)


def test_litert_takes_and_gives_float16(tmp_path: Path) -> None:
    planted(tmp_path, 2.0)
    result = convert(
        tmp_path / "source.onnx",
        target="tflite",
        output=tmp_path / "lite",
        precision="float16",
        io_dtype="float16",
        calibration=tmp_path / "data.npz",
        isolate=False,
    )
    artifact = result.document["artifact"]
    assert {item["dtype"] for item in (*artifact["inputs"], *artifact["outputs"])} == {"float16"}
    assert verify_folder(result.artifact.parent, against=tmp_path / "source.onnx", isolate=False).passed


@pytest.mark.parametrize("target", ["tflite", "onnxruntime"])
def test_a_model_that_arrives_quantized_is_calibrated_but_for_its_weights(target: str, tmp_path: Path) -> None:
    """ONNX Runtime 1.32 does not load a model that hands out what it makes of quantized weights."""
    source = DIGITS.with_name("digits_qdq.onnx")
    result = convert(source, target=target, output=tmp_path / "out", precision="float16", calibration=DIGIT_SAMPLES)
    assert "the model is quantized already: what is between its integers stays float32" in result.notes
    assert not any("only constants" in note for note in result.notes)
    assert {item["reason"] for item in result.document["quantization"]["float32"]} == {"next to an integer"}
