"""Lower small ONNX texts for tests, run them in LiteRT and compare with ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto, model_to_proto
from edgec.targets.base import Lowered, TargetOptions
from edgec.targets.tflite import TARGET


def lower(text: str, io_layout: str = "ONNX", precision: str = "float32") -> Lowered:
    """Lower an ONNX text (at the canonical opset) through the target's default passes.

    A quantized text runs on integer kernels only in precision ``int8``; in ``float32`` its own integers matter more.
    """
    model = model_from_proto(onnx.parser.parse_model(text))
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(model)
    return TARGET.lower(model, TargetOptions(io_layout=io_layout, precision=precision))


def counts(lowered: Lowered) -> Counter[str]:
    """Operators of the program."""
    return Counter(op.code for op in lowered.payload.ops)


def run(lowered: Lowered, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Write the program, load it in LiteRT and run it once; layouts are undone."""
    with tempfile.TemporaryDirectory() as folder:
        interpreter = Interpreter(str(TARGET.compile(lowered, Path(folder), "model").main))
        interpreter.allocate_tensors()
        for name, detail in zip(lowered.payload.input_names, interpreter.get_input_details(), strict=True):
            array = feeds[name]
            if name in lowered.layouts:
                array = array.transpose(lowered.layouts[name])
            interpreter.set_tensor(detail["index"], np.ascontiguousarray(array).reshape(array.shape))
        interpreter.invoke()
        results = {}
        for name, detail in zip(lowered.payload.output_names, interpreter.get_output_details(), strict=True):
            array = interpreter.get_tensor(detail["index"])
            if name in lowered.layouts:
                array = array.transpose(np.argsort(lowered.layouts[name]))
            results[name] = array
        return results


def assert_equivalent(text: str, io_layout: str = "ONNX", seed: int = 0, tolerance: float = 1e-5) -> Lowered:
    """The lowered text computes in LiteRT what the text computes in ONNX Runtime; returns it."""
    proto = onnx.parser.parse_model(text)
    session = onnxruntime.InferenceSession(model_to_proto(model_from_proto(proto)).SerializeToString())
    generator = np.random.default_rng(seed)
    feeds = {
        item.name: generator.standard_normal(item.shape).astype(np.float32)
        if item.type == "tensor(float)"
        else generator.integers(0, 4, item.shape).astype(
            {"tensor(int64)": np.int64, "tensor(int32)": np.int32}[item.type]
        )
        for item in session.get_inputs()
    }
    expected = dict(zip([item.name for item in session.get_outputs()], session.run(None, feeds), strict=True))
    lowered = lower(text, io_layout)
    results = run(lowered, feeds)
    assert list(results) == list(expected)
    for name, array in expected.items():
        assert results[name].shape == array.shape
        assert results[name].dtype == array.dtype
        np.testing.assert_allclose(results[name], array, rtol=tolerance, atol=tolerance)
    return lowered
