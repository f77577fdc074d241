"""A LiteRT flatbuffer in the terms of the IR; weights stay in the file until they are used."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgec.converter.importers.tflite.contents import FlatGraph, FlatModel, FlatOperator, FlatTensor, Quantization
from edgec.converter.importers.tflite.sparse import densify
from edgec.errors import ModelError
from edgec.ir.types import Array, DataType
from edgec.ir.untrusted import malformed_as_error
from edgec.targets.tflite import graph as files

DATA_TYPES = {
    "FLOAT32": DataType.FLOAT,
    "FLOAT16": DataType.FLOAT16,
    "FLOAT64": DataType.DOUBLE,
    "BFLOAT16": DataType.BFLOAT16,
    "INT4": DataType.INT8,
    "INT8": DataType.INT8,
    "UINT8": DataType.UINT8,
    "INT16": DataType.INT16,
    "UINT16": DataType.UINT16,
    "INT32": DataType.INT32,
    "UINT32": DataType.UINT32,
    "INT64": DataType.INT64,
    "UINT64": DataType.UINT64,
    "BOOL": DataType.BOOL,
}
"""Element types in the IR; 4-bit integers are widened."""

_QUANTIZED = frozenset({"INT4", "INT8", "UINT8", "INT16", "INT32", "INT64"})


def read_flatbuffer(path: str | os.PathLike[str]) -> FlatModel:
    """Everything but the weights of a ``.tflite`` file.

    Raises:
        ModelError: EDG101 (no file), EDG102 (empty), EDG114 (no LiteRT flatbuffer), EDG109 (malformed), EDG112 (over a
            limit).
    """
    found = files.read_mapped(path)
    with malformed_as_error(Path(path)):
        graphs = tuple(_graph(graph) for graph in found.graphs)
    return FlatModel(found.size, found.version, found.description, graphs, found.signatures, found.metadata)


def _graph(graph: files.FlatGraph) -> FlatGraph:
    tensors = tuple(_tensor(tensor) for tensor in graph.tensors)
    operators = tuple(_operator(operator) for operator in graph.operators)
    inputs, outputs = (tuple(tensor.index for tensor in ends) for ends in (graph.inputs, graph.outputs))
    return FlatGraph(graph.name, tensors, inputs, outputs, operators)


def _operator(operator: files.FlatOperator) -> FlatOperator:
    inputs = tuple(-1 if tensor is None else tensor.index for tensor in operator.inputs)
    outputs = tuple(tensor.index for tensor in operator.outputs)
    first = operator.outputs[0].name if operator.outputs else ""
    name = first or f"{operator.custom or operator.code}_{operator.index}"
    return FlatOperator(operator.index, operator.code, operator.custom, inputs, outputs, name, operator.options)


def _tensor(tensor: files.FlatTensor) -> FlatTensor:
    kind, shape = tensor.dtype.upper(), tensor.made_with
    dtype = DATA_TYPES.get(kind)
    if min(shape, default=0) < 0:
        raise ValueError(f"tensor {tensor.index} has the shape {list(shape)}")
    quantization = _quantization(tensor) if kind in _QUANTIZED else None
    load = _loader(tensor, dtype) if tensor.constant and dtype is not None else None
    return FlatTensor(tensor.index, tensor.name, kind, dtype, shape, tensor.shape, quantization, load)


def _quantization(tensor: files.FlatTensor) -> Quantization | None:
    if not tensor.scales:
        return None
    scales, shape = np.array(tensor.scales, np.float32), tensor.made_with
    points = np.array(tensor.zero_points, np.int64) if tensor.zero_points else np.zeros(scales.size, np.int64)
    if points.size == 1 and scales.size > 1:
        points = np.repeat(points, scales.size)
    fits = scales.size == 1 or (0 <= tensor.axis < len(shape) and shape[tensor.axis] == scales.size)
    if points.size != scales.size or not fits or not np.isfinite(scales).all() or (scales < 0).any():
        raise ValueError(f"{scales.size} scales and {points.size} zero points for the shape {list(shape)}")
    return Quantization(scales, points, 0 if scales.size == 1 else tensor.axis)


def _loader(tensor: files.FlatTensor, dtype: DataType) -> Callable[[], Array]:
    """A function that reads a constant."""
    raw = np.frombuffer(tensor.content, np.uint8)
    narrow = tensor.dtype == "int4"
    shape = tensor.made_with
    if tensor.sparsity is not None:
        return lambda: _dense(tensor, _widened(raw) if narrow else raw.view(dtype.numpy))
    count = math.prod(shape)
    needed = (count + 1) // 2 if narrow else count * dtype.numpy.itemsize
    if raw.size != needed:
        raise ValueError(f"tensor {tensor.index} of shape {list(shape)} needs {needed} bytes and has {raw.size}")
    if narrow:
        return lambda: _widened(raw)[:count].reshape(shape)
    return lambda: raw.view(dtype.numpy).reshape(shape)


def _dense(tensor: files.FlatTensor, values: Array) -> Array:
    """A sparse constant, which is decoded when it is used."""
    try:
        return densify(tensor.sparsity, tensor.made_with, values)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
        raise ModelError(
            "EDG109", "a sparse constant is malformed", where=f"tensor {tensor.index}", why=str(error)
        ) from error


def _widened(raw: Array) -> Array:
    """4-bit integers, the low half of a byte first, as int8."""
    pairs = np.stack([raw << 4, raw & 0xF0], axis=-1).reshape(-1)
    wide: Array = pairs.view(np.int8) >> 4
    return wide


def text(data: Any) -> str:
    """A name of the file; bytes that are no UTF-8 are replaced."""
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
