"""The precisions of the onnxruntime target: integers where ONNX Runtime has kernels, float16 where numbers fit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.converter.convert import ConversionResult, convert
from tests.schemas import validate


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def residual(folder: Path) -> Path:
    """Conv+Relu, a residual sum read twice, pooling, a matrix product: x[1,3,16,16] to y[1,10]."""
    generator = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        size = float(np.prod(shape[1:]))
        return numpy_helper.from_array((generator.standard_normal(shape) / size**0.5).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"]),
        helper.make_node("Conv", ["s", "w3", "b3"], ["c3"], strides=[2, 2]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    held = [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 8, 8, 3, 3), weights("b2", 8)]
    held += [weights("w3", 16, 8, 3, 3), weights("b3", 16), weights("w4", 10, 16), weights("b4", 10)]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        held,
    )
    path = folder / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def samples(folder: Path) -> Path:
    """Calibration data for :func:`residual`."""
    path = folder / "calibration.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((8, 1, 3, 16, 16)).astype(np.float32))
    return path


def converted(folder: Path, **options: object) -> ConversionResult:
    """Convert in this process."""
    return convert(residual(folder), target="onnxruntime", output=folder / "out", isolate=False, **options)  # type: ignore[arg-type]


def optimised(artifact: Path) -> Counter[str]:
    """The operators that are left when ONNX Runtime has optimised a model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(artifact.with_name("optimised.onnx"))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_int8_runs_on_integer_kernels_from_input_to_output(tmp_path: Path) -> None:
    result = converted(tmp_path, precision="int8", calibration=samples(tmp_path))
    found = optimised(result.artifact)
    assert found["QLinearConv"] == 3 and found["QLinearAdd"] == 1 and found["QGemm"] == 1
    assert not {"Conv", "Add", "Gemm", "Relu"} & set(found)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)
    assert result.report is not None and result.report.precision == "int8"
    validate(result.document)


def test_softmax_gets_the_scale_that_its_integer_kernel_assumes(tmp_path: Path) -> None:
    model = onnx.load(str(residual(tmp_path)))
    model.graph.output[0].name = "classes"
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["classes"]))
    onnx.save(model, tmp_path / "softmax.onnx")
    result = convert(
        tmp_path / "softmax.onnx",
        target="onnxruntime",
        output=tmp_path / "out",
        precision="int8",
        calibration=samples(tmp_path),
        isolate=False,
    )
    assert optimised(result.artifact)["QLinearSoftmax"] == 1
    assert result.report is not None and result.report.outputs[0].difference.sqnr_db > 25


def test_calibration_data_mean_int8(tmp_path: Path) -> None:
    result = converted(tmp_path, calibration=samples(tmp_path))
    assert result.document["options"]["precision"] == "int8"
    assert converted(tmp_path).document["options"]["precision"] == "float32"


def test_integer_kernels_give_what_the_graph_means_on_any_cpu(tmp_path: Path) -> None:
    """On x86-64 CPUs without VNNI large products of uint8 by int8 saturate unless the session is told not to."""
    generator = np.random.default_rng(0)
    weights = np.where(generator.random((16, 256)) < 0.5, 0.9, 1.0).astype(np.float32)
    held = [numpy_helper.from_array(weights, "w")]
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("x", 256), ("y", 16)))
    graph = helper.make_graph([node], "large", [x], [y], held)
    path = tmp_path / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    data = tmp_path / "data.npy"
    np.save(data, generator.uniform(0.8, 1, (8, 1, 256)).astype(np.float32))
    out = tmp_path / "out"
    result = convert(path, target="onnxruntime", output=out, precision="int8", calibration=data, isolate=False)
    assert result.report is not None and result.report.outputs[0].difference.sqnr_db > 45
    session = json.loads((out / "model.session.json").read_text(encoding="utf-8"))
    assert session["config"]["session.x64quantprecision"] == "1"
    assert any("session.x64quantprecision" in note for note in result.notes)
