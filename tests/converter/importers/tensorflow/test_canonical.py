"""Order and names of what tf2onnx writes do not depend on the order and names that it happened to choose."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.converter.importers.tensorflow.canonical import canonicalise

HEADER = '<ir_version: 8, opset_import: ["" : 17]> '
FIRST = HEADER + (
    "g (float[2] x, bool c) => (float[2] y, float[2] z) <float[2] one__7 = {1, 1}, float[2] two = {2, 2}> "
    "{ [a] a__12 = Add(x, one__7) [b__3] b = Mul(x, two) [s] y = Sub(a__12, b) "
    "[i] z = If(c) <then_branch = t () => (float[2] p__9) { [n__1] p__9 = Add(a__12, two) }, "
    "else_branch = e () => (float[2] q) { [m] q = Neg(b) }> }"
)
SECOND = HEADER + (
    "g (float[2] x, bool c) => (float[2] y, float[2] z) <float[2] k__41 = {2, 2}, float[2] u = {1, 1}> "
    "{ [b__30] r = Mul(x, k__41) [a__2] v = Add(x, u) [i__8] z = If(c) <"
    "then_branch = t () => (float[2] w) { [n] w = Add(v, k__41) }, "
    "else_branch = e () => (float[2] o__5) { [m__2] o__5 = Neg(r) }> [s] y = Sub(v, r) }"
)


def _canonical(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    canonicalise(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_two_ways_to_write_a_graph_become_one() -> None:
    first, second = _canonical(FIRST), _canonical(SECOND)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert [item.name for item in first.graph.input] == ["x", "c"]
    assert [item.name for item in first.graph.output] == ["y", "z"]
    assert [node.name for node in first.graph.node] == ["a", "b", "s", "i"]


@pytest.mark.parametrize("condition", [True, False])
def test_the_function_stays_the_same(condition: bool) -> None:
    feeds = {"x": np.array([3, -4], np.float32), "c": np.array(condition)}
    results = []
    for model in (onnx.parser.parse_model(FIRST), _canonical(FIRST), _canonical(SECOND)):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(None, feeds))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_addresses_in_names_are_left_out() -> None:
    model = _canonical(
        HEADER + "g (float[2] x) => (float[2] y) { [einsum139802154276752_a] v = Neg(x) [n] y = Abs(v) }"
    )
    assert [node.name for node in model.graph.node] == ["einsum_a", "n"]
