"""A LiteRT program before it is bytes: tensors, operators, inputs and outputs in stored layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Tensor
from edgec.ir.types import DataType

TENSOR_TYPES: dict[DataType, int] = {
    DataType.FLOAT: schema.TensorType.FLOAT32,
    DataType.FLOAT16: schema.TensorType.FLOAT16,
    DataType.DOUBLE: schema.TensorType.FLOAT64,
    DataType.INT8: schema.TensorType.INT8,
    DataType.UINT8: schema.TensorType.UINT8,
    DataType.INT16: schema.TensorType.INT16,
    DataType.UINT16: schema.TensorType.UINT16,
    DataType.INT32: schema.TensorType.INT32,
    DataType.UINT32: schema.TensorType.UINT32,
    DataType.INT64: schema.TensorType.INT64,
    DataType.UINT64: schema.TensorType.UINT64,
    DataType.BOOL: schema.TensorType.BOOL,
}
"""Element types that a LiteRT tensor can have.  Source: TensorType in the LiteRT flatbuffer schema."""


class T:
    """A LiteRT tensor in stored layout.

    Attributes:
        shape: extents; -1 where known only at run time.
        const: the elements of a constant, in stored layout.
        producer: the operator that writes it, or None for inputs and constants.
        scale, zero_point, axis: quantization parameters, where the tensor is quantized.
    """

    __slots__ = ("axis", "const", "dtype", "name", "producer", "scale", "shape", "users", "zero_point")

    def __init__(self, name: str, dtype: DataType, shape: Sequence[int], const: Tensor | None = None):
        self.name = name
        self.dtype = dtype
        self.shape = tuple(shape)
        self.const = const
        self.producer: Op | None = None
        self.users: list[Op] = []
        self.scale: Any = None
        self.zero_point: Any = None
        self.axis = 0

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of a static tensor."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count

    def __repr__(self) -> str:
        return f"T({self.name}, {self.dtype.name}, {list(self.shape)}{', const' if self.const else ''})"


@dataclass(eq=False)
class Op:
    """One LiteRT operator.

    Attributes:
        code: name in ``BuiltinOperator``.
        options: an object-API options table of the schema, or None.
        sources: names of the user's nodes.
        custom: the custom code, for ``CUSTOM``.
    """

    code: str
    inputs: list[T | None]
    outputs: list[T]
    options: Any = None
    sources: tuple[str, ...] = ()
    custom: str = ""


@dataclass
class Program:
    """Everything that goes into one subgraph, and the signature around it."""

    ops: list[Op] = field(default_factory=list)
    inputs: list[T] = field(default_factory=list)
    outputs: list[T] = field(default_factory=list)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)

    def add(self, op: Op) -> None:
        """Append an operator and note who uses and who writes its tensors."""
        self.ops.append(op)
        for tensor in op.inputs:
            if tensor is not None:
                tensor.users.append(op)
        for tensor in op.outputs:
            tensor.producer = op

    def tensors(self) -> Iterator[T]:
        """Every tensor once: inputs first, then in order of use."""
        seen: set[int] = set()
        for tensor in self.inputs:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor
        for op in self.ops:
            for operand in (*op.inputs, *op.outputs):
                if operand is not None and id(operand) not in seen:
                    seen.add(id(operand))
                    yield operand
        for tensor in self.outputs:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor

    def remove_dead(self) -> None:
        """Drop operators whose results nobody uses."""
        needed = {id(tensor) for tensor in self.outputs}
        kept: list[Op] = []
        for op in reversed(self.ops):
            if any(id(tensor) in needed for tensor in op.outputs):
                kept.append(op)
                needed.update(id(tensor) for tensor in op.inputs if tensor is not None)
        self.ops = kept[::-1]
        self.relink()

    def relink(self) -> None:
        """Recompute users and producers from the operators."""
        for tensor in self.tensors():
            tensor.users = []
            tensor.producer = None
        for op in self.ops:
            for operand in op.inputs:
                if operand is not None:
                    operand.users.append(op)
            for result in op.outputs:
                result.producer = op
