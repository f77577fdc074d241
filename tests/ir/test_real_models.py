"""The default passes over real models change what the graph looks like and not what it computes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.onnx import import_model
from edgec.ir.check import check_model
from edgec.ir.passes import DEFAULT
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_to_proto
from tests.ir.equivalence import ops_of, random_feeds
from tests.models import REAL_MODELS, real_model

EXPECTED = {
    "ppocr-det": {"HardSwish": 24, "BatchNormalization": 0},
    "ppocr-rec": {"HardSwish": 28, "LayerNormalization": 5, "BatchNormalization": 0},
    "ppocr-cls": {"HardSwish": 18, "HardSigmoid": 9},
    "centerface": {"BatchNormalization": 0},
    "silero-vad-16k": {"If": 0, "LSTM": 1},
    "light_resnet50": {"BatchNormalization": 0, "Mul": 0, "ConstantOfShape": 0},
}
"""How many of an operator are left."""


def _run(data: bytes, feeds: dict[str, object], optimise: bool = False) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def _distance(wanted: np.ndarray, found: np.ndarray) -> float:
    wanted = wanted.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))


@pytest.mark.slow
@pytest.mark.download
@pytest.mark.parametrize("name", REAL_MODELS)
def test_default_passes_keep_the_outputs(name: str) -> None:
    path = real_model(name)
    shapes = dict(REAL_MODELS[name].input_shapes)
    if name.startswith("ppocr-det"):
        shapes = {"x": (1, 3, 224, 224)}
    model = import_model(path, SourceOptions(shapes)).model
    for item in parse_pipeline(DEFAULT):
        item.apply(model)
        check_model(model)
    check_model(model, canonical=True, static=True)
    counts = Counter(ops_of(model))
    assert {op: counts[op] for op in EXPECTED.get(name, {})} == EXPECTED.get(name, {})
    feeds = random_feeds(model)
    feeds.update({"sr": np.array(16000, np.int64)} if "sr" in feeds else {})
    original = onnx.load(path)
    for entry in original.graph.input:
        if entry.name in feeds:
            del entry.type.tensor_type.shape.dim[:]
            for extent in feeds[entry.name].shape:
                entry.type.tensor_type.shape.dim.add(dim_value=extent)
    for entry in original.graph.output:
        entry.type.tensor_type.ClearField("shape")
    data = original.SerializeToString()
    reference, optimised = _run(data, feeds), _run(data, feeds, optimise=True)
    for wanted, floor, found in zip(reference, optimised, _run(model_to_proto(model).SerializeToString(), feeds)):
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        assert _distance(wanted, found) <= max(1e-4, 3 * _distance(wanted, floor))
