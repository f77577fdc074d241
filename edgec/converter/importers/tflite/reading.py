"""The table from LiteRT operator to ONNX, and what the functions in it work with.

A reader is a function of one :class:`Call`: it takes operands with ``call.x(i)``, appends ONNX operators with
``call.e`` and hands results over with ``call.give``.  Operands come as real numbers: quantized tensors are followed by
DequantizeLinear and results preceded by QuantizeLinear, except for operators that only move elements.

Images are channels-last in LiteRT and channels-first in ONNX.  A tensor is kept in the layout in which it was made and
transposed when somebody asks for the other; operators that work in either (``layouts=True``) follow their operands.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.contents import FlatOperator, FlatTensor, Quantization
from edgec.converter.importers.tflite.graph import Emitter, channels_first, channels_last
from edgec.errors import UnsupportedError
from edgec.ir.graph import Tensor, Value
from edgec.ir.types import Array, DataType

if TYPE_CHECKING:
    from edgec.converter.importers.tflite.translator import Translator

Reader = Callable[["Call"], None]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        moves: the operator only moves elements, so quantized ones can stay as they are.
        layouts: it works in either layout of an image.
    """

    read: Reader
    moves: bool
    layouts: bool


TABLE: dict[str, Entry] = {}

LIMITS: dict[int, tuple[float, float | None]] = {
    schema.ActivationFunctionType.RELU: (0.0, None),
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
    schema.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
}
"""Fused activations that limit a result, and to what."""

FAMILIES = (
    "activation",
    "convolution",
    "detection",
    "elementwise",
    "indexing",
    "joining",
    "matrix",
    "movement",
    "pooling",
    "quantization",
    "reduction",
    "resize",
    "scattering",
    "shapes",
    "slicing",
)


def reads(*codes: str, moves: bool = False, layouts: bool = False) -> Callable[[Reader], Reader]:
    """Register a reader for builtin operators."""

    def register(function: Reader) -> Reader:
        for code in codes:
            if code in TABLE:
                raise ValueError(f"{code} is read twice")
            TABLE[code] = Entry(function, moves, layouts)
        return function

    return register


def load_table() -> dict[str, Entry]:
    """The whole table."""
    for family in FAMILIES:
        importlib.import_module(f"edgec.converter.importers.tflite.operators.{family}")
    return TABLE


def is_quantized(tensor: FlatTensor) -> bool:
    """Whether the stored integers stand for real numbers."""
    return tensor.quantization is not None and tensor.kind in ("INT4", "INT8", "UINT8", "INT16")


