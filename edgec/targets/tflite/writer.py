"""Write a program as a LiteRT flatbuffer, each constant exactly once and straight to the file.

A flatbuffer's references point forward, so the tables come first and all constant data is appended behind them: only
the tables (a few hundred kilobytes) are ever held in memory.  The ``data`` field of each Buffer table is written as a
placeholder and patched once the tables' final length is known.

Source: the LiteRT schema (``ai_edge_litert.schema_py_generated``) and the FlatBuffers internals description.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import UnsupportedError
from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.program import TENSOR_TYPES, Op, Program, T

FILE_IDENTIFIER = b"TFL3"
ALIGNMENT = 16
SIZE_LIMIT = 2**31 - 1
DEDUPLICATE_LIMIT = 65536
"""Constants up to this many bytes are stored once even if several tensors hold the same bytes."""


VERSIONS = {"BROADCAST_TO": 2}
"""Operators whose first registered version is not 1.  Source: LiteRT kernels/register.cc."""


class _DataBuffer(schema.BufferT):  # type: ignore[misc]
    """A Buffer table whose data vector lies behind all tables."""

    def __init__(self, slots: list[int]):
        super().__init__()
        self._slots = slots

    def Pack(self, builder: Any) -> Any:
        schema.BufferStart(builder)
        builder.PrependUint32Slot(0, 0xFFFFFFFF, 0)
        self._slots.append(builder.Offset())
        return schema.BufferEnd(builder)


def write(program: Program, path: Path, description: str) -> None:
    """Write ``program`` to ``path``.

    Raises:
        UnsupportedError: EDG232 when the file would exceed 2 GiB.
        OSError: the file cannot be written.
    """
    tensors = list(program.tensors())
    buffers: list[Tensor | None] = [None]
    by_content: dict[tuple[int, bytes], int] = {}
    buffer_of: dict[int, int] = {}
    for tensor in tensors:
        if tensor.const is None:
            continue
        if tensor.const.nbytes <= DEDUPLICATE_LIMIT:
            content = _bytes(tensor.const)
            key = (len(content), hashlib.sha256(content).digest())
            if key not in by_content:
                by_content[key] = len(buffers)
                buffers.append(tensor.const)
            buffer_of[id(tensor)] = by_content[key]
        else:
            buffer_of[id(tensor)] = len(buffers)
            buffers.append(tensor.const)
    total = sum(buffer.nbytes + ALIGNMENT for buffer in buffers if buffer is not None)
    if total > SIZE_LIMIT:
        raise UnsupportedError(
            "EDG232",
            f"the parameters take {total / 2**30:.2f} GiB, a LiteRT flatbuffer holds 2 GiB",
            help="convert with --target onnxruntime, or split the model",
        )
    slots: list[int] = []
    tables = _tables(program, tensors, buffer_of, buffers, slots, description)
    _append(path, tables, [buffer for buffer in buffers if buffer is not None], slots)


def _bytes(tensor: Tensor) -> bytes:
    return np.ascontiguousarray(tensor.numpy()).tobytes()


def _append(path: Path, tables: bytearray, data: list[Tensor], slots: list[int]) -> None:
    """Write the tables, patched, and behind them the data vectors, each with its length in front."""
    length = len(tables)
    position = length
    for tensor, slot in zip(data, slots, strict=True):
        start = -(-(position + 4) // ALIGNMENT) * ALIGNMENT  # where the first byte of data goes
        field = length - slot
        struct.pack_into("<I", tables, field, start - 4 - field)
        position = start + tensor.nbytes
    with path.open("wb") as file:
        file.write(tables)
        position = length
        for tensor in data:
            start = -(-(position + 4) // ALIGNMENT) * ALIGNMENT
            file.write(b"\0" * (start - 4 - position))
            file.write(struct.pack("<I", tensor.nbytes))
            array = np.ascontiguousarray(tensor.numpy())
            if array.nbytes != tensor.nbytes:
                raise AssertionError(f"a constant of {tensor.nbytes} bytes came out as {array.nbytes}")
            file.write(array.reshape(-1).view(np.uint8).data)
            position = start + tensor.nbytes


def _tables(
    program: Program,
    tensors: list[T],
    buffer_of: dict[int, int],
    buffers: list[Tensor | None],
    slots: list[int],
    description: str,
) -> bytearray:
    index_of = {id(tensor): index for index, tensor in enumerate(tensors)}
    codes: dict[tuple[str, str], int] = {}
    for op in program.ops:
        codes.setdefault((op.code, op.custom), len(codes))
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.operatorCodes = [_operator_code(code, custom) for code, custom in codes]
    model.buffers = [schema.BufferT(), *(_DataBuffer(slots) for _ in buffers[1:])]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [_tensor(tensor, buffer_of.get(id(tensor), 0)) for tensor in tensors]
    graph.inputs = [index_of[id(tensor)] for tensor in program.inputs]
    graph.outputs = [index_of[id(tensor)] for tensor in program.outputs]
    graph.operators = [_operator(op, codes[op.code, op.custom], index_of) for op in program.ops]
    model.subgraphs = [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.subgraphIndex = 0
    signature.inputs = [_entry(name, index_of[id(t)]) for name, t in zip(program.input_names, program.inputs)]
    signature.outputs = [_entry(name, index_of[id(t)]) for name, t in zip(program.output_names, program.outputs)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytearray(builder.Output())


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = index
    return entry


def _operator_code(code: str, custom: str) -> Any:
    table = schema.OperatorCodeT()
    number = getattr(schema.BuiltinOperator, code)
    table.builtinCode = number
    table.deprecatedBuiltinCode = min(number, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    table.version = VERSIONS.get(code, 1)
    if custom:
        table.customCode = custom
    return table


def _tensor(tensor: T, buffer: int) -> Any:
    table = schema.TensorT()
    table.name = tensor.name
    table.type = TENSOR_TYPES[tensor.dtype]
    table.buffer = buffer
    table.hasRank = True
    if -1 in tensor.shape:
        table.shapeSignature = np.array(tensor.shape, np.int32)
    table.shape = np.array([max(dim, 1) if dim < 0 else dim for dim in tensor.shape], np.int32)
    if tensor.scale is not None:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.asarray(tensor.scale, np.float32).reshape(-1)
        quantization.zeroPoint = np.asarray(tensor.zero_point, np.int64).reshape(-1)
        quantization.quantizedDimension = tensor.axis
        table.quantization = quantization
    return table


def _operator(op: Op, code: int, index_of: dict[int, int]) -> Any:
    table = schema.OperatorT()
    table.opcodeIndex = code
    table.inputs = np.array([-1 if t is None else index_of[id(t)] for t in op.inputs], np.int32)
    table.outputs = np.array([index_of[id(t)] for t in op.outputs], np.int32)
    if op.options is not None:
        kind = type(op.options).__name__[:-1]
        if hasattr(schema.BuiltinOptions, kind):
            table.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            table.builtinOptions = op.options
        else:
            table.builtinOptions2Type = getattr(schema.BuiltinOptions2, kind)
            table.builtinOptions2 = op.options
    return table


__all__ = ["DataType", "write"]
