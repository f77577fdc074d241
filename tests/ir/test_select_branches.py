"""Branches are selected from where a condition is known only at run time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto
from tests.ir.equivalence import ops_of, run


def conditional(then_dims: list[int]) -> onnx.ModelProto:
    """y = x + 1 if c else x * 2, the branches reading x from outside."""
    one, two = helper.make_tensor("one", 1, [], [1.0]), helper.make_tensor("two", 1, [], [2.0])
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, then_dims)],
        [one],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [2, 3])],
        [two],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize("condition", [True, False])
def test_both_branches_are_computed_and_one_is_taken(condition: bool) -> None:
    before, after = model_from_proto(conditional([2, 3])), model_from_proto(conditional([2, 3]))
    for item in parse_pipeline("fold-constants,select-branches"):
        item.apply(after)
    assert ops_of(after) == ["Add", "Mul", "Reshape", "Where"]
    feeds = {"c": np.array([condition]), "x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    np.testing.assert_array_equal(run(before, feeds)[0], run(after, feeds)[0])


def test_a_limit_on_the_nodes_keeps_large_branches() -> None:
    model = model_from_proto(conditional([2, 3]))
    for item in parse_pipeline("fold-constants,select-branches{limit=1}"):
        item.apply(model)
    assert "If" in ops_of(model)


def test_operators_of_the_machine_learning_domain_become_standard_ones() -> None:
    header = '<ir_version: 10, opset_import: ["" : 22, "ai.onnx.ml" : 3]>\n'
    proto = onnx.parser.parse_model(
        header
        + """g (float[2,4] x) => (float[2,4] a, float[2,2] b, float[2,4] c) <int64[2] i = {3, 0}> {
          a = ai.onnx.ml.Binarizer <threshold = 0.5> (x)
          b = ai.onnx.ml.ArrayFeatureExtractor (x, i)
          c = ai.onnx.ml.Scaler <offset = [0.5, 1.0, -1.0, 0.0], scale = [2.0, 3.0, 4.0, 5.0]> (x)
        }"""
    )
    before, after = model_from_proto(proto), model_from_proto(proto)
    for item in parse_pipeline("fold-constants,rewrite-ml"):
        item.apply(after)
    assert {node.domain for node in after.graph.nodes} == {""}
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)}
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)
