"""Every model of ONNX's own test data and the real models of the package index are imported and keep their function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.onnx import import_model
from edgec.errors import EdgecError
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_to_proto
from tests.converter.importers.building import Array, run
from tests.models import REAL_MODELS, node_test_data, real_model

pytestmark = pytest.mark.download


def test_every_model_of_the_onnx_test_data_is_imported_or_refused() -> None:
    refused = []
    paths = sorted(node_test_data().glob("*/*/model.onnx"))
    assert len(paths) > 1700
    for path in paths:
        try:
            imported = import_model(path)
            for item in parse_pipeline("fold-constants"):
                item.apply(imported.model)
        except EdgecError as error:
            refused.append(f"{path.parent.name}: {error}")
    assert not refused


def _tensors(folder: Path, kind: str) -> list[Array]:
    arrays = []
    for index in range(len(list(folder.glob(f"{kind}_*.pb")))):
        tensor = onnx.TensorProto.FromString((folder / f"{kind}_{index}.pb").read_bytes())
        arrays.append(onnx.numpy_helper.to_array(tensor))
    return arrays


def test_the_models_of_opset_6_that_pytorch_wrote_give_their_stored_outputs() -> None:
    paths = sorted(node_test_data().glob("pytorch-*/*/model.onnx"))
    compared = 0
    for path in paths:
        proto = onnx.load(str(path))
        feeds = dict(zip([e.name for e in proto.graph.input], _tensors(path.parent / "test_data_set_0", "input")))
        if any(array.dtype == np.float64 for array in feeds.values()):
            continue  # ONNX Runtime lacks some kernels
        imported = import_model(path)
        for item in parse_pipeline("fold-constants"):
            item.apply(imported.model)
        names = {value.name for value in imported.model.graph.inputs}
        found = run(model_to_proto(imported.model), {name: item for name, item in feeds.items() if name in names})
        for left, right in zip(_tensors(path.parent / "test_data_set_0", "output"), found, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5, err_msg=path.parent.name)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("name", sorted(REAL_MODELS))
def test_a_real_model_is_imported(name: str) -> None:
    entry = REAL_MODELS[name]
    imported = import_model(real_model(name), SourceOptions(dict(entry.input_shapes or ())))
    for item in parse_pipeline("fold-constants"):
        item.apply(imported.model)
    assert all(value.dtype for node in imported.model.graph.nodes for value in node.outputs if value.use_count)
