"""Small functions that append LiteRT operators and return their results, each with the result's shape worked out.

All shapes and axes here are those of the stored layout.  Nothing here knows about ONNX.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Tensor
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.integer.storage import Quantization
from edgec.targets.tflite.program import Op, Program, T

PAD_RANK = 5
"""The highest rank that PAD takes.  Source: PadKernelMaxDimensionCount in the LiteRT kernels' pad.h."""

DELEGATE_RANK = 6
"""The highest rank that XNNPACK takes; some operators of higher rank fail to load with it (XNN_MAX_TENSOR_DIMS)."""


MOVES = frozenset(
    "RESHAPE TRANSPOSE PAD PADV2 MIRROR_PAD SLICE STRIDED_SLICE GATHER TILE BROADCAST_TO SPLIT SPLIT_V CONCATENATION "
    "DEPTH_TO_SPACE SPACE_TO_DEPTH MAX_POOL_2D RESIZE_NEAREST_NEIGHBOR".split()
)
"""Operators whose integer results mean what their operand's integers mean."""


def hold(tensor: T, quantization: Quantization) -> None:
    """Say of an integer tensor what its elements stand for."""
    tensor.scale = np.array(quantization.scale, np.float32)
    tensor.zero_point = np.array(quantization.zero_point, np.int64)


