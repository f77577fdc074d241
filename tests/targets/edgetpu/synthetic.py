"""Small int8 LiteRT graphs, and compiled models as the Edge TPU compiler writes them, made for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.graph import FlatGraph, read
from edgec.targets.tflite.program import Op, Program, T
from edgec.targets.tflite.writer import write


@dataclass
class Net:
    """A graph that grows operator by operator; everything is int8 with scale 0.1 unless it says otherwise."""

    program: Program = field(default_factory=Program)

    def input(self, *shape: int, dtype: DataType = DataType.INT8, name: str = "x") -> T:
        tensor = self.tensor(name, shape, dtype)
        self.program.inputs.append(tensor)
        self.program.input_names.append(name)
        return tensor

    def tensor(self, name: str, shape: Sequence[int], dtype: DataType = DataType.INT8) -> T:
        tensor = T(name, dtype, shape)
        if dtype in (DataType.INT8, DataType.UINT8):
            tensor.scale, tensor.zero_point = np.float32([0.1]), np.int64([0])
        return tensor

    def constant(self, array: Any, dtype: DataType = DataType.INT32) -> T:
        made = Tensor.of(np.asarray(array), dtype)
        tensor = T(f"constant_{len(list(self.program.tensors()))}_{id(made)}", dtype, made.shape, made)
        if dtype is DataType.INT8:
            tensor.scale, tensor.zero_point = np.float32([0.1]), np.int64([0])
        return tensor

    def add(
        self,
        code: str,
        inputs: Sequence[T | None],
        shape: Sequence[int],
        options: Any = None,
        *,
        name: str = "",
        dtype: DataType = DataType.INT8,
        custom: str = "",
    ) -> T:
        result = self.tensor(name or f"t{len(self.program.ops)}", shape, dtype)
        self.program.add(Op(code, list(inputs), [result], options, custom=custom))
        return result

    def convolution(self, x: T, channels: int, name: str = "", dilation: tuple[int, int] = (1, 1)) -> T:
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        options.dilationHFactor, options.dilationWFactor = dilation
        weights = self.constant(np.ones((channels, 1, 1, x.shape[-1])), DataType.INT8)
        bias = self.constant(np.zeros(channels), DataType.INT32)
        bias.scale, bias.zero_point = np.float32([0.01]), np.int64([0])
        return self.add("CONV_2D", [x, weights, bias], (*x.shape[:3], channels), options, name=name)

    def write(self, path: Path, *outputs: T) -> Path:
        self.program.outputs = list(outputs)
        self.program.output_names = [tensor.name for tensor in outputs]
        write(self.program, path, "test")
        return path

    def graph(self, folder: Path, *outputs: T) -> FlatGraph:
        return read(self.write(folder / "model.tflite", *outputs)).main


@dataclass(frozen=True)
class Part:
    """One executable of a package."""

    kind: int
    parameters: int = 0
    instructions: int = 16
    chip: str = "beagle"


PAIR = (Part(2), Part(1, 640))
"""What every real package holds: an execution-only and a parameter-caching executable."""


def executable(program: Part) -> bytes:
    builder = flatbuffers.Builder(256)
    stream_bytes = builder.CreateByteVector(bytes(program.instructions))
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, stream_bytes, 0)
    stream = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(stream)
    streams = builder.EndVector()
    parameters = builder.CreateByteVector(bytes(program.parameters))
    chip, name = builder.CreateString(program.chip), builder.CreateString("model")
    builder.StartObject(17)
    builder.PrependUOffsetTRelativeSlot(1, name, 0)
    builder.PrependInt32Slot(3, 1, 0)
    builder.PrependUOffsetTRelativeSlot(5, streams, 0)
    builder.PrependUOffsetTRelativeSlot(6, parameters, 0)
    builder.PrependUOffsetTRelativeSlot(10, chip, 0)
    builder.PrependInt16Slot(13, program.kind, 0)
    builder.Finish(builder.EndObject(), b"DWN1")
    return bytes(builder.Output())


def package(programs: Sequence[Part] = PAIR, runtime: int = 13) -> bytes:
    inner = flatbuffers.Builder(1024)
    offsets = [inner.CreateString(executable(item)) for item in programs]
    inner.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        inner.PrependUOffsetTRelative(offset)
    vector = inner.EndVector()
    inner.StartObject(1)
    inner.PrependUOffsetTRelativeSlot(0, vector, 0)
    inner.Finish(inner.EndObject())
    builder = flatbuffers.Builder(1024)
    multi = builder.CreateByteVector(bytes(inner.Output()))
    version = builder.CreateString("cl/test")
    builder.StartObject(8)
    builder.PrependInt32Slot(0, runtime, 0)
    builder.PrependUOffsetTRelativeSlot(1, multi, 0)
    builder.PrependUOffsetTRelativeSlot(4, version, 0)
    builder.Finish(builder.EndObject(), b"DWN1")
    return bytes(builder.Output())


class Raw:
    """Bytes in the place of a text: the builder asks for their encoding."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def encode(self, encoding: str) -> bytes:
        return self.content


def custom_options(content: bytes | None = None, *, further: Sequence[bytes] | None = None, chip: str = "") -> bytes:
    """The options of the custom operator.

    Args:
        further: packages for other chips, as new compilers list them (none: an older compiler).
        chip: the entry that only the oldest compilers write.
    """
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("1")
        builder.Int(0)
        if chip:
            builder.Key("2")
            builder.String(chip)
        builder.Key("4")
        builder.String(Raw(package() if content is None else content))
        if further is not None:
            builder.Key("5")
            builder.Int(-1)
            builder.Key("6")
            with builder.Vector():
                for number in range(1 + len(further)):
                    builder.Int(number)
            builder.Key("7")
            with builder.Vector():
                for item in further:
                    builder.String(Raw(item))
    return bytes(builder.Finish())


def give_options(path: Path, options: Mapping[int, bytes]) -> None:
    """Options of custom operators, by their positions, in a file that is there already."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    for position, content in options.items():
        model.subgraphs[0].operators[position].customOptions = list(content)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def compiled(
    source: Path, path: Path, *, left: Sequence[int] = (), options: bytes | None = None, custom: str = ""
) -> Path:
    """The source with all operators but ``left`` (at its end) folded into one custom operator."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = custom or "edgetpu-custom-op"
    code.version = 1
    model.operatorCodes.append(code)
    kept = [graph.operators[index] for index in left]
    node = schema.OperatorT()
    node.opcodeIndex = len(model.operatorCodes) - 1
    node.inputs = list(graph.inputs)
    made = {int(tensor) for operator in kept for tensor in operator.outputs}
    wanted = [int(tensor) for operator in kept for tensor in operator.inputs if tensor >= 0]
    produced = {int(t) for i, operator in enumerate(graph.operators) if i not in left for t in operator.outputs}
    results = [t for t in wanted if t in produced] + [int(t) for t in graph.outputs if int(t) not in made]
    node.outputs = list(dict.fromkeys(results))
    node.customOptions = list(custom_options() if options is None else options)
    graph.operators = [node, *kept]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
