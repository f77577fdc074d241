"""Judge small generated models: lowered, run in LiteRT with and without XNNPACK, compared with ONNX Runtime.

Everything happens in a forked child, so that an abort inside LiteRT is one finding and not the end of the test run.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, reject, settings
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import EdgecError
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto
from edgec.targets.base import TargetOptions
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.session import open_session

TIME_LIMIT_SECONDS = 30


Array = np.ndarray[Any, np.dtype[Any]]


def examples(count: int) -> Callable[[Any], Any]:
    """Settings of a property test: deterministic, bounded, no deadline (two runtimes load a model per example)."""
    factor = float(os.environ.get("EDGEC_EXAMPLES", "1"))
    return settings(
        max_examples=max(1, round(count * factor)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a model: ``ok``, ``refused``, ``invalid`` (ONNX Runtime refuses it), or a finding."""

    kind: str
    detail: str = ""
    operators: Mapping[str, int] = field(default_factory=dict)


class ModelBuilder:
    """A small ONNX model under construction."""

    def __init__(self, seed: int = 0, opset: int = 22) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self._count = 0

    def fresh(self, hint: str = "v") -> str:
        """A name not used yet."""
        self._count += 1
        return f"{hint}{self._count}"

    def input(self, shape: Sequence[int], dtype: Any = np.float32, name: str | None = None) -> str:
        """A graph input."""
        name = name or self.fresh("x")
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def constant(self, array: Any, dtype: Any = None, name: str | None = None) -> str:
        """An initializer."""
        name = name or self.fresh("c")
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weights(self, *shape: int) -> str:
        """An initializer of small random numbers."""
        return self.constant(drawn(self.random, shape, np.float32))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; returns the name of its first result (the others follow as name_1, name_2, ...)."""
        name = self.fresh("y")
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return name

    def build(self, *outputs: str) -> onnx.ModelProto:
        """The model; result types are inferred."""
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def drawn(random: np.random.Generator, shape: Sequence[int], dtype: Any) -> Array:
    """Random elements, including negative ones where the type has them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.standard_normal(shape).astype(kind)
    if kind.kind == "b":
        return random.integers(0, 2, shape).astype(kind)
    low = 0 if kind.kind == "u" else -9
    return random.integers(low, 10, shape).astype(kind)


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of its outputs filled in by ONNX's shape inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {info.name: info for info in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)}
    for constant in inferred.graph.initializer:
        known[constant.name] = helper.make_tensor_value_info(constant.name, constant.data_type, list(constant.dims))
    for info in inferred.graph.output:
        info.CopyFrom(known[info.name])
    return inferred


def outcome(
    model: onnx.ModelProto,
    *,
    io_layout: str = "ONNX",
    seed: int = 0,
    tolerance: float = 1e-4,
    feeds: Mapping[str, Array] | None = None,
) -> Outcome:
    """Judge a model in a forked child."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(writing, lambda: _judge(model, io_layout, seed, tolerance, feeds))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        received = pipe.read()
    _, status = os.waitpid(process, 0)
    if not received:
        return Outcome("crash", f"the child ended with status {status}")
    kind, detail, operators = json.loads(received)
    return Outcome(kind, detail, operators)


def assert_holds(model: onnx.ModelProto, *, refusal: bool = True, **options: Any) -> Outcome:
    """The model is computed as in ONNX Runtime, or (where allowed) refused; what is invalid is skipped."""
    found = outcome(model, **options)
    if found.kind == "invalid":
        reject()
    allowed = ("ok", "refused") if refusal else ("ok",)
    assert found.kind in allowed, f"{found.kind}: {found.detail}\n{onnx.printer.to_text(model)[:3000]}"
    return found


def _child(writing: int, judged: Callable[[], Outcome]) -> None:
    try:
        faulthandler.disable()
        signal.alarm(TIME_LIMIT_SECONDS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            found = judged()
        except Exception as error:  # whatever it is, it is the finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            found = Outcome("error", f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}")
        with os.fdopen(writing, "w") as pipe:
            json.dump([found.kind, found.detail, dict(found.operators)], pipe)
    finally:
        os._exit(0)


def _judge(
    model: onnx.ModelProto, io_layout: str, seed: int, tolerance: float, given: Mapping[str, Array] | None
) -> Outcome:
    try:
        complete = typed(model)
        reference = onnxruntime.SessionOptions()
        reference.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        reference.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(complete.SerializeToString(), reference)
        random = np.random.default_rng(seed)
        feeds = {
            info.name: drawn(
                random,
                [dim.dim_value for dim in info.type.tensor_type.shape.dim],
                helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type),
            )
            for info in complete.graph.input
        }
        feeds.update(given or {})
        names = [info.name for info in complete.graph.output]
        expected = session.run(None, feeds)
    except Exception as error:  # ONNX Runtime and ONNX raise their own kinds
        return Outcome("invalid", str(error))
    for info in complete.graph.output:
        if any(dim.HasField("dim_param") for dim in info.type.tensor_type.shape.dim):
            return Outcome("invalid", "the shape of a result is dynamic")
    try:
        held = model_from_proto(complete)
        for step in parse_pipeline(TARGET.pipeline):
            step.apply(held)
        lowered = TARGET.lower(held, TargetOptions(io_layout=io_layout))
    except EdgecError as error:
        return Outcome("refused", f"{error.code}: {error.why}")
    operators = Counter(op.code for op in lowered.payload.ops)
    with tempfile.TemporaryDirectory() as folder:
        path = TARGET.compile(lowered, Path(folder), "model").main
        stored = {
            name: array.transpose(lowered.layouts[name]) if name in lowered.layouts else array
            for name, array in feeds.items()
        }
        for xnnpack in (True, False):
            where = "with XNNPACK" if xnnpack else "without XNNPACK"
            try:
                artifact = open_session(path, xnnpack=xnnpack)
                results = artifact.run({spec.name: stored[spec.name] for spec in artifact.inputs})
            except EdgecError as error:
                return Outcome("fails", f"{where}: {error.message}: {error.why}", operators)
            problem = _difference(names, expected, results, lowered.layouts, tolerance)
            if problem:
                return Outcome("wrong", f"{where}: {problem} {dict(operators)}", operators)
    return Outcome("ok", "", operators)


def _difference(
    names: Sequence[str],
    expected: Sequence[Array],
    results: Mapping[str, Array],
    layouts: Mapping[str, tuple[int, ...]],
    tolerance: float,
) -> str:
    if sorted(results) != sorted(names):
        return f"the outputs are {sorted(results)}"
    for name, right in zip(names, expected):
        got = results[name]
        if name in layouts:
            got = got.transpose(np.argsort(layouts[name]))
        if got.shape != right.shape or got.dtype != right.dtype:
            return f"'{name}' is {got.dtype}{list(got.shape)}, not {right.dtype}{list(right.shape)}"
        if right.dtype.kind == "f":
            finite = right[np.isfinite(right)]
            limit = tolerance * max(1.0, float(np.abs(finite).max(initial=0.0)))
            limit = max(limit, 5e-3) if right.dtype == np.float16 else limit
            if not np.allclose(got, right, rtol=tolerance, atol=limit, equal_nan=True):
                return f"'{name}' differs by {float(np.nanmax(np.abs(got.astype('f8') - right.astype('f8')))):.3g}"
        elif not np.array_equal(got, right):
            return f"'{name}' differs: {got.reshape(-1)[:6]} for {right.reshape(-1)[:6]}"
    return ""


__all__ = ["ModelBuilder", "Outcome", "TensorProto", "assert_holds", "drawn", "examples", "outcome", "typed"]
