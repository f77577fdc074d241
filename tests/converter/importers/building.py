"""Small models for importer tests, and the comparison of a file with what was imported from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.onnx import ImportedModel, import_model
from edgec.errors import EdgecError
from edgec.ir.inference import infer_node
from edgec.ir.proto import model_to_proto
from tests.reference import computed

Array = np.ndarray[Any, np.dtype[Any]]


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    *,
    opset: int,
    constants: Mapping[str, Array] | None = None,
    domains: Mapping[str, int] | None = None,
    ir_version: int = 8,
    dtype: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model whose outputs are left untyped beyond their element type."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*item) for item in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def saved(folder: Path, proto: ModelProto, name: str = "model.onnx") -> Path:
    """The model in a file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def run(proto: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """All outputs, computed by ONNX Runtime, without optimisations unless exact products need them."""
    integers = any("Integer" in node.op_type or node.op_type.startswith("Q") for node in proto.graph.node)
    return [np.asarray(item) for item in computed(proto.SerializeToString(), feeds, integer_kernels=integers)]


def random_feeds(proto: ModelProto, seed: int = 0) -> dict[str, Array]:
    """Normal values for every float input; unknown extents become 2."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for entry in proto.graph.input:
        shape = [dim.dim_value or 2 for dim in entry.type.tensor_type.shape.dim]
        feeds[entry.name] = generator.standard_normal(shape).astype(np.float32)
    return feeds


def assert_import_keeps_function(
    folder: Path, proto: ModelProto, feeds: Mapping[str, Array] | None = None, **options: Any
) -> ImportedModel:
    """The imported model must compute what ONNX Runtime computes from the file itself."""
    imported = import_model(saved(folder, proto), SourceOptions(**options))
    for node in imported.model.graph.nodes:
        infer_node(node)
    given = dict(feeds or random_feeds(proto))
    expected, found = run(proto, given), run(model_to_proto(imported.model), given)
    assert len(expected) == len(found)
    for left, right in zip(expected, found):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    return imported


def operators(imported: ImportedModel) -> list[str]:
    """The operators in order."""
    return [node.op for node in imported.model.graph.nodes]


def refusal(code: str, path: Path, **options: Any) -> EdgecError:
    """The error that importing the file must end with."""
    with pytest.raises(EdgecError) as caught:
        import_model(path, SourceOptions(**options))
    assert caught.value.code == code, str(caught.value)
    return caught.value
