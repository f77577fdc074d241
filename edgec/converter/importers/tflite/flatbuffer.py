"""Read a LiteRT flatbuffer from a memory-mapped file, under limits; weights stay in the file until they are used.

Every offset and length comes from the file and is not trusted: vectors must lie inside of it, and the total number of
entries that are read is bounded, so that small files which refer to the same bytes over and over cost no more than
honest ones.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.contents import (
    FlatGraph,
    FlatModel,
    FlatOperator,
    FlatTensor,
    Quantization,
    Signature,
)
from edgec.converter.importers.tflite.sparse import densify
from edgec.errors import EdgecError, ModelError
from edgec.ir.types import Array, DataType

IDENTIFIER = b"TFL3"
MAX_ENTRIES = 4_000_000
"""Most tensors, operators, extents and other entries that a file may have in all."""
MAX_RANK = 16
MAX_EXTENT = 1 << 40

KINDS = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
CODES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}

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

Buffer = mmap.mmap


def read_flatbuffer(path: str | os.PathLike[str]) -> FlatModel:
    """Everything but the weights of a ``.tflite`` file.

    Raises:
        ModelError: EDG101 (no file), EDG102 (empty), EDG114 (no LiteRT flatbuffer), EDG109 (malformed), EDG112 (over a
            limit).
    """
    file = Path(path)
    data = _map(file)
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError(
            "EDG114",
            f"'{file.name}' is no LiteRT model",
            where=str(file),
            why="its bytes 4 to 8 are not 'TFL3'" + (": it is cut off" if len(data) < 8 else ""),
            help="get the file again and compare its checksum",
        )
    with malformed_as_error(file):
        return _Reader(data).model()


@contextmanager
def malformed_as_error(path: Path) -> Iterator[None]:
    """Report what a malformed flatbuffer makes Python or NumPy stumble over as EDG109; no file may crash edgec."""
    try:
        yield
    except EdgecError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        OSError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise ModelError(
            "EDG109",
            f"'{path.name}' is malformed",
            where=str(path),
            why=f"{type(error).__name__}: {str(error).strip()[:300]}",
            help="get the file again and compare its checksum",
        ) from error


def _map(file: Path) -> Buffer:
    where = str(file)
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ModelError("EDG101", f"there is no file '{file}'", where=where, help="check the path") from None
    except (OSError, ValueError) as error:
        raise ModelError("EDG101", f"cannot open '{file}'", where=where, why=str(error)) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ModelError("EDG101", f"'{file}' is no file", where=where, help="give the .tflite file itself")
        if about.st_size == 0:
            raise ModelError("EDG102", f"'{file}' is empty", where=where, help="copy or export the model again")
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


class _Reader:
    """Walks the tables of one file."""

    def __init__(self, data: Buffer):
        self.data = data
        self.left = MAX_ENTRIES
        self.root = schema.Model.GetRootAsModel(data, 0)

    def count(self, entries: int) -> int:
        """A number of entries that is about to be read."""
        self.left -= entries
        if entries < 0 or self.left < 0:
            raise ModelError("EDG112", f"the model has more than {MAX_ENTRIES} entries")
        return entries

    def numbers(self, vector: Any, limit: int | None = None) -> tuple[int, ...]:
        """The elements of a vector of numbers (a NumPy array, or 0 where it is absent)."""
        if isinstance(vector, int):
            return ()
        if limit is not None and vector.size > limit:
            raise ValueError(f"{vector.size} extents")
        self.count(int(vector.size))
        return tuple(int(item) for item in vector)

    def model(self) -> FlatModel:
        root = self.root
        self.codes = [self.code(root.OperatorCodes(i)) for i in range(self.count(root.OperatorCodesLength()))]
        graphs = tuple(self.graph(root.Subgraphs(i)) for i in range(self.count(root.SubgraphsLength())))
        if not graphs:
            raise ValueError("the model has no subgraph")
        signatures = tuple(
            self.signature(root.SignatureDefs(i), graphs) for i in range(self.count(root.SignatureDefsLength()))
        )
        metadata = tuple(text(root.Metadata(i).Name()) for i in range(self.count(root.MetadataLength())))
        return FlatModel(len(self.data), root.Version(), text(root.Description()), graphs, signatures, metadata)

    def code(self, entry: Any) -> tuple[str, str]:
        number = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        name = CODES.get(number, f"BUILTIN_{number}")
        return name, text(entry.CustomCode()) if name == "CUSTOM" else ""

    def graph(self, table: Any) -> FlatGraph:
        tensors = tuple(self.tensor(i, table.Tensors(i)) for i in range(self.count(table.TensorsLength())))
        operators = tuple(
            self.operator(i, table.Operators(i), tensors) for i in range(self.count(table.OperatorsLength()))
        )
        inputs, outputs = self.numbers(table.InputsAsNumpy()), self.numbers(table.OutputsAsNumpy())
        for index in (*inputs, *outputs):
            _require_tensor(index, tensors)
        return FlatGraph(text(table.Name()), tensors, inputs, outputs, operators)

    def operator(self, index: int, table: Any, tensors: tuple[FlatTensor, ...]) -> FlatOperator:
        opcode = table.OpcodeIndex()
        if opcode >= len(self.codes):
            raise ValueError(f"operator {index} has the code {opcode} of {len(self.codes)}")
        code, custom = self.codes[opcode]
        inputs, outputs = self.numbers(table.InputsAsNumpy()), self.numbers(table.OutputsAsNumpy())
        for position in outputs:
            _require_tensor(position, tensors)
        for position in inputs:
            if position != -1:
                _require_tensor(position, tensors)
        name = tensors[outputs[0]].name if outputs and tensors[outputs[0]].name else f"{custom or code}_{index}"
        kind, options = table.BuiltinOptionsType(), table.BuiltinOptions()
        return FlatOperator(index, code, custom, inputs, outputs, name, kind, options)

    def signature(self, table: Any, graphs: tuple[FlatGraph, ...]) -> Signature:
        graph = table.SubgraphIndex()
        if graph >= len(graphs):
            raise ValueError(f"a signature of subgraph {graph} of {len(graphs)}")

        def pairs(entry: Callable[[int], Any], length: int) -> tuple[tuple[str, int], ...]:
            found = []
            for position in range(self.count(length)):
                index = entry(position).TensorIndex()
                _require_tensor(index, graphs[graph].tensors)
                found.append((text(entry(position).Name()), int(index)))
            return tuple(found)

        inputs = pairs(table.Inputs, table.InputsLength())
        outputs = pairs(table.Outputs, table.OutputsLength())
        return Signature(text(table.SignatureKey()), graph, inputs, outputs)

    # tensors

    def tensor(self, index: int, table: Any) -> FlatTensor:
        kind = KINDS.get(table.Type(), f"TYPE_{table.Type()}")
        dtype = DATA_TYPES.get(kind)
        shape = self.numbers(table.ShapeAsNumpy(), MAX_RANK)
        if any(not 0 <= extent <= MAX_EXTENT for extent in shape):
            raise ValueError(f"tensor {index} has the shape {list(shape)}")
        signature = self.numbers(table.ShapeSignatureAsNumpy(), MAX_RANK)
        if len(signature) != len(shape) or any(s not in (-1, d) for s, d in zip(signature, shape)):
            signature = shape
        quantization = self.quantization(table.Quantization(), shape) if kind in _QUANTIZED else None
        raw = self.raw(table.Buffer())
        load: Callable[[], Array] | None = None
        if raw is not None:
            load = self.loader(index, kind, dtype, shape, raw, table.Sparsity())
        return FlatTensor(index, text(table.Name()), kind, dtype, shape, signature, quantization, load)

    def quantization(self, table: Any, shape: tuple[int, ...]) -> Quantization | None:
        if table is None or table.ScaleLength() == 0:
            return None
        scales = np.asarray(table.ScaleAsNumpy(), np.float32)
        zeros = table.ZeroPointAsNumpy()
        self.count(scales.size)
        points = np.zeros(scales.size, np.int64) if isinstance(zeros, int) else np.asarray(zeros, np.int64)
        if points.size == 1 and scales.size > 1:
            points = np.repeat(points, scales.size)
        axis = table.QuantizedDimension()
        fits = scales.size == 1 or (0 <= axis < len(shape) and shape[axis] == scales.size)
        if points.size != scales.size or not fits or not np.isfinite(scales).all() or (scales < 0).any():
            raise ValueError(f"{scales.size} scales and {points.size} zero points for the shape {list(shape)}")
        return Quantization(scales, points, 0 if scales.size == 1 else axis)

    def raw(self, index: int) -> Array | None:
        """The bytes of a buffer, None where it is empty."""
        if index >= self.root.BuffersLength():
            raise ValueError(f"buffer {index} of {self.root.BuffersLength()}")
        table = self.root.Buffers(index)
        offset, size = table.Offset(), table.Size()
        if offset > 1:  # outside of the flatbuffer, for files of more than 2 GiB
            if offset + size > len(self.data):
                raise ValueError(f"buffer {index} ends behind the file")
            return np.frombuffer(self.data, np.uint8, size, offset) if size else None
        if table.DataLength() == 0:
            return None
        return np.asarray(table.DataAsNumpy(), np.uint8)

    def loader(
        self, index: int, kind: str, dtype: DataType | None, shape: tuple[int, ...], raw: Array, sparsity: Any
    ) -> Callable[[], Array] | None:
        """A function that reads a constant; None for types that the IR does not hold."""
        if dtype is None:
            return None
        narrow = kind == "INT4"
        if sparsity is not None:
            self.count(sparsity.DimMetadataLength())
            return lambda: self.dense(index, sparsity, shape, _widened(raw) if narrow else raw.view(dtype.numpy))
        count = 1
        for extent in shape:
            count *= extent
        needed = (count + 1) // 2 if narrow else count * dtype.numpy.itemsize
        if raw.size != needed:
            raise ValueError(f"tensor {index} of shape {list(shape)} needs {needed} bytes and has {raw.size}")
        if narrow:
            return lambda: _widened(raw)[:count].reshape(shape)
        return lambda: raw.view(dtype.numpy).reshape(shape)

    def dense(self, index: int, sparsity: Any, shape: tuple[int, ...], values: Array) -> Array:
        """A sparse constant, which is decoded when it is used."""
        try:
            return densify(sparsity, shape, values)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
            raise ModelError(
                "EDG109", "a sparse constant is malformed", where=f"tensor {index}", why=str(error)
            ) from error


def _widened(raw: Array) -> Array:
    """4-bit integers, the low half of a byte first, as int8."""
    pairs = np.stack([raw << 4, raw & 0xF0], axis=-1).reshape(-1)
    wide: Array = pairs.view(np.int8) >> 4
    return wide


def _require_tensor(index: int, tensors: tuple[FlatTensor, ...]) -> None:
    if not 0 <= index < len(tensors):
        raise ValueError(f"tensor {index} of {len(tensors)}")


def text(data: Any) -> str:
    """A name of the file; bytes that are no UTF-8 are replaced."""
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
