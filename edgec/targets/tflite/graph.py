"""A LiteRT flatbuffer as plain Python: what targets that start from one ask about its operators and tensors.

Source: schema.fbs of LiteRT (``ai_edge_litert.schema_py_generated`` is generated from it).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import ModelError
from edgec.ir.types import Array
from edgec.targets.tflite.flatbuffer import Malformed, Reader, Table

IDENTIFIER: Final = b"TFL3"
MAX_RANK: Final = 16

_TYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_OPTIONS = {number: name for name, number in vars(schema.BuiltinOptions).items() if isinstance(number, int)}
_NUMPY = {"int8": "i1", "uint8": "u1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "float32": "<f4", "bool": "?"}


@dataclass(frozen=True)
class FlatTensor:
    """A tensor.

    Attributes:
        dtype: element type in lower case (``int8``, ``float32``, ...).
        shape: extents; -1 where the file leaves them open.
        nbytes: bytes of a constant's elements, 0 for a tensor that is computed.
        variable: whether it keeps its value from run to run (a recurrent state).
        scales, zero_points: quantization parameters, empty where there are none.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int = 0
    variable: bool = False
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    _content: bytes | memoryview = field(default=b"", repr=False, compare=False)

    @property
    def constant(self) -> bool:
        """Whether the file holds its elements."""
        return self.nbytes > 0

    @property
    def size(self) -> int:
        """Number of elements; open extents count as 1."""
        count = 1
        for extent in self.shape:
            count *= max(extent, 1) if extent < 0 else extent
        return count

    def values(self) -> Array | None:
        """A constant's elements, None for a computed tensor, an element type NumPy lacks, or bytes that do not fit."""
        form = _NUMPY.get(self.dtype)
        if form is None or not self.constant or self.nbytes != self.size * np.dtype(form).itemsize:
            return None
        return np.frombuffer(self._content, form).reshape(self.shape)


@dataclass(frozen=True)
class FlatOperator:
    """An operator.

    Attributes:
        code: name in ``BuiltinOperator``.
        custom: name of a custom operator, else empty.
        inputs: its tensors, None for an optional one that is left out.
    """

    index: int
    code: str
    custom: str
    version: int
    inputs: tuple[FlatTensor | None, ...]
    outputs: tuple[FlatTensor, ...]
    options_kind: str = ""
    custom_options: bytes = field(default=b"", repr=False)
    _options: Any = field(default=None, repr=False, compare=False)

    @property
    def title(self) -> str:
        """``CONV_2D``, or ``CUSTOM:NAME``."""
        return f"CUSTOM:{self.custom}" if self.code == "CUSTOM" else self.code

    @property
    def name(self) -> str:
        """For messages: the name of its first result, or operator and position."""
        return next((tensor.name for tensor in self.outputs if tensor.name), f"{self.title}_{self.index}")

    def option(self, name: str, default: Any = 0) -> Any:
        """A member of the options table by the schema's accessor name, such as ``DilationWFactor``.

        Raises:
            ModelError: EDG109 when the options are damaged.
        """
        accessor = getattr(self._options, name, None)
        if accessor is None:
            return default
        try:
            return accessor()
        except (struct.error, ValueError, TypeError, IndexError, OverflowError) as error:
            raise ModelError(
                "EDG109", "damaged operator options", where=f"operator {self.index}, {self.title}"
            ) from error


@dataclass(frozen=True)
class FlatGraph:
    """One subgraph, operators in the order of the file."""

    operators: tuple[FlatOperator, ...]
    inputs: tuple[FlatTensor, ...]
    outputs: tuple[FlatTensor, ...]
    tensors: tuple[FlatTensor, ...]

    @cached_property
    def producers(self) -> dict[int, int]:
        """Tensor index to the position of the operator that computes it."""
        return {tensor.index: operator.index for operator in self.operators for tensor in operator.outputs}


@dataclass(frozen=True)
class FlatModel:
    """A whole file: its subgraphs, the first of which is the model, and its size in bytes."""

    graphs: tuple[FlatGraph, ...]
    size: int
    description: str = ""

    @property
    def main(self) -> FlatGraph:
        """The graph that runs."""
        return self.graphs[0]


