"""Model-local functions are inlined; what cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import FunctionProto, ModelProto, helper

from tests.converter.importers.building import assert_import_keeps_function, operators, refusal, saved

TEXT = """
<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
agraph (float[2,3] x) => (float[2,3] y)
<float[3] w = {1.0, 2.0, 3.0}>
{
    t = local.scale <factor: float = 2.0> (x, w)
    y = local.twice (t)
}
<domain: "local", opset_import: ["" : 17]>
scale <factor: float = 1.0> (a, b) => (c) {
    f = Constant <value_float: float = @factor> ()
    p = Mul (a, b)
    c = Mul (p, f)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
twice (a) => (b) {
    c = Add (a, a)
    b = Relu (c)
}
"""


def test_functions_are_inlined_with_their_attributes(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    imported = assert_import_keeps_function(tmp_path, proto)
    assert operators(imported) == ["Constant", "Mul", "Mul", "Add", "Relu"]
    assert imported.model.domains == {}


def test_large_weights_beside_functions_stay_in_the_file(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT.replace("[2,3]", "[2,5000]"))
    array = np.arange(5000, dtype=np.float32)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "w"))
    imported = assert_import_keeps_function(tmp_path, proto)
    tensors = {value.name: value for value in imported.model.graph.constants()}
    np.testing.assert_array_equal(tensors["w"].numpy(), array)


def _function(name: str, calls: list[str]) -> FunctionProto:
    nodes = [helper.make_node(op, [f"v{i}"], [f"v{i + 1}"], domain="local") for i, op in enumerate(calls)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["v0"], [f"v{len(calls)}"], nodes, opsets)


def _calling(functions: list[FunctionProto]) -> ModelProto:
    proto = onnx.parser.parse_model(TEXT)
    del proto.functions[:]
    del proto.graph.node[:]
    proto.graph.node.append(helper.make_node(functions[0].name, ["x"], ["y"], domain="local"))
    proto.functions.extend(functions)
    return proto


def test_a_recursive_function_is_edg109(tmp_path: Path) -> None:
    functions = [_function("a", ["b"]), _function("b", ["a"])]
    assert "a -> b -> a" in str(refusal("EDG109", saved(tmp_path, _calling(functions))))


def test_functions_that_multiply_without_end_are_edg112(tmp_path: Path) -> None:
    functions = [_function(f"f{depth}", [f"f{depth + 1}"] * 10) for depth in range(30)]
    last = helper.make_function(
        "local", "f30", ["v0"], ["v1"], [helper.make_node("Relu", ["v0"], ["v1"])], [helper.make_opsetid("", 17)]
    )
    refusal("EDG112", saved(tmp_path, _calling([*functions, last])))
