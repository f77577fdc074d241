"""Quantization on plain tensors: the same integers as ONNX Runtime, computed in float32 and int32.

Sums of products of 8-bit integers are taken in float32 as long as no partial sum can reach 2^24, below which every
integer is a float32; longer sums are cut, and the parts added in int32.  So the sums are exact.

Source: ONNX QuantizeLinear-25, DequantizeLinear-25, QLinearConv-10, QLinearMatMul-21, MatMulInteger-10, ConvInteger-10.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import CHANNELS_LAST, FIXED, LayoutRule
from edgec.targets.tflite.layout.rules import Along
from edgec.targets.tflite.operators.convolution import convolve, lift, resolve_pads
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

RANGES = {DataType.INT8: (-128, 127), DataType.UINT8: (0, 255)}
EXACT = 1 << 24
"""Below this every integer is a float32."""


def _rule(node: Node) -> LayoutRule:
    return FIXED if node.attr_int("block_size", 0) else Along(operands=(0,))


def _parameter(call: Call, position: int, x: T, axis: int) -> T:
    """A scale or zero point as float, shaped so that it broadcasts over the stored operand."""
    b = call.b
    value = b.cast(call.raw(position), DataType.FLOAT)
    block = call.node.attr_int("block_size", 0)
    if block:
        place = axis % x.rank
        return b.gather(value, b.constant((np.arange(x.shape[place]) // block).astype(np.int32)), place)
    if value.size == 1:
        return b.reshape(value, ())
    shape = [1] * x.rank
    shape[call.axis(axis)] = value.size
    return b.reshape(value, shape)


def saturated(call: Call, x: T, zero_point: T | None, dtype: DataType) -> T:
    """Round half to even, add the zero point and limit to the range of an 8-bit type."""
    b = call.b
    if dtype not in RANGES:
        refuse(f"quantization to {dtype.name.lower()}", rule="EDG403")
    low, high = RANGES[dtype]
    y = b.unary("ROUND", x)
    if zero_point is not None:
        y = b.add(y, zero_point)
    return b.cast(b.minimum(b.maximum(y, b.scalar(low, y)), b.scalar(high, y)), dtype)


@lowers("QuantizeLinear", layout=_rule)
def quantize_linear(call: Call) -> T:
    """saturate(round(x / scale) + zero point)."""
    b = call.b
    x, axis = b.cast(call.x(0), DataType.FLOAT), call.node.attr_int("axis", 1)
    zero_point = _parameter(call, 2, x, axis) if call.has(2) else None
    return saturated(call, b.div(x, _parameter(call, 1, x, axis)), zero_point, call.out_dtype())


@lowers("DequantizeLinear", layout=_rule)
def dequantize_linear(call: Call) -> T:
    """(x - zero point) * scale."""
    b = call.b
    x, axis = call.x(0), call.node.attr_int("axis", 1)
    if x.dtype is DataType.INT32 and call.has(2) and not (call.is_const(2) and not call.const(2, "zero").any()):
        refuse(
            "an int32 operand with a zero point", "quantize to int32 with zero point 0, as biases are", rule="EDG406"
        )
    scale = _parameter(call, 1, x, axis)
    zero = _parameter(call, 2, x, axis) if call.has(2) and x.dtype is not DataType.INT32 else None
    if x.const is not None and scale.const is not None and (zero is None or zero.const is not None):
        held, factor, origin = x.const, scale.const, zero.const if zero is not None else None

        def load() -> Array:
            real = held.numpy().astype(np.float32)
            if origin is not None:
                real = real - origin.numpy()
            return np.asarray(real * factor.numpy(), np.float32)

        return b.lazy(DataType.FLOAT, x.shape, load, x.name)
    y = b.cast(x, DataType.FLOAT)
    return b.mul(y if zero is None else b.sub(y, zero), scale)


def _centred(call: Call, position: int, zero_position: int, shape: Sequence[int] | None = None) -> T:
    """An operand minus its zero point, as float in ONNX's own layout; the zero point reshaped where ``shape`` says."""
    b, x = call.b, call.raw(position)
    if not call.has(zero_position):
        return b.cast(x, DataType.FLOAT)
    zero = call.raw(zero_position)
    wanted = () if zero.size == 1 else tuple(shape) if shape is not None else zero.shape
    if x.const is not None and zero.const is not None:
        held, origin = x.const, zero.const

        def load() -> Array:
            return held.numpy().astype(np.float32) - origin.numpy().astype(np.float32).reshape(wanted)

        return b.lazy(DataType.FLOAT, x.shape, load, x.name)
    if zero.const is not None and not zero.const.numpy().any():
        return b.cast(x, DataType.FLOAT)
    return b.sub(b.cast(x, DataType.FLOAT), b.reshape(b.cast(zero, DataType.FLOAT), wanted))


