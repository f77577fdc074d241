"""A LiteRT flatbuffer as plain Python, read under limits: the file may come from anybody.

Every offset and length is checked (:mod:`edgec.targets.tflite.flatbuffer`); weights stay where they are until they are
used.  The accelerators ask their questions here, and the importer of ``.tflite`` starts from here.


Source: schema.fbs of LiteRT (``ai_edge_litert.schema_py_generated`` is generated from it).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import ModelError
from edgec.ir.types import Array
from edgec.ir.untrusted import CHECKSUM, malformed_as_error, map_file
from edgec.targets.tflite.flatbuffer import Malformed, Reader, Table, TooLarge

IDENTIFIER: Final = b"TFL3"
MAX_RANK: Final = 16
FILE_HELP: Final = "give the .tflite file itself"

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
        axis: the axis that several scales belong to.
        made_with: the extents that the file was made with, also where others will do.
        sparsity: how a constant is packed, as the schema's ``SparsityParameters``; None where it is not.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int = 0
    variable: bool = False
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    made_with: tuple[int, ...] = ()
    sparsity: Any = field(default=None, repr=False, compare=False)
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

    @property
    def content(self) -> memoryview:
        """A constant's bytes as they lie in the file."""
        return memoryview(self._content)

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
        options_kind: name in ``BuiltinOptions``.
        options: the options as the schema's table of that kind; None where there are none.
    """

    index: int
    code: str
    custom: str
    version: int
    inputs: tuple[FlatTensor | None, ...]
    outputs: tuple[FlatTensor, ...]
    options_kind: str = ""
    custom_options: bytes = field(default=b"", repr=False)
    options: Any = field(default=None, repr=False, compare=False)

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
        accessor = getattr(self.options, name, None)
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
    name: str = ""

    @cached_property
    def producers(self) -> dict[int, int]:
        """Tensor index to the position of the operator that computes it."""
        return {tensor.index: operator.index for operator in self.operators for tensor in operator.outputs}


@dataclass(frozen=True)
class Signature:
    """Names for the inputs and outputs of a subgraph: (name, tensor index) in the order of the file."""

    key: str
    graph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FlatModel:
    """A whole file.

    Attributes:
        graphs: its subgraphs, the first of which is the model.
        size: bytes of the file.
        version: of the schema.
        metadata: names of the metadata entries.
    """

    graphs: tuple[FlatGraph, ...]
    size: int
    description: str = ""
    version: int = 3
    signatures: tuple[Signature, ...] = ()
    metadata: tuple[str, ...] = ()

    @property
    def main(self) -> FlatGraph:
        """The graph that runs."""
        return self.graphs[0]


def read(path: str | os.PathLike[str]) -> FlatModel:
    """Read a ``.tflite`` file; constants are copied, so that the file may change afterwards.

    Raises:
        ModelError: EDG101 there is no such file, EDG102 it is empty, EDG114 it is no LiteRT flatbuffer, EDG109 it is
            malformed, EDG112 it is over a limit.
    """
    file = Path(path)
    return parse(bytes(map_file(file, FILE_HELP)), file)


def read_mapped(path: str | os.PathLike[str]) -> FlatModel:
    """The same, but constants stay in the file until they are used.

    Raises:
        ModelError: see :func:`read`.
    """
    file = Path(path)
    return parse(map_file(file, FILE_HELP), file)


def parse(data: bytes | mmap.mmap, file: Path = Path("model")) -> FlatModel:
    """The same from bytes; ``file`` is for messages.

    Raises:
        ModelError: EDG109, EDG112, EDG114.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError(
            "EDG114",
            f"'{file.name}' is no LiteRT model",
            where=str(file),
            why="its bytes 4 to 8 are not 'TFL3'" + (": it is cut off" if len(data) < 8 else ""),
            help=CHECKSUM,
        )
    with malformed_as_error(file):
        try:
            return _Parser(memoryview(data)).model()
        except TooLarge as error:
            raise ModelError("EDG112", f"'{file.name}' is too large", where=str(file), why=str(error)) from error


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
        if not graphs:
            raise Malformed("it holds no graph")
        metadata = tuple(table.text(0) for table in root.tables(6))
        signatures = tuple(_signature(table, graphs) for table in root.tables(7))
        version = int(root.number(0, "I"))
        return FlatModel(graphs, len(self._data), description, version, signatures, metadata)

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
        return FlatGraph(tuple(operators), inputs, outputs, tuple(tensors), table.text(4))

    def _tensor(self, table: Table, index: int, buffers: list[tuple[int, int]]) -> FlatTensor:
        made_with = table.numbers(0, "i")
        signature = table.numbers(7, "i")
        if max(len(made_with), len(signature)) > MAX_RANK or min((*made_with, *signature), default=0) < -1:
            raise Malformed(f"tensor {index} has the shape {list(made_with)}")
        shape = made_with
        if len(signature) == len(shape) and all(open in (-1, extent) for open, extent in zip(signature, shape)):
            shape = signature
        number = int(table.number(2, "I"))
        if number >= len(buffers):
            raise Malformed(f"tensor {index} lies in buffer {number} of {len(buffers)}")
        start, length = buffers[number]
        quantization = table.table(4)
        scales = quantization.numbers(2, "f") if quantization else ()
        zeros = quantization.numbers(3, "q") if quantization else ()
        packed = table.table(6)
        if packed is not None:
            packed.length(2)
        return FlatTensor(
            index,
            table.text(3),
            _TYPES.get(kind := int(table.number(1, "b")), f"type_{kind}"),
            shape,
            length,
            bool(table.number(5, "?")),
            scales,
            zeros,
            int(quantization.number(6, "i")) if quantization else 0,
            made_with,
            self._schema(schema.SparsityParameters, packed),
            self._data[start : start + length],
        )

    def _operator(
        self, table: Table, index: int, codes: list[tuple[str, str, int]], tensors: list[FlatTensor]
    ) -> FlatOperator:
        opcode = int(table.number(0, "I"))
        if opcode >= len(codes):
            raise Malformed(f"operator {index} has the code {opcode} of {len(codes)}")
        code, custom, version = codes[opcode]
        inputs = _operands(tensors, table.numbers(1, "i"))
        outputs = _chosen(tensors, table.numbers(2, "i"))
        kind = _OPTIONS.get(int(table.number(3, "B")), "")
        options = self._schema(getattr(schema, kind, None), table.table(4))
        return FlatOperator(index, code, custom, version, inputs, outputs, kind, table.content(5), options)

    def _schema(self, kind: Any, table: Table | None) -> Any:
        """A table as the schema's own class of that kind, None where there is none."""
        if kind is None or table is None:
            return None
        found = kind()
        found.Init(self._data, table.position)
        return found


