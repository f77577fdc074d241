"""Which opset a graph is written at: the lowest one at which it still means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.ir.graph import Model
from edgec.ir.inference import CANONICAL_OPSET, infer_node
from edgec.ir.lowest_opset import CHANGED, FLOOR, lowest_ir_version, lowest_opset
from edgec.ir.proto import all_nodes
from edgec.ir.writer import write_model
from tests.ir.equivalence import model_of, random_feeds

IMAGE = "float[1,4,7,7] x"
PADS = "int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}"
AXIS = "int64[1] a = {1}"
CASES = [
    ("float[a,b,c,d] y", "", "y = Relu(x)", 13),
    ("bfloat16[a,b,c,d] y", "", "c = Cast<to = 16>(x) y = Relu(c)", 13),
    ("int8[a,b,c,d] y", "", "c = Cast<to = 3>(x) y = Relu(c)", 14),
    ("float[a,b,c,d] y", "", "y = HardSwish(x)", 14),
    ("float[a,b,c,d] y", "", "y = Gelu(x)", 20),
    ("float[a,b,c,d] y", "", "y = MaxPool<kernel_shape = [2, 2]>(x)", 13),
    ("float[a,b,c,d] y", "", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)", 22),
    ("float[a,b,c,d] y", "", "y = AveragePool<kernel_shape = [2, 2]>(x)", 13),
    ("float[a,b,c,d] y", "", "y = AveragePool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", 19),
    ("float[a,b,c,d] y", "", 'y = AveragePool<kernel_shape = [2, 2], auto_pad = "SAME_UPPER">(x)', 19),
    ("int64[a,b,c,d] y", "", "y = Cast<to = 7>(x)", 13),
    ("float8e4m3fn[a,b,c,d] y", "", "y = Cast<to = 17>(x)", 19),
    ("int64[n] y", "", "y = Shape(x)", 13),
    ("int64[n] y", "", "y = Shape<start = 1>(x)", 15),
    ("float[a,b,c,d] y", PADS, "y = Pad(x, p)", 13),
    ("float[a,b,c,d] y", PADS, 'y = Pad<mode = "wrap">(x, p)', 19),
    ("float[a,b,c,d] y", f"{PADS}, float c = {{1}}, int64[4] a = {{0, 1, 2, 3}}", "y = Pad(x, p, c, a)", 18),
    ("float[a,b,c,d] y", AXIS, "y = ReduceSum(x, a)", 13),
    ("float[a,b,c,d] y", AXIS, "y = ReduceMean(x, a)", 18),
    ("float[a,b,c,d] y", "float[4] s = {1, 1, 2, 2}", "y = Resize(x, , s)", 19),
    ("float[a,b,c,d] y", "float[4] s = {1, 2, 3, 4}", "y = GroupNormalization<num_groups = 2>(x, s, s)", 21),
    ("float[a,b,c,d] y", "float[4] s = {1, 2, 3, 4}", "y = InstanceNormalization(x, s, s)", 13),
    ("float[a,b,c,d] y", "int64[2] s = {1, 3}", "y, z = Split<axis = 1>(x, s)", 13),
    ("float[a,b,c,d] y", "", "y, z = Split<axis = 1, num_outputs = 2>(x)", 18),
]


def typed(outputs: str, constants: str, nodes: str) -> Model:
    model = model_of(f"g ({IMAGE}) => ({outputs}) <{constants}> {{ {nodes} }}")
    for node in model.graph.nodes:
        infer_node(node)
    return model


@pytest.mark.parametrize(("outputs", "constants", "nodes", "opset"), CASES)
def test_a_node_gets_the_lowest_opset_of_its_form(
    outputs: str, constants: str, nodes: str, opset: int, tmp_path: Path
) -> None:
    model = typed(outputs, constants, nodes)
    assert lowest_opset(model) == opset

    newest = write_model(model, tmp_path / "newest.onnx")[0]
    lowest = write_model(model, tmp_path / "lowest.onnx", opset=opset, ir_version=lowest_ir_version(model, opset))[0]
    onnx.checker.check_model(str(lowest), full_check=True)
    expected, found = compute(newest, random_feeds(model)), compute(lowest, random_feeds(model))
    if expected is not None:
        assert found is not None
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1e-6)


def compute(path: Path, feeds: dict[str, Any]) -> Any:
    """The first output, or None where ONNX Runtime has no kernel at this opset or no way to hand out the type."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)[0]
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error) or "Numpy_type" in str(error) or "not supported" in str(error):
            return None
        raise


def test_the_opset_is_the_highest_that_a_node_needs_bodies_included() -> None:
    then = "then_branch = t () => (float[1,4,7,7] u) { u = Gelu(x) }"
    otherwise = "else_branch = e () => (float[1,4,7,7] v) { v = Relu(x) }"
    nodes = f"r = HardSwish(x) y = If(c) <{then}, {otherwise}>"
    model = model_of(f"g ({IMAGE}, bool c) => (float[1,4,7,7] y) {{ {nodes} }}")
    for node in all_nodes(model.graph):
        infer_node(node)
    assert lowest_opset(model) == 20


def test_operators_of_other_domains_do_not_count() -> None:
    model = model_of(f"g ({IMAGE}) => (float[1,4,7,7] y) {{ y = Relu(x) }}")
    (node,) = model.graph.nodes
    node.domain = "com.microsoft"
    assert lowest_opset(model) == FLOOR


def test_a_value_without_a_type_keeps_the_newest_form() -> None:
    model = model_of(f"g ({IMAGE}) => (float[1,4,7,7] y) {{ y = Relu(x) }}")
    (value,) = model.graph.inputs
    value.dtype = type(value.dtype).UNDEFINED
    assert lowest_opset(model) == 14


def test_new_element_types_raise_the_ir_version() -> None:
    plain = model_of(f"g ({IMAGE}) => (float[1,4,7,7] y) {{ y = Relu(x) }}")
    narrow = model_of(f"g ({IMAGE}) => (int4[1,4,7,7] y) {{ y = Cast<to = 22>(x) }}")
    assert lowest_ir_version(plain, 13) == 7
    assert lowest_ir_version(narrow, 21) == 10
    assert lowest_ir_version(plain, CANONICAL_OPSET) == 13


@pytest.mark.parametrize(("op", "version"), CHANGED)
def test_every_exclusion_names_a_step_between_two_versions(op: str, version: int) -> None:
    assert onnx.defs.get_schema(op, version).since_version == version
    assert onnx.defs.get_schema(op, version - 1).since_version < version
