"""Small LiteRT flatbuffers for tests, written with the schema's own object API, and runs to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers import open_source
from edgec.converter.importers.imported import ImportedModel, SourceOptions
from edgec.converter.verification.reference import InProcess
from edgec.ir.proto import model_to_proto
from edgec.ir.types import Array
from edgec.runtime.onnxruntime import open_session

KINDS = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}


@dataclass
class Builder:
    """One subgraph in the making; tensors and operators are numbered in the order of the calls."""

    model: Any = field(default_factory=schema.ModelT)
    graph: Any = field(default_factory=schema.SubGraphT)

    def __post_init__(self) -> None:
        self.model.version = 3
        self.model.description = "test"
        self.model.operatorCodes = []
        self.model.subgraphs = [self.graph]
        self.model.buffers = [schema.BufferT()]
        self.model.signatureDefs = []
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any = np.float32,
        *,
        data: Any = None,
        signature: Sequence[int] | None = None,
        scale: Any = None,
        zero_point: Any = 0,
        axis: int = 0,
        kind: int | None = None,
    ) -> int:
        """Add a tensor, constant where there are data (an array, or packed bytes); returns its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = KINDS[np.dtype(dtype)] if kind is None else kind
        tensor.shapeSignature = None if signature is None else list(signature)
        if data is not None:
            buffer = schema.BufferT()
            raw = data if isinstance(data, bytes) else np.asarray(data, dtype).tobytes()
            buffer.data = np.frombuffer(raw, np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale is not None:
            tensor.quantization = quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            quantization.zeroPoint = np.broadcast_to(np.asarray(zero_point, np.int64), quantization.scale.shape)
            quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def const(self, name: str, array: Any, dtype: Any = None, **options: Any) -> int:
        """Add a constant."""
        held = np.asarray(array, dtype)
        return self.tensor(name, held.shape, held.dtype, data=held, **options)

    def op(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, custom: str = ""
    ) -> None:
        """Add an operator; ``options`` is a table of the object API."""
        number = getattr(schema.BuiltinOperator, code)
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = number, min(number, 127), 1
        entry.customCode = custom or None
        self.model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)

    def version(self, number: int) -> None:
        """Set the version of the last operator."""
        self.model.operatorCodes[-1].version = number

    def signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int], key: str = "serving_default") -> None:
        """Name inputs and outputs."""
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = key, 0
        entry.inputs, entry.outputs = _maps(inputs), _maps(outputs)
        self.model.signatureDefs.append(entry)

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The flatbuffer."""
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def save(self, folder: Path, inputs: Sequence[int], outputs: Sequence[int]) -> Path:
        """Write the flatbuffer."""
        path = folder / "model.tflite"
        path.write_bytes(self.content(inputs, outputs))
        return path


def _maps(names: Mapping[str, int]) -> list[Any]:
    maps = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps


def options(kind: str, **fields: Any) -> Any:
    """An options table."""
    table = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        assert hasattr(table, name), name
        setattr(table, name, value)
    return table


def single(
    folder: Path,
    code: str,
    shapes: Sequence[Sequence[int]],
    result: Sequence[int],
    table: Any = None,
    *,
    constants: Sequence[Any] = (),
    dtype: Any = np.float32,
    result_dtype: Any = None,
    version: int = 1,
) -> Path:
    """A model of one operator: its run-time operands first, then its constants."""
    b = Builder()
    inputs = [b.tensor(f"x{number}", shape, dtype) for number, shape in enumerate(shapes)]
    held = [-1 if item is None else b.const(f"c{number}", item) for number, item in enumerate(constants)]
    y = b.tensor("y", result, dtype if result_dtype is None else result_dtype)
    b.op(code, [*inputs, *held], [y], table)
    b.version(version)
    return b.save(folder, inputs, [y])


def imported(path: Path, **choices: Any) -> ImportedModel:
    """The model in the IR."""
    return open_source(path, SourceOptions(**choices))


def operators(model: ImportedModel) -> list[str]:
    """The operators of the graph, in order."""
    return [node.op for node in model.model.graph.nodes]


def feeds_of(model: ImportedModel, seed: int = 0) -> dict[str, Array]:
    """Random inputs."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.model.graph.inputs:
        if value.dtype.is_float:
            feeds[value.name] = generator.standard_normal(value.dims).astype(value.dtype.numpy)
        elif value.dtype.name == "BOOL":
            feeds[value.name] = generator.random(value.dims) < 0.5
        else:
            about = np.iinfo(value.dtype.numpy)
            low, high = (about.min, about.max) if about.bits == 8 else (0, 4)
            feeds[value.name] = generator.integers(low, high, value.dims, endpoint=True).astype(value.dtype.numpy)
    return feeds


def both(model: ImportedModel, feeds: Mapping[str, Array], *, xnnpack: bool = True) -> list[tuple[Array, Array]]:
    """LiteRT's outputs and those of the imported graph in ONNX Runtime."""
    way = model.original.ways[0]
    spec = way.plain if xnnpack or way.other is None else way.other
    wanted = InProcess().open(spec.factory, model.original.path, spec.options).run(feeds)
    session = open_session(model_to_proto(model.model).SerializeToString(), optimise=False)
    found = session.run(feeds)
    assert list(found) == list(wanted)
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype and array.shape == wanted[name].shape
    return [(wanted[name], found[name]) for name in wanted]


def assert_same(path: Path, *, tolerance: float = 1e-5, steps: int = 0, **choices: Any) -> ImportedModel:
    """The imported graph computes what LiteRT computes; quantized results may be some steps apart."""
    model = imported(path, **choices)
    for seed in range(2):
        for wanted, found in both(model, feeds_of(model, seed)):
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
            else:
                assert np.abs(found.astype(np.int64) - wanted.astype(np.int64)).max(initial=0) <= steps
    return model