def _signature(table: Table, graphs: tuple[FlatGraph, ...]) -> Signature:
    graph = int(table.number(4, "I"))
    if graph >= len(graphs):
        raise Malformed(f"a signature of graph {graph} of {len(graphs)}")

    def pairs(number: int) -> tuple[tuple[str, int], ...]:
        found = []
        for entry in table.tables(number):
            (tensor,) = _chosen(graphs[graph].tensors, (int(entry.number(1, "I")),))
            found.append((entry.text(0), tensor.index))
        return tuple(found)

    return Signature(table.text(2), graph, pairs(0), pairs(1))


def _chosen(tensors: Sequence[FlatTensor], indices: Sequence[int]) -> tuple[FlatTensor, ...]:
    if indices and not 0 <= min(indices) <= max(indices) < len(tensors):
        raise Malformed(f"an index is none of the {len(tensors)} tensors")
    return tuple(tensors[index] for index in indices)


def _operands(tensors: Sequence[FlatTensor], indices: Sequence[int]) -> tuple[FlatTensor | None, ...]:
    """The same, with -1 for an operand that is left out."""
    if indices and not -1 <= min(indices) <= max(indices) < len(tensors):
        raise Malformed(f"an index is none of the {len(tensors)} tensors")
    return tuple(None if index < 0 else tensors[index] for index in indices)