def _largest(call: Call, position: int, zero_position: int) -> int:
    """A bound of the absolute value of an operand minus its zero point."""
    low, high = RANGES[call.dtype(position)]
    zero = call.node.input(zero_position)
    if zero is None or (zero.const is not None and not zero.const.numpy().any()):
        return max(-low, high)
    if zero.const is not None:
        points = zero.const.numpy().astype(np.int64)
        return int(max((points - low).max(), (high - points).max()))
    return high - low


def _longest(call: Call, weights: T, axes: tuple[int, ...], first: tuple[int, int], second: tuple[int, int]) -> int:
    """How many products may be added in float32: all for constant weights that are small enough, else the worst case.

    Args:
        axes: of the weights, the axes that are summed over.
        first, second: the positions of an operand and of its zero point.
    """
    largest = _largest(call, *first)
    count = int(np.prod([weights.shape[axis] for axis in axes], dtype=np.int64))
    if weights.const is not None:
        sums = np.abs(weights.const.numpy().astype(np.float64)).sum(axis=axes)
        if float(sums.max(initial=0)) * largest < EXACT:
            return count
    return max((EXACT - 1) // (largest * _largest(call, *second)), 1)


def integer_matmul(call: Call, first: tuple[int, int], second: tuple[int, int]) -> T:
    """The int32 product of two 8-bit operands minus their zero points, each given as (operand, zero point)."""
    b = call.b
    a_dims, b_dims = call.dims(first[0]), call.dims(second[0])
    zero = call.node.input(first[1])
    rows = None
    if zero is not None and zero.is_static and len(zero.dims) == 1 and zero.dims[0] > 1:
        rows = (zero.dims[0], 1)  # one zero point per row
    left, right = _centred(call, first[0], first[1], rows), _centred(call, second[0], second[1])
    if len(a_dims) == 1:
        left = b.reshape(left, (1, *a_dims))
    if len(b_dims) == 1:
        right = b.reshape(right, (*b_dims, 1))
    depth = left.shape[-1]
    longest = _longest(call, right, (right.rank - 2,), first, second)
    total: T | None = None
    for start in range(0, depth, longest):
        count = min(longest, depth - start)
        a_part = b.slice(left, (*(0,) * (left.rank - 1), start), (*left.shape[:-1], count))
        b_part = _cut(call, right, right.rank - 2, start, count)
        if b_part.const is not None and b_part.rank == 2:
            product = b.fully_connected(a_part, b.transpose(b_part, (1, 0)))
        else:
            product = b.batch_matmul(a_part, b_part)
        part = b.cast(product, DataType.INT32)
        total = part if total is None else b.add(total, part)
    assert total is not None
    return b.reshape(total, call.out_dims())


def _cut(call: Call, x: T, axis: int, start: int, count: int) -> T:
    """A piece along an axis, cut beforehand where it is constant."""
    begin, size = [0] * x.rank, list(x.shape)
    begin[axis], size[axis] = start, count
    if x.const is None:
        return call.b.slice(x, begin, size)
    const = x.const
    window = tuple(slice(first, first + extent) for first, extent in zip(begin, size))
    return call.b.lazy(x.dtype, size, lambda: np.ascontiguousarray(const.numpy()[window]), x.name)


@lowers("MatMulInteger")
def matmul_integer(call: Call) -> T:
    """(A - zero point) (B - zero point) in int32."""
    return integer_matmul(call, (0, 2), (1, 3))


def _multiplier(call: Call, scales: tuple[int, int, int], shapes: Sequence[Sequence[int] | None]) -> T:
    """The product of the operands' scales over the result's, each reshaped where it holds more than one."""
    b = call.b
    parts: list[T] = []
    for position, shape in zip(scales, shapes):
        value = b.cast(call.raw(position), DataType.FLOAT)
        parts.append(b.reshape(value, () if value.size == 1 or shape is None else tuple(shape)))
    first, second, result = parts
    if first.const is not None and second.const is not None and result.const is not None:
        return b.constant((first.const.numpy() * second.const.numpy() / result.const.numpy()).astype(np.float32))
    return b.div(b.mul(first, second), result)


@lowers("QLinearMatMul")
def qlinear_matmul(call: Call) -> T:
    """MatMulInteger, scaled and quantized again; scales per row of A or per column of B."""
    b = call.b
    total = integer_matmul(call, (0, 2), (3, 5))
    first = (*call.dims(1), 1) if len(call.dims(1)) == 1 else call.dims(1)
    scaled = b.mul(b.cast(total, DataType.FLOAT), _multiplier(call, (1, 4, 6), (first, call.dims(4), call.dims(6))))
    zero = b.cast(call.raw(7), DataType.FLOAT)
    return saturated(call, scaled, b.reshape(zero, ()) if zero.size == 1 else zero, call.out_dtype())


def integer_convolution(call: Call, image: tuple[int, int], kernel: tuple[int, int]) -> T:
    """The int32 convolution of 8-bit operands minus their zero points, channels-last, over one or two axes."""
    b, node = call.b, call.node
    dims, weight_dims = call.dims(image[0]), call.dims(kernel[0])
    spatial = len(weight_dims) - 2
    if spatial not in (1, 2):
        refuse(f"an integer convolution over {spatial} spatial axes", rule="EDG404")
    x = b.cast(call.x(image[0]), DataType.FLOAT)
    if call.has(image[1]):
        x = b.sub(x, b.reshape(b.cast(call.raw(image[1]), DataType.FLOAT), ()))
    weights = _centred(call, kernel[0], kernel[1], (weight_dims[0], *(1,) * (spatial + 1)))
    size, group = list(weight_dims[2:]), node.attr_int("group", 1)
    strides, dilations = node.attr_ints("strides", [1] * spatial), node.attr_ints("dilations", [1] * spatial)
    pads = resolve_pads(node, list(dims[2:]), size, strides, dilations)
    if spatial == 1:
        x = lift(call, x)
        size, strides, dilations, pads = [1, *size], [1, *strides], [1, *dilations], [(0, 0), *pads]
    outs, per_group = weight_dims[:2]
    weights = b.reshape(weights, (outs, per_group, *size))
    longest = _longest(call, weights, (1, 2, 3), image, kernel)
    bias = b.constant(np.zeros(outs, np.float32))
    taps = size[0] * size[1]
    if group > 1 and per_group == 1 and group == dims[1]:
        if longest < taps:
            refuse(f"a kernel of {taps} taps, whose sums may not be exact in float32", rule="EDG405")
        filters = b.transpose(weights, (1, 2, 3, 0))
        y = convolve(call, x, filters, bias, pads, size, strides, dilations, outs // group)
        return b.cast(y, DataType.INT32)
    step = max(longest // taps, 1)
    if longest < taps or (group > 1 and step < per_group):
        refuse(f"sums over {per_group * taps} products in groups, which may not be exact in float32", rule="EDG405")
    total: T | None = None
    for start in range(0, per_group, step):
        count = min(step, per_group - start)
        part = x if count == per_group else b.slice(x, (0, 0, 0, start), (*x.shape[:3], count))
        filters = b.transpose(_cut(call, weights, 1, start, count), (0, 2, 3, 1))
        y = b.cast(convolve(call, part, filters, bias, pads, size, strides, dilations, 0), DataType.INT32)
        total = y if total is None else b.add(total, y)
    assert total is not None
    return total


@lowers("ConvInteger", layout=CHANNELS_LAST)
def conv_integer(call: Call) -> T:
    """A convolution in int32."""
    return call.b.reshape(integer_convolution(call, (0, 2), (1, 3)), call.out_shape())


@lowers("QLinearConv", layout=CHANNELS_LAST)
def qlinear_conv(call: Call) -> T:
    """ConvInteger plus an int32 bias, scaled (per output channel) and quantized again."""
    b = call.b
    total = integer_convolution(call, (0, 2), (3, 5))
    if call.has(8):
        total = b.add(total, call.raw(8))
    channels = (call.dims(3)[0],)
    scaled = b.mul(b.cast(total, DataType.FLOAT), _multiplier(call, (1, 4, 6), (None, channels, None)))
    zero = b.reshape(b.cast(call.raw(7), DataType.FLOAT), ())
    return b.reshape(saturated(call, scaled, zero, call.out_dtype()), call.out_shape())
