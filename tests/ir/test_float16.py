"""The float16 pass: the same function within float16's rounding, nothing changed that was not to change."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgec.ir.check import check_model
from edgec.ir.graph import Model
from edgec.ir.passes.float16 import Float16
from edgec.ir.proto import model_to_proto
from edgec.ir.types import DataType
from tests.ir.equivalence import model_of, ops_of, random_feeds, run

NETWORK = """g (float[1,2,6,6] x) => (float[1,3,6,6] y, int64[1,1,6,6] k)
  <float[3,2,1,1] w = {0.5, -0.25, 0.125, 1.0, -1.0, 0.75}, float[3] b = {0.1, -0.2, 0.3}> {
  c = Conv (x, w, b)
  y = Relu (c)
  k = ArgMax <axis = 1> (c)
}"""


def halved(body: str, **options: object) -> Model:
    """The model after the pass, checked."""
    model = model_of(body)
    from edgec.ir.passes.base import parse_pipeline

    (fold,) = parse_pipeline("fold-constants")
    fold.apply(model)
    Float16(**options).apply(model)  # type: ignore[arg-type]
    check_model(model)
    return model


def by_numpy(model: Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs by ONNX's own reference, which computes float16 in float16 (ONNX Runtime's CPU uses float32)."""
    return [np.asarray(item) for item in ReferenceEvaluator(model_to_proto(model)).run(None, feeds)]


def test_values_and_constants_are_float16_and_the_interface_stays() -> None:
    model = halved(NETWORK)
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [
        DataType.FLOAT,
        DataType.FLOAT,
        DataType.INT64,
    ]
    conv = next(node for node in model.graph.nodes if node.op == "Conv")
    assert {value.dtype for value in (*conv.inputs, *conv.outputs) if value is not None} == {DataType.FLOAT16}
    assert ops_of(model).count("Cast") == 2
    feeds = random_feeds(model)
    expected = run(model_of(NETWORK), feeds)
    np.testing.assert_allclose(by_numpy(model, feeds)[0], expected[0], rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(run(model, feeds)[0], expected[0], rtol=5e-3, atol=5e-3)


def test_inputs_and_outputs_become_float16_where_asked() -> None:
    model = halved(NETWORK, io=True)
    assert model.graph.inputs[0].dtype is DataType.FLOAT16 and model.graph.outputs[0].dtype is DataType.FLOAT16
    assert (model.graph.inputs[0].name, model.graph.output_names) == ("x", ["y", "k"])
    assert "Cast" not in ops_of(model)
    kept = halved(NETWORK, io=True, keep=("y",))
    assert kept.graph.inputs[0].dtype is DataType.FLOAT16 and kept.graph.outputs[0].dtype is DataType.FLOAT


def test_kept_nodes_stay_float32_between_casts() -> None:
    model = halved("g (float[4] x) => (float[4] y) { a = Exp (x) b = Sqrt (a) y = Neg (b) }", keep=("Sqrt",))
    types = {node.op: node.output.dtype for node in model.graph.nodes if node.op != "Cast"}
    assert types == {"Exp": DataType.FLOAT16, "Sqrt": DataType.FLOAT, "Neg": DataType.FLOAT16}
    assert ops_of(model) == ["Cast", "Exp", "Cast", "Sqrt", "Cast", "Neg", "Cast"]


def test_a_value_is_cast_once_for_all_who_read_it() -> None:
    body = "g (float[4] x) => (float[4] y, float[4] z) { a = Exp (x) y = Sqrt (a) z = Log (a) }"
    assert ops_of(halved(body, keep=("Exp",))).count("Cast") == 3  # one behind Exp, one per output
    assert ops_of(halved(body, keep=("Sqrt", "Log"))).count("Cast") == 2  # one in front of Exp, one behind it


@pytest.mark.parametrize("constant", ["1e6", "1e-7"])
def test_a_node_whose_constant_does_not_fit_stays_float32(constant: str) -> None:
    body = f"g (float[4] x) => (float[4] y) <float c = {{{constant}}}> {{ a = Mul (x, c) y = Neg (a) }}"
    model = halved(body)
    types = {node.op: node.output.dtype for node in model.graph.nodes if node.op != "Cast"}
    assert types == {"Mul": DataType.FLOAT, "Neg": DataType.FLOAT16}


def test_infinite_constants_fit() -> None:
    model = halved("g (float[4] x) => (float[4] y) <float c = {-inf}> { y = Max (x, c) }")
    assert {node.op: node.output.dtype for node in model.graph.nodes}["Max"] is DataType.FLOAT16


def test_a_node_that_only_reads_floats_is_not_given_a_cast_of_its_own() -> None:
    assert ops_of(halved("g (float[2,4] x) => (int64[2,1] k) { k = ArgMax <axis = 1> (x) }")) == ["ArgMax"]


def test_bodies_read_float32() -> None:
    body = """g (float[2] x, bool c) => (float[2] y) {
      a = Exp (x)
      y = If (c) <then_branch = g1 () => (float[2] t) { t = Neg (a) },
                  else_branch = g2 () => (float[2] e) { e = Sqrt (a) }>
    }"""
    model = halved(body)
    assert model.graph.outputs[0].dtype is DataType.FLOAT
    feeds = {"x": np.array([0.5, 1.0], np.float32), "c": np.array(True)}
    np.testing.assert_allclose(run(model, feeds)[0], -np.exp(feeds["x"]), rtol=2e-3)


def test_casts_of_the_model_itself_give_float16() -> None:
    model = halved("g (int32[4] x) => (float[4] y) { a = Cast <to = 1> (x) y = Exp (a) }")
    assert ops_of(model) == ["Cast", "Exp", "Cast"]
    feeds = {"x": np.array([0, 1, 2, 3], np.int32)}
    np.testing.assert_allclose(by_numpy(model, feeds)[0], np.exp(feeds["x"].astype(np.float32)), rtol=2e-3)


@pytest.mark.parametrize(
    "node",
    [
        "MeanVarianceNormalization <axes = [0]> (x)",
        'ScatterElements <axis = 0, reduction = "add"> (x, i, u)',
        'ScatterND <reduction = "max"> (x, j, u)',
    ],
)
def test_what_onnx_runtime_cannot_compute_in_float16_stays_float32(node: str) -> None:
    constants = "int64[2] i = {0, 0}, int64[2,1] j = {0, 1}, float[2] u = {1.0, 2.0}"
    body = f"g (float[4] x) => (float[4] y) <{constants}> {{ y = {node} }}"
    model = halved(body)
    assert ops_of(model) == [node.split(" ", maxsplit=1)[0]]
    feeds = random_feeds(model)
    np.testing.assert_allclose(run(model, feeds)[0], run(model_of(body), feeds)[0], rtol=1e-6)
