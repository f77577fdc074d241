"""What a lowering sees of its node: operands and results in their layouts, axes mapped through them.

A lowering is a function of one :class:`Call` that returns the result tensor (or a list of them) in the layout the
analysis chose.  It finds its operands with ``call.x(i)``, maps ONNX axes with ``call.axis(a)`` and appends operators
with ``call.b``.  What cannot be expressed is refused with :func:`edgec.targets.tflite.refusal.refuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgec.ir.graph import Node, Value
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.integer.storage import Form
from edgec.targets.tflite.layout import Choice, Permutation, identity
from edgec.targets.tflite.layout.permutation import stored
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse

if TYPE_CHECKING:
    from edgec.targets.tflite.lowering import Lowerer


def as_list(results: T | list[T]) -> list[T]:
    """What a lowering returned, as a list."""
    return [results] if isinstance(results, T) else results


def working_type(dtype: DataType) -> DataType:
    """The element type that values are computed in: LiteRT's CPU kernels have no float16, so float32 stands in."""
    return DataType.FLOAT if dtype is DataType.FLOAT16 else dtype


class Call:
    """One node while it is being lowered."""

    def __init__(self, lowerer: Lowerer, node: Node, choice: Choice, form: Form | None = None):
        self.lowerer = lowerer
        self.form = form
        self.node = node
        self.choice = choice
        self.b = lowerer.builder

    # operands

    def has(self, position: int) -> bool:
        """Whether an optional operand is there."""
        return self.node.input(position) is not None

    def x(self, position: int = 0) -> T:
        """An operand in the layout that the analysis chose for it (constants: ONNX's own unless chosen)."""
        value = self.node.operand(position)
        permutation = self.choice.inputs[position] if position < len(self.choice.inputs) else None
        return self._tensor(value, permutation)

    def raw(self, position: int) -> T:
        """An operand in ONNX's own layout."""
        return self._tensor(self.node.operand(position), None)

    def _tensor(self, value: Value, permutation: Permutation | None) -> T:
        """A value as the node computes with it: as integers in integer form, as floats otherwise."""
        if self.form is None or not value.dtype.is_float:
            return self.lowerer.tensor(value, permutation)
        return self.lowerer.integers.operand(value, permutation, self.form)

    def aligned(self, position: int) -> T:
        """An operand of an elementwise operator, brought to the result's rank by axes of extent 1."""
        return self.stretched(position, self._tensor(self.node.operand(position), self.choice.inputs[position]))

    def stretched(self, position: int, x: T) -> T:
        """What stands for an operand in its chosen layout, brought to the result's rank by axes of extent 1."""
        permutation = self.choice.outputs[0]
        own = self.choice.inputs[position] or ()
        rank, missing = len(permutation), len(permutation) - len(own)
        if missing == 0 or x.rank == 0:
            return x
        extents = dict(zip((axis + missing for axis in own), x.shape))
        shape = tuple(extents.get(axis, 1) for axis in permutation)
        while len(shape) > x.rank and shape[0] == 1 and shape[1:] != x.shape and len(shape) > 1:
            if all(d == 1 for d in shape[: len(shape) - x.rank]) and shape[len(shape) - x.rank :] == x.shape:
                return x
            break
        if shape[rank - x.rank :] == x.shape and all(d == 1 for d in shape[: rank - x.rank]):
            return x
        return self.b.reshape(x, shape)

    def is_const(self, position: int) -> bool:
        """Whether an operand is there and constant."""
        value = self.node.input(position)
        return value is not None and value.const is not None

    def const(self, position: int, what: str) -> Array:
        """The elements of an operand that must be constant, in ONNX's own layout.

        Raises:
            Refused: it is computed at run time.
        """
        value = self.node.operand(position)
        if value.const is None:
            refuse(
                f"{what} is computed at run time ('{value.name}'); LiteRT needs it constant",
                f"make '{value.name}' an initializer",
                rule="EDG401",
            )
        return value.const.numpy()

    def optional_const(self, position: int, what: str) -> Array | None:
        """The same for an operand that may be left out."""
        return self.const(position, what) if self.has(position) else None

    # shapes and axes

    def dims(self, position: int = 0) -> tuple[int, ...]:
        """The static ONNX shape of an operand.

        Raises:
            Refused: it is not static.
        """
        value = self.node.operand(position)
        if not value.is_static:
            refuse(f"the shape of '{value.name}' is known only at run time", rule="EDG402")
        return value.dims

    def out_dims(self, position: int = 0) -> tuple[int, ...]:
        """The static ONNX shape of a result.

        Raises:
            Refused: it is not static.
        """
        value = self.node.outputs[position]
        if not value.is_static:
            refuse(f"the shape of the result '{value.name}' is known only at run time", rule="EDG402")
        return value.dims

    def out_shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of a result in its chosen layout."""
        return stored(self.out_dims(position), self.choice.outputs[position])

    def out_dtype(self, position: int = 0) -> DataType:
        """The element type a result is computed in."""
        return working_type(self.node.outputs[position].dtype)

    def dtype(self, position: int = 0) -> DataType:
        """The element type an operand is computed in."""
        return working_type(self.node.operand(position).dtype)

    def axis(self, axis: int, position: int = 0) -> int:
        """The stored axis of an operand's ONNX axis (which may be negative)."""
        value = self.node.operand(position)
        rank = value.rank
        permutation = self.choice.inputs[position] or identity(rank)
        if not -rank <= axis < max(rank, 1):
            refuse(f"axis {axis} is outside of rank {rank}")
        return permutation.index(axis % rank)

    def spread(self, values: Sequence[int], axes: Sequence[int] | None = None, fill: int = 0) -> list[int]:
        """Per-axis numbers of the first operand's ONNX axes, in stored order."""
        rank = self.node.operand(0).rank
        permutation = self.choice.inputs[0] or identity(rank)
        full = [fill] * rank
        for axis, value in zip(range(rank) if axes is None else axes, values):
            full[axis % rank] = int(value)
        return [full[axis] for axis in permutation]
