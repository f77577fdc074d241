"""Products of uint8 by int8, which overflow 16 bits on x86 processors without VNNI: exact here, and in the sidecar."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.converter.importers.onnx import import_model
from edgec.ir.proto import model_from_proto
from edgec.runtime.onnxruntime import open_session
from edgec.targets.base import TargetOptions
from edgec.targets.onnxruntime import TARGET

EXACT = "session.x64quantprecision"


def quantized(data: str, operator: bool = False) -> onnx.ModelProto:
    """A convolution with large weights on quantized data, as QDQ or as one QLinearConv; in the middle of its range."""
    zero = 0 if data == "uint8" else -128
    steps = """d = DequantizeLinear (x, s, z)
      e = DequantizeLinear (w, s, o)
      r = Conv (d, e)
      y = QuantizeLinear (r, t, z)"""
    if operator:
        steps = "y = QLinearConv (x, s, z, w, s, o, t, z)"
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[1,64,8,8] f) => ({data}[1,4,8,8] y) <float s = {{0.01}}, {data} z = {{{zero}}}, int8 o = {{0}},
      float t = {{2.0}}> {{
      x = QuantizeLinear (f, s, z)
      {steps}
    }}""")
    model.graph.initializer.append(numpy_helper.from_array(np.full((4, 64, 1, 1), 120, np.int8), "w"))
    return model


SAMPLE = {"f": np.full((1, 64, 8, 8), 2.55, np.float32)}
STEPS = round(255 * 120 * 64 * 1e-4 / 2)
"""What every result is, above its zero point."""


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("data", ["uint8", "int8"])
def test_every_session_gives_exact_products(data: str, operator: bool) -> None:
    model = quantized(data, operator).SerializeToString()
    for configuration in ({}, {"session.qdqisint8allowed": "1"}):
        found = open_session(model, optimise=True, configuration=configuration).run(SAMPLE)["y"].astype(np.int64)
        assert np.unique(found).tolist() == [STEPS + (0 if data == "uint8" else -128)]


@pytest.mark.parametrize("operator", [False, True])
def test_the_reference_of_a_quantized_model_is_exact(operator: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(quantized("uint8", operator).SerializeToString())
    way = import_model(path).original.ways[0]
    module, _, function = way.plain.factory.partition(":")
    assert (module, function) == ("edgec.runtime.onnxruntime", "open_session")
    found = open_session(path, **way.plain.options).run(SAMPLE)["y"]
    assert np.unique(found).tolist() == [STEPS]
    assert way.plain.options["optimise"] and way.other is not None and not way.other.options["optimise"]


def test_a_float_model_is_run_without_optimisations_for_reference(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    way = import_model(path).original.ways[0]
    assert not way.plain.options["optimise"] and way.other is not None and way.other.options["optimise"]


@pytest.mark.parametrize("data", ["uint8", "int8"])
def test_the_sidecar_asks_for_exact_products_where_they_may_overflow(data: str, tmp_path: Path) -> None:
    lowered = TARGET.lower(model_from_proto(quantized(data)), TargetOptions())
    artifact = TARGET.compile(lowered, tmp_path, "model")
    sidecar = tmp_path / "model.session.json"
    asked = json.loads(sidecar.read_text())["config"].get(EXACT)
    assert asked == ("1" if data == "uint8" else None)
    TARGET.write_session(artifact.main, {"threads": 2})  # as tuning does
    tuned = json.loads(sidecar.read_text())
    assert tuned["config"].get(EXACT) == asked and tuned["intra_op_num_threads"] == 2