def options(kind: str, **fields: Any) -> Any:
    """An options table of the schema, e.g. ``options("AddOptions", fusedActivationFunction=0)``."""
    table = getattr(schema, kind + "T")()
    for name, value in fields.items():
        if not hasattr(table, name):
            raise AttributeError(f"{kind} has no field {name}")
        setattr(table, name, value)
    return table


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """NumPy broadcasting where -1 is an extent known only at run time."""
    rank = max(len(shape) for shape in shapes)
    result = []
    for position in range(rank):
        dims = [shape[position - rank + len(shape)] for shape in shapes if position - rank + len(shape) >= 0]
        known = [dim for dim in dims if dim not in (1, -1)]
        result.append(known[0] if known else (-1 if -1 in dims else 1))
    return tuple(result)


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """A shape with the axes before and behind one axis merged."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


class Builder:
    """Appends operators to a program."""

    def __init__(self) -> None:
        self.program = Program()
        self.sources: tuple[str, ...] = ()
        self.hint = ""
        self.quantization: Quantization | None = None
        self._names: dict[str, int] = {}
        self._constants: dict[tuple[Any, ...], T] = {}

    # tensors

    def name(self, hint: str) -> str:
        """A tensor name not used yet."""
        count = self._names.get(hint, 0)
        self._names[hint] = count + 1
        if not count:
            return hint
        return self.name(f"{hint}_{count}")

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for the program's inputs and outputs."""
        for name in names:
            self._names.setdefault(name, 1)

    def constant(self, array: Any, dtype: DataType | None = None, name: str | None = None) -> T:
        """A constant from an array in memory; equal small ones are shared."""
        held = np.asarray(array) if dtype is None else np.asarray(array).astype(dtype.numpy)
        element = DataType.of(held.dtype) if dtype is None else dtype
        key = (element, held.shape, held.tobytes()) if held.nbytes <= 1024 else None
        if key is not None and key in self._constants:
            return self._constants[key]
        made = T(self.name(name or f"{self.hint}_const"), element, held.shape, Tensor.of(held, element))
        if key is not None:
            self._constants[key] = made
        return made

    def lazy(self, dtype: DataType, shape: Sequence[int], load: Callable[[], Array], name: str | None = None) -> T:
        """A constant whose elements are computed when the file is written."""
        return T(self.name(name or f"{self.hint}_const"), dtype, shape, Tensor(dtype, tuple(shape), load))

    def ints(self, values: Iterable[int]) -> T:
        """A one-dimensional int32 constant: shapes, axes, paddings."""
        return self.constant(np.array(list(values), np.int32))

    def emit(
        self,
        code: str,
        inputs: Sequence[T | None],
        results: Sequence[tuple[DataType, Sequence[int]]],
        table: Any = None,
        custom: str = "",
    ) -> list[T]:
        """Append any operator."""
        made = [T(self.name(self.hint or code.lower()), dtype, shape) for dtype, shape in results]
        self.program.add(Op(code, list(inputs), made, table, self.sources, custom))
        self._hold(code, inputs, made)
        return made

    def _hold(self, code: str, inputs: Sequence[T | None], made: Sequence[T]) -> None:
        """Give integer results their scale: the operand's where elements are only moved, else the one asked for."""
        source = next((x for x in inputs if x is not None and x.scale is not None), None)
        for tensor in made:
            if code in MOVES and source is not None and source.dtype is tensor.dtype:
                tensor.scale, tensor.zero_point = source.scale, source.zero_point
            elif self.quantization is not None and tensor.dtype is self.quantization.dtype:
                hold(tensor, self.quantization)

    def one(self, code: str, inputs: Sequence[T | None], dtype: DataType, shape: Sequence[int], table: Any = None) -> T:
        """Append an operator with one result."""
        return self.emit(code, inputs, [(dtype, shape)], table)[0]

    # elementwise

    def unary(self, code: str, x: T, dtype: DataType | None = None, table: Any = None) -> T:
        """An operator that keeps the shape."""
        return self.one(code, [x], dtype or x.dtype, x.shape, table)

    def binary(self, code: str, a: T, b: T, dtype: DataType | None = None) -> T:
        """An operator that broadcasts."""
        table = {
            "ADD": "AddOptions",
            "SUB": "SubOptions",
            "MUL": "MulOptions",
            "DIV": "DivOptions",
        }.get(code)
        made = options(table) if table else None
        return self.one(code, [a, b], dtype or a.dtype, broadcast(a.shape, b.shape), made)

    def scalar(self, value: float, like: T) -> T:
        """A 0-d constant of another tensor's dtype."""
        return self.constant(np.array(value, like.dtype.numpy), like.dtype)

    def add(self, a: T, b: T) -> T:
        return self.binary("ADD", a, b)

    def sub(self, a: T, b: T) -> T:
        return self.binary("SUB", a, b)

    def mul(self, a: T, b: T) -> T:
        return self.binary("MUL", a, b)

    def div(self, a: T, b: T) -> T:
        return self.binary("DIV", a, b)

    def maximum(self, a: T, b: T) -> T:
        return self.binary("MAXIMUM", a, b)

    def minimum(self, a: T, b: T) -> T:
        return self.binary("MINIMUM", a, b)

    def compare(self, code: str, a: T, b: T) -> T:
        """EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL."""
        return self.binary(code, a, b, DataType.BOOL)

    def select(self, condition: T, a: T, b: T) -> T:
        """Elementwise choice with broadcasting."""
        return self.one(
            "SELECT_V2",
            [condition, a, b],
            a.dtype,
            broadcast(condition.shape, a.shape, b.shape),
            options("SelectV2Options"),
        )

    def cast(self, x: T, dtype: DataType) -> T:
        """Convert elements; nothing is emitted where the dtype is already right."""
        if x.dtype is dtype:
            return x
        if x.const is not None:
            const = x.const
            return self.lazy(dtype, x.shape, lambda: const.numpy().astype(dtype.numpy), x.name)
        return self.one("CAST", [x], dtype, x.shape)

    def quantize(self, x: T, quantization: Quantization) -> T:
        """QUANTIZE: float to integers, or integers to others of another scale."""
        outer, self.quantization = self.quantization, quantization
        made = self.one("QUANTIZE", [x], quantization.dtype, x.shape, options("QuantizeOptions"))
        self.quantization = outer
        return made

    def dequantize(self, x: T) -> T:
        """DEQUANTIZE: integers to float32."""
        return self.one("DEQUANTIZE", [x], DataType.FLOAT, x.shape, options("DequantizeOptions"))

    # movement

    def reshape(self, x: T, shape: Sequence[int]) -> T:
        """The same elements under another static shape."""
        wanted = tuple(shape)
        if wanted == x.shape:
            return x
        if x.const is not None:
            const = x.const
            return self.lazy(x.dtype, wanted, lambda: const.numpy().reshape(wanted), x.name)
        table = options("ReshapeOptions", newShape=list(wanted))
        return self.one("RESHAPE", [x, self.ints(wanted)], x.dtype, wanted, table)

    def copy(self, x: T) -> T:
        """The same tensor again (an operator that does nothing, for outputs that alias inputs)."""
        return self.one(
            "RESHAPE", [x, self.ints(x.shape)], x.dtype, x.shape, options("ReshapeOptions", newShape=list(x.shape))
        )

    def transpose(self, x: T, permutation: Sequence[int]) -> T:
        """Axes in another order; a RESHAPE where only axes of extent 1 move."""
        wanted = tuple(permutation)
        shape = tuple(x.shape[axis] for axis in wanted)
        if wanted == tuple(range(x.rank)):
            return x
        if x.const is not None:
            const = x.const
            return self.lazy(x.dtype, shape, lambda: np.ascontiguousarray(const.numpy().transpose(wanted)), x.name)
        moved = [axis for axis in wanted if x.shape[axis] != 1]
        if moved == sorted(moved) and -1 not in x.shape:
            return self.reshape(x, shape)
        return self.one("TRANSPOSE", [x, self.ints(wanted)], x.dtype, shape)

    def concat(self, parts: Sequence[T], axis: int) -> T:
        """Join along an axis."""
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = -1 if any(part.shape[axis] < 0 for part in parts) else sum(part.shape[axis] for part in parts)
        if len(shape) > DELEGATE_RANK and all(-1 not in part.shape for part in parts):
            flat = [self.reshape(part, around(part.shape, axis)) for part in parts]
            return self.reshape(self.concat(flat, 1), shape)
        return self.one("CONCATENATION", parts, parts[0].dtype, shape, options("ConcatenationOptions", axis=axis))

    def pad(self, x: T, pads: Sequence[tuple[int, int]], value: float | None = None) -> T:
        """Constant padding, per axis before and after; ``value`` None means zero.

        Where integers stand for real numbers the value is a real number, too; those beyond the range are limited to it.
        """
        padded = [axis for axis, pair in enumerate(pads) if pair != (0, 0)]
        if not padded:
            return x
        if x.rank > PAD_RANK and -1 not in x.shape:
            return self._pad_in_steps(x, pads, padded, value)
        shape = [dim + before + after if dim >= 0 else -1 for dim, (before, after) in zip(x.shape, pads)]
        paddings = self.constant(np.array(list(pads), np.int32).reshape(x.rank, 2))
        if not value:
            return self.one("PAD", [x, paddings], x.dtype, shape, options("PadOptions"))
        if x.scale is None:
            fill = self.constant(np.array([value], x.dtype.numpy), x.dtype)
        else:
            held = Quantization(x.dtype, tuple(map(float, x.scale)), tuple(map(int, x.zero_point)))
            fill = T(self.name(f"{self.hint}_fill"), x.dtype, (1,), Tensor.of(held.quantize(np.array([value]))))
            fill.scale, fill.zero_point = x.scale, x.zero_point
        return self.one("PADV2", [x, paddings, fill], x.dtype, shape, options("PadV2Options"))

    def _pad_in_steps(self, x: T, pads: Sequence[tuple[int, int]], padded: Sequence[int], value: float | None) -> T:
        """Pad a tensor of high rank a few axes at a time, each merged with the axes behind it that are not padded."""
        for first in range(0, len(padded), PAD_RANK - 1):
            starts = padded[first : first + PAD_RANK - 1]
            edges = [0, *starts, x.rank]
            extents = [math.prod(x.shape[start:end]) for start, end in itertools.pairwise(edges)]
            inner = [math.prod(x.shape[start + 1 : end]) for start, end in zip(starts, edges[2:])]
            pairs = [(pads[axis][0] * size, pads[axis][1] * size) for axis, size in zip(starts, inner)]
            shape = [dim + sum(pads[axis]) if axis in starts else dim for axis, dim in enumerate(x.shape)]
            x = self.reshape(self.pad(self.reshape(x, extents), [(0, 0), *pairs], value), shape)
        return x

    def slice(self, x: T, begin: Sequence[int], size: Sequence[int]) -> T:
        """A contiguous box."""
        if tuple(size) == x.shape and not any(begin):
            return x
        return self.one("SLICE", [x, self.ints(begin), self.ints(size)], x.dtype, size, options("SliceOptions"))

    def strided_slice(
        self, x: T, begin: Sequence[int], end: Sequence[int], step: Sequence[int], shape: Sequence[int]
    ) -> T:
        """A box with steps, positive or negative.  ``end`` of -1 with a negative step means "past the first"."""
        end_mask = 0
        for axis, (stop, stride) in enumerate(zip(end, step)):
            if stride < 0 and stop < 0:
                end_mask |= 1 << axis
        table = options("StridedSliceOptions", endMask=end_mask)
        return self.one("STRIDED_SLICE", [x, self.ints(begin), self.ints(end), self.ints(step)], x.dtype, shape, table)

    def gather(self, x: T, indices: T, axis: int, batch_dims: int = 0) -> T:
        """Pick along an axis; the indices must not be negative."""
        shape = (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :])
        return self.one(
            "GATHER", [x, indices], x.dtype, shape, options("GatherOptions", axis=axis, batchDims=batch_dims)
        )

    def broadcast_to(self, x: T, shape: Sequence[int]) -> T:
        """Repeat along axes of extent 1."""
        wanted = tuple(shape)
        if wanted == x.shape:
            return x
        return self.one("BROADCAST_TO", [x, self.ints(wanted)], x.dtype, wanted, options("BroadcastToOptions"))

    def tile(self, x: T, repeats: Sequence[int]) -> T:
        """Repeat whole axes."""
        if all(count == 1 for count in repeats):
            return x
        shape = [dim * count for dim, count in zip(x.shape, repeats)]
        return self.one("TILE", [x, self.ints(repeats)], x.dtype, shape, options("TileOptions"))

    def split(self, x: T, axis: int, sizes: Sequence[int]) -> list[T]:
        """Cut along an axis."""
        if len(sizes) == 1:
            return [x]
        shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
        if x.dtype is DataType.BOOL:  # which SPLIT does not take
            offsets = [sum(sizes[:number]) for number in range(len(sizes))]
            starts = [[offset if number == axis else 0 for number in range(x.rank)] for offset in offsets]
            return [self.slice(x, start, shape) for start, shape in zip(starts, shapes)]
        results = [(x.dtype, shape) for shape in shapes]
        if len(set(sizes)) == 1:
            position = self.constant(np.array(axis, np.int32))
            return self.emit("SPLIT", [position, x], results, options("SplitOptions", numSplits=len(sizes)))
        position = self.constant(np.array(axis, np.int32))
        return self.emit(
            "SPLIT_V", [x, self.ints(sizes), position], results, options("SplitVOptions", numSplits=len(sizes))
        )

    # reductions

    def reduce(self, code: str, x: T, axes: Sequence[int], keep: bool) -> T:
        """SUM, MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ANY, REDUCE_ALL over non-negative axes."""
        if not axes:
            return x
        shape = [1 if axis in axes else dim for axis, dim in enumerate(x.shape) if keep or axis not in axes]
        if x.rank > DELEGATE_RANK and -1 not in x.shape:
            starts = [axis for axis in range(x.rank) if not axis or (axis in axes) != (axis - 1 in axes)]
            extents = [math.prod(x.shape[start:end]) for start, end in zip(starts, [*starts[1:], x.rank])]
            if len(extents) < x.rank:
                flat = self.reshape(x, extents)
                merged = [number for number, start in enumerate(starts) if start in axes]
                return self.reshape(self.reduce(code, flat, merged, False), shape)
        return self.one(code, [x, self.ints(sorted(axes))], x.dtype, shape, options("ReducerOptions", keepDims=keep))

    # products

    def batch_matmul(self, a: T, b: T, adjoint_a: bool = False, adjoint_b: bool = False) -> T:
        """Matrix product over the last two axes, batch axes broadcast; more than three batch axes are merged."""
        rows = a.shape[-1] if adjoint_a else a.shape[-2]
        columns = b.shape[-2] if adjoint_b else b.shape[-1]
        batch = broadcast(a.shape[:-2] or (1,), b.shape[:-2] or (1,))
        shape = (*batch, rows, columns)
        if a.rank == 2 and b.rank == 2:
            shape = shape[1:]
        table = options("BatchMatMulOptions", adjX=adjoint_a, adjY=adjoint_b)
        if len(batch) > 3 and -1 not in (*a.shape, *b.shape):
            a, b = self._merge_batch(a, batch), self._merge_batch(b, batch)
            count = max(a.shape[0], b.shape[0])
            return self.reshape(self.one("BATCH_MATMUL", [a, b], a.dtype, (count, rows, columns), table), shape)
        return self.one("BATCH_MATMUL", [a, b], a.dtype, shape, table)

    def _merge_batch(self, x: T, batch: Sequence[int]) -> T:
        """Matrices with one batch axis, of extent 1 where they are the same for the whole batch."""
        own = x.shape[:-2]
        if any(dim != 1 for dim in own) and own != tuple(batch):
            wanted = (*batch, *x.shape[-2:])
            x = self.broadcast_to(self.reshape(x, (*(1,) * (len(batch) - len(own)), *x.shape)), wanted)
        return self.reshape(x, (math.prod(x.shape[:-2]), *x.shape[-2:]))

    def fully_connected(self, x: T, weights: T, bias: T | None = None) -> T:
        """x [..., K] times weights [N, K] transposed, plus bias [N]; leading axes are kept."""
        shape = (*x.shape[:-1], weights.shape[0])
        return self.one(
            "FULLY_CONNECTED", [x, weights, bias], x.dtype, shape, options("FullyConnectedOptions", keepNumDims=True)
        )
