"""Constants and values: what flows along the edges of a graph.

A :class:`Value` knows its producer and its uses.  A constant is a value with a :class:`Tensor` and no producer; its
bytes stay memory-mapped until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.ir.types import Array, DataType, Shape, static

if TYPE_CHECKING:
    from edgec.ir.graph import Node


class Tensor:
    """A constant array whose bytes may still lie in a memory-mapped file.

    Args:
        dtype: element type.
        shape: static extents.
        load: returns the array; called at each :meth:`numpy`, so that nothing is kept in memory unasked.
    """

    __slots__ = ("_load", "dtype", "shape")

    def __init__(self, dtype: DataType, shape: tuple[int, ...], load: Callable[[], Array]):
        self.dtype = dtype
        self.shape = shape
        self._load = load

    @classmethod
    def of(cls, array: Array | np.generic | float | int | bool | list[Any], dtype: DataType | None = None) -> Tensor:
        """A tensor over an array in memory; the array must not be changed afterwards."""
        held = np.asarray(array) if dtype is None else np.asarray(array, dtype=dtype.numpy)
        return cls(DataType.of(held.dtype) if dtype is None else dtype, held.shape, lambda: held)

    def numpy(self) -> Array:
        """The elements, shape ``self.shape``, dtype ``self.dtype.numpy``; read-only where it is a view of the file."""
        return self._load()

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for dim in self.shape:
            count *= dim
        return count

    @property
    def nbytes(self) -> int:
        """Bytes when stored in a file (4-bit types are packed)."""
        return (self.size * self.dtype.bits + 7) // 8

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.name}, {list(self.shape)})"


class Value:
    """One tensor of the graph: an input, a constant, or the output of a node.

    Attributes:
        name: unique in its graph; used in messages and when writing ONNX.
        dtype: element type, ``UNDEFINED`` until inferred.
        shape: extents, or None while the rank is unknown.
        type_proto: the ONNX type for values that are no tensors (sequence, optional, map), else None.
        const: the tensor, for constants.
    """

    __slots__ = ("_outputs", "_uses", "const", "dtype", "index", "name", "producer", "shape", "type_proto")

    def __init__(
        self,
        name: str,
        dtype: DataType = DataType.UNDEFINED,
        shape: Shape | None = None,
        *,
        const: Tensor | None = None,
        type_proto: Any = None,
    ):
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.const = const
        self.type_proto = type_proto
        self.producer: Node | None = None
        self.index = 0
        self._uses: dict[Node, int] = {}
        self._outputs = 0

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that take this value, each once, in the order in which they began to."""
        return tuple(self._uses)

    @property
    def use_count(self) -> int:
        """How many operands and graph outputs refer to this value."""
        return sum(self._uses.values()) + self._outputs

    @property
    def is_output(self) -> bool:
        """Whether some graph hands this value out."""
        return self._outputs > 0

    @property
    def rank(self) -> int:
        """Number of axes.

        Raises:
            ValueError: the rank is unknown.
        """
        if self.shape is None:
            raise ValueError(f"the rank of '{self.name}' is unknown")
        return len(self.shape)

    @property
    def dims(self) -> tuple[int, ...]:
        """The static extents.

        Raises:
            ValueError: an extent is unknown.
        """
        try:
            return static(self.shape)
        except ValueError as error:
            raise ValueError(f"the shape of '{self.name}' is not static: {error}") from None

    @property
    def is_static(self) -> bool:
        """Whether every extent is known."""
        return self.shape is not None and all(isinstance(dim, int) for dim in self.shape)

    def numpy(self) -> Array:
        """The elements of a constant.

        Raises:
            ValueError: the value is not constant.
        """
        if self.const is None:
            raise ValueError(f"'{self.name}' is not constant")
        return self.const.numpy()

    def __repr__(self) -> str:
        dims = "?" if self.shape is None else ",".join("?" if d is None else str(d) for d in self.shape)
        return f"%{self.name}:{self.dtype.name.lower()}[{dims}]"
