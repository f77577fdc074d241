"""Run passes on text and compare the result with ONNX Runtime on the model as written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgec.ir.check import check_model
from edgec.ir.graph import Model, Node
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import all_nodes, model_to_proto
from edgec.ir.text import from_text
from tests.reference import computed

Arrays = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]


def model_of(body: str, opset: int = CANONICAL_OPSET) -> Model:
    """The model of a graph text such as ``g (float[2] x) => (float[2] y) { y = Relu(x) }``."""
    return from_text(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{body}')


def ops_of(model: Model) -> list[str]:
    """The operators in order, bodies included."""
    return [node.op for node in all_nodes(model.graph)]


def node_of(model: Model, op: str) -> Node:
    """The only node with this operator."""
    (found,) = [node for node in all_nodes(model.graph) if node.op == op]
    return found


def run(model: Model, feeds: Arrays) -> list[Any]:
    """All outputs in order, computed by ONNX Runtime, without its own optimisations unless exact products need them."""
    integers = any("Integer" in node.op or node.op.startswith("QLinear") for node in all_nodes(model.graph))
    return computed(model_to_proto(model).SerializeToString(), feeds, integer_kernels=integers)


def random_feeds(model: Model, seed: int = 0) -> dict[str, Any]:
    """Random arrays for every input; unknown extents become 2."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for value in model.graph.inputs:
        shape = tuple(dim if isinstance(dim, int) else 2 for dim in value.shape or ())
        dtype = value.dtype.numpy
        if dtype.kind == "f":
            feeds[value.name] = generator.normal(0, 2, shape).astype(dtype)
        elif dtype.kind == "b":
            feeds[value.name] = generator.integers(0, 2, shape).astype(dtype)
        else:
            feeds[value.name] = generator.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype)
    return feeds


def apply(model: Model, pipeline: str) -> Model:
    """Run a pipeline in place."""
    for item in parse_pipeline(pipeline):
        item.apply(model)
        check_model(model)
    return model


def rewritten(
    body: str, pipeline: str, *, exact: bool = False, tolerance: float = 1e-5, feeds: Arrays | None = None
) -> Model:
    """The model after ``fold-constants`` and the pipeline; fails unless all outputs stay the same."""
    before = model_of(body)
    given = random_feeds(before) if feeds is None else feeds
    expected = run(before, given)
    after = apply(model_of(body), f"fold-constants,{pipeline}")
    assert after.graph.output_names == before.graph.output_names
    assert [value.name for value in after.graph.inputs] == [value.name for value in before.graph.inputs]
    for wanted, found in zip(expected, run(after, given), strict=True):
        assert wanted.dtype == found.dtype and wanted.shape == found.shape
        if exact:
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    return after