def read(path: str | os.PathLike[str]) -> FlatModel:
    """Read a ``.tflite`` file.

    Raises:
        ModelError: EDG101 there is no such file, EDG102 it is empty, EDG114 it is no LiteRT flatbuffer, EDG109 it is
            damaged.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError("EDG101", f"'{file.name}' cannot be read", where=str(file), why=error.strerror) from error
    if not data:
        raise ModelError("EDG102", f"'{file.name}' is empty", where=str(file))
    return parse(data, file.name)


def parse(data: bytes, name: str = "model") -> FlatModel:
    """The same from bytes."""
    if data[4:8] != IDENTIFIER:
        raise ModelError("EDG114", f"'{name}' is no LiteRT model", where=name, why="its bytes 4 to 8 are not 'TFL3'")
    try:
        model = _Parser(memoryview(data)).model()
        if not model.graphs:
            raise Malformed("it holds no graph")
    except (Malformed, struct.error, ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise ModelError("EDG109", f"'{name}' is damaged", where=name, why=str(error)) from error
    return model


class _Parser:
    """Field numbers are those of schema.fbs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._reader = Reader(data)

    def model(self) -> FlatModel:
        root = self._reader.root()
        codes = [self._code(table) for table in root.tables(1)]
        description = root.text(3)
        buffers = [self._buffer(table) for table in root.tables(4)]
        graphs = tuple(self._graph(table, codes, buffers) for table in root.tables(2))
        return FlatModel(graphs, len(self._data), description)

    def _code(self, table: Table) -> tuple[str, str, int]:
        number = max(int(table.number(0, "b")), int(table.number(3, "i")))
        name = _OPERATORS.get(number, f"BUILTIN_{number}")
        return name, table.text(1) if name == "CUSTOM" else "", int(table.number(2, "i", 1))

    def _buffer(self, table: Table) -> tuple[int, int]:
        start, length = table.span(0)
        outside, size = int(table.number(1, "Q")), int(table.number(2, "Q"))
        if not length and outside > 1:  # data of files over 2 GB lies behind the flatbuffer
            if outside + size > len(self._data):
                raise Malformed("a constant ends behind the last byte")
            return outside, size
        return start, length

    def _graph(self, table: Table, codes: list[tuple[str, str, int]], buffers: list[tuple[int, int]]) -> FlatGraph:
        tensors = [self._tensor(item, index, buffers) for index, item in enumerate(table.tables(0))]
        operators = [self._operator(item, index, codes, tensors) for index, item in enumerate(table.tables(3))]
        inputs = _chosen(tensors, table.numbers(1, "i"))
        outputs = _chosen(tensors, table.numbers(2, "i"))
        return FlatGraph(tuple(operators), inputs, outputs, tuple(tensors))

    def _tensor(self, table: Table, index: int, buffers: list[tuple[int, int]]) -> FlatTensor:
        shape = table.numbers(0, "i")
        signature = table.numbers(7, "i")
        if max(len(shape), len(signature)) > MAX_RANK or min((*shape, *signature), default=0) < -1:
            raise Malformed(f"tensor {index} has the shape {list(shape)}")
        if len(signature) == len(shape):
            shape = tuple(-1 if open < 0 else extent for open, extent in zip(signature, shape))
        number = int(table.number(2, "I"))
        start, length = buffers[number] if number else (0, 0)
        quantization = table.table(4)
        scales = tuple(float(item) for item in quantization.numbers(2, "f")) if quantization else ()
        zeros = tuple(int(item) for item in quantization.numbers(3, "q")) if quantization else ()
        return FlatTensor(
            index,
            table.text(3),
            _TYPES.get(int(table.number(1, "b")), "unknown"),
            tuple(int(extent) for extent in shape),
            length,
            bool(table.number(5, "?")),
            scales,
            zeros,
            self._data[start : start + length],
        )

    def _operator(
        self, table: Table, index: int, codes: list[tuple[str, str, int]], tensors: list[FlatTensor]
    ) -> FlatOperator:
        code, custom, version = codes[int(table.number(0, "I"))]
        inputs = tuple(None if item == -1 else _chosen(tensors, (item,))[0] for item in table.numbers(1, "i"))
        outputs = _chosen(tensors, table.numbers(2, "i"))
        kind = _OPTIONS.get(int(table.number(3, "B")), "")
        place = table.table(4)
        reader = getattr(schema, kind, None) if place is not None else None
        options = None
        if reader is not None and place is not None:
            options = reader()
            options.Init(self._data, place.position)
        return FlatOperator(index, code, custom, version, inputs, outputs, kind, table.content(5), options)


def _chosen(tensors: list[FlatTensor], indices: Iterable[int]) -> tuple[FlatTensor, ...]:
    found = []
    for index in indices:
        if not 0 <= index < len(tensors):
            raise Malformed(f"there is no tensor {index}")
        found.append(tensors[index])
    return tuple(found)