class Call:
    """One operator while it is being read."""

    def __init__(self, translator: Translator, op: FlatOperator, entry: Entry):
        self.translator = translator
        self.op = op
        self.e: Emitter = translator.emitter
        self.stored = entry.moves and not self._differ()
        self.first = entry.layouts and self._prefers_first()

    def _differ(self) -> bool:
        """Whether some quantized operands and results store the same numbers in different ways."""
        tensors = [t for t in (*self._inputs(), *self._outputs()) if is_quantized(t)]
        head = tensors[0].quantization if tensors else None
        return not all(t.quantization is not None and t.quantization.equals(head) for t in tensors)

    def alike(self) -> bool:
        """Whether operands and results are quantized, and store the same numbers the same way."""
        return is_quantized(self.result()) and not self._differ()

    def _prefers_first(self) -> bool:
        rank = len(self._outputs()[0].shape)
        ranks = {len(t.shape) for t in self._inputs() if t.load is None}
        if rank not in (4, 5) and ranks.isdisjoint((4, 5)):
            return False
        return any(len(t.shape) in (4, 5) and self.translator.is_first(t.index) for t in self._inputs())

    def _inputs(self) -> list[FlatTensor]:
        return [self.translator.tensors[index] for index in self.op.inputs if index >= 0]

    def _outputs(self) -> list[FlatTensor]:
        return [self.translator.tensors[index] for index in self.op.outputs]

    # tensors

    def has(self, position: int) -> bool:
        """Whether an optional operand is there."""
        return position < len(self.op.inputs) and self.op.inputs[position] >= 0

    def tensor(self, position: int) -> FlatTensor:
        """What the file says of an operand.

        Raises:
            ValueError: it is left out.
        """
        if not self.has(position):
            raise ValueError(f"{self.op.title} '{self.op.name}' has no operand {position}")
        return self.translator.tensors[self.op.inputs[position]]

    def result(self, position: int = 0) -> FlatTensor:
        """What the file says of a result."""
        return self.translator.tensors[self.op.outputs[position]]

    @property
    def count(self) -> int:
        """Number of operands."""
        return len(self.op.inputs)

    def x(self, position: int = 0) -> Value:
        """An operand in the layout of the operator."""
        return self._operand(position, self.first and len(self.tensor(position).shape) in (4, 5))

    def plain(self, position: int) -> Value:
        """An operand as LiteRT has it."""
        return self._operand(position, False)

    def image(self, position: int = 0) -> Value:
        """An operand of rank 4 or 5, channels-first."""
        if len(self.tensor(position).shape) not in (4, 5):
            raise ValueError(f"operand {position} of {self.op.title} '{self.op.name}' is no image")
        return self._operand(position, True)

    def _operand(self, position: int, first: bool) -> Value:
        index = self.tensor(position).index
        return self.translator.raw(index, first) if self.stored else self.translator.real(index, first)

    def raw(self, position: int) -> Value:
        """An operand as LiteRT has it, quantized elements as they are stored."""
        return self.translator.raw(self.tensor(position).index, False)

    def aligned(self, position: int, rank: int) -> Value:
        """An operand in the layout of the operator, with axes of extent 1 in front up to a rank."""
        own = len(self.tensor(position).shape)
        if not self.first or own == rank:
            return self.x(position)
        value = self.plain(position)
        if own == 0 or (value.const is not None and value.const.size == 1):
            return value
        if value.const is not None:
            value = self.e.reshape(value, [1] * (rank - own) + list(value.const.shape))
        else:
            value = self.e.unsqueeze(value, list(range(rank - own)))
        return self.e.transpose(value, channels_first(rank))

    def give(self, value: Value, position: int = 0) -> None:
        """Hand over a result in the layout of the operator."""
        first = self.first and len(self.result(position).shape) in (4, 5)
        self._give(value, position, first)

    def give_plain(self, value: Value, position: int = 0) -> None:
        """Hand over a result as LiteRT has it."""
        self._give(value, position, False)

    def give_image(self, value: Value, position: int = 0) -> None:
        """Hand over a result channels-first."""
        self._give(value, position, True)

    def _give(self, value: Value, position: int, first: bool) -> None:
        index = self.op.outputs[position]
        if self.stored:
            self.translator.put_raw(index, value, first)
        else:
            self.translator.put_real(index, value, first)

    def axis(self, axis: int, rank: int | None = None) -> int:
        """Where an axis of the first operand lies in the layout of the operator.

        Raises:
            ValueError: there is no such axis.
        """
        rank = len(self.tensor(0).shape) if rank is None else rank
        if not -rank <= axis < max(rank, 1):
            raise ValueError(f"axis {axis} of rank {rank} at {self.op.title} '{self.op.name}'")
        axis %= max(rank, 1)
        return channels_first(rank).index(axis) if self.first and rank in (4, 5) else axis

    def spread(self, values: Sequence[int]) -> list[int]:
        """One number per axis, in the layout of the operator."""
        rank = len(values)
        return [values[axis] for axis in channels_first(rank)] if self.first and rank in (4, 5) else list(values)

    def plainly(self) -> None:
        """Work as LiteRT does after all (for operators that follow their operands' layout in some forms only)."""
        self.first = False

    # parameters

    def const(self, position: int, what: str) -> Array:
        """The elements of an operand that must be known.

        Raises:
            UnsupportedError: EDG201, it is computed at run time.
        """
        value = self.raw(position)
        if value.const is None:
            self.refuse(f"{what} is computed at run time")
        return value.const.numpy()

    def known(self, position: int) -> Array | None:
        """The elements of an operand where they are known."""
        value = self.raw(position)
        return None if value.const is None else value.const.numpy()

    def longs(self, position: int) -> Value:
        """An operand as int64, as ONNX takes axes and extents."""
        return self.e.cast(self.raw(position), DataType.INT64)

    def options(self, kind: type[Any]) -> Any:
        """The operator's options; see :meth:`FlatOperator.options`."""
        return self.op.options(kind)

    def refuse(self, why: str) -> NoReturn:
        """Refuse the operator.

        Raises:
            UnsupportedError: EDG201.
        """
        raise unsupported(self.op, why)

    # weights, biases, activations

    def weights(self, position: int, permutation: Sequence[int]) -> Value:
        """An operand with its axes in ONNX's order: constants are stored so, quantized ones before DequantizeLinear."""
        tensor = self.tensor(position)
        if len(tensor.shape) != len(permutation):
            raise ValueError(f"weights of rank {len(tensor.shape)} at {self.op.title} '{self.op.name}'")
        quantization = tensor.quantization
        if tensor.load is None or quantization is None or not is_quantized(tensor):
            return self.e.transpose(self.translator.real(tensor.index, False), permutation)
        stored = self.e.transpose(self.translator.raw(tensor.index, False), permutation)
        return self.translator.dequantize(stored, quantization, list(permutation).index(quantization.axis))

    def bias(self, position: int, weights: int, data: int = 0) -> Value | None:
        """A bias as a vector; integers count in units of the product of the data's and the weights' scales."""
        if not self.has(position):
            return None
        tensor = self.tensor(position)
        value = self.translator.raw(tensor.index, False)
        if tensor.kind not in ("INT32", "INT64"):
            return self.e.reshape(self.translator.real(tensor.index, False), [-1])
        scales = [self.tensor(item).quantization for item in (data, weights)]
        if value.const is None or scales[0] is None or scales[1] is None:
            self.refuse("a bias of integers beside data that are not quantized")
        product = (scales[0].scales.astype(np.float64) * scales[1].scales.astype(np.float64)).astype(np.float32)
        own = tensor.quantization
        if own is not None and own.scales.shape == product.shape and np.allclose(own.scales, product, 1e-6, 0):
            product = own.scales  # the same number, rounded as the file has it
        const = value.const
        if tensor.kind == "INT64":  # 16-bit data; ONNX has no DequantizeLinear of int64
            shape = (const.size,)
            return self.e.graph.constant(
                Tensor(DataType.FLOAT, shape, lambda: (const.numpy().reshape(-1) * product).astype(np.float32)),
                tensor.name,
            )
        vector = self.e.reshape(value, [const.size])
        return self.translator.dequantize(vector, Quantization(product, np.zeros(product.size, np.int64)), 0)

    def activated(self, value: Value, code: int, position: int = 0) -> Value:
        """A result after the activation that is fused into the operator."""
        if self.implied(code, position):
            return value
        if code == schema.ActivationFunctionType.TANH:
            return self.e.one("Tanh", value)
        if code not in LIMITS:
            self.refuse(f"the fused activation {code}")
        low, high = LIMITS[code]
        if high is None:
            return self.e.one("Relu", value)
        return self.e.one("Clip", value, self.e.scalar(low, value), self.e.scalar(high, value))

    def implied(self, code: int, position: int = 0) -> bool:
        """Whether a fused activation changes nothing: there is none, or a result cannot stand for what it limits."""
        if code == schema.ActivationFunctionType.NONE:
            return True
        return code in LIMITS and self._within(position, *LIMITS[code])

    def _within(self, position: int, low: float, high: float | None) -> bool:
        """Whether the numbers that a quantized result can stand for lie between these anyway."""
        tensor = self.result(position)
        quantization = tensor.quantization
        if not is_quantized(tensor) or quantization is None or not quantization.per_tensor or tensor.dtype is None:
            return False
        about = np.iinfo(tensor.dtype.numpy)
        scale, zero = float(quantization.scales[0]), int(quantization.zero_points[0])
        if scale == 0:
            return False
        return zero + round(low / scale) <= about.min and (high is None or zero + round(high / scale) >= about.max)


def unsupported(op: FlatOperator, why: str) -> UnsupportedError:
    """The error for an operator that cannot be read."""
    return UnsupportedError(
        "EDG201",
        f"the operator {op.title} at '{op.name}' cannot be imported",
        where=f"operator {op.index}, '{op.name}'",
        why=why,
        details={"operator": op.title, "node": op.name, "index": op.index},
    )


def from_first(rank: int) -> list[int]:
    """The permutation that makes a channels-first image channels-last; none for other ranks."""
    return channels_last(rank) if rank in (4, 5) else list(range(rank))
