"""Float operators that give the integers of ONNX Runtime's kernels for 8 bits, ties and all.

- QLinearAdd: a sum with a constant is a function of 256 numbers; the constant is moved by units in its last place until
  the float operators agree with the kernel on all of them.  Of two computed operands all 65536 pairs are tried when the
  model is converted; where reals round otherwise for some, a number of about 1e-7 tips them, or integers are multiplied
  by ratios of scales as the kernel does.
- QLinearMul: the product of the integers times one float32, where MUL rounds otherwise.
- QLinearGlobalAveragePool: the sum of the integers in float32, where MEAN rounds otherwise.
- QLinearSoftmax takes the reciprocal of the result's scale as a whole number: with a scale of 1/255, which is
  0.003921569 in float32, it counts 254 steps to 1.  That is always less than a step from what ONNX says.
- ConvTranspose has no integer kernel in ONNX Runtime: its float32 sums are taken in the same order, the bias last, and
  divided by the scale.

Sources: see :mod:`edgec.targets.tflite.integer.rounding`; ``qlinear_softmax.cc`` of ONNX Runtime 1.31.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call, as_list
from edgec.targets.tflite.integer.exactness import addition, average, product
from edgec.targets.tflite.integer.rounding import (
    Addition,
    Average,
    IntegerSum,
    Nudged,
    Product,
    best_sum,
    nudged,
)
from edgec.targets.tflite.integer.storage import Form, Quantization, Storage
from edgec.targets.tflite.operators.convolution import convolve
from edgec.targets.tflite.program import T


def in_float(call: Call, form: Form, storage: Storage) -> T | None:
    """The result of a node as ONNX Runtime rounds it, in float32; None where float operators as usual will do.

    Args:
        call: the node, to be computed on floats.
        form: how its operands and results are held.
    """
    node = call.node
    if node.op == "Add":
        total = addition(node, form, storage)
        return None if total is None else _add(call, total, storage)
    if node.op == "Mul":
        scaled = product(node, form, storage)
        return None if scaled is None else _product(call, scaled)
    if node.op == "GlobalAveragePool":
        return _average(call, average(node, form, storage))
    if node.op == "Softmax":
        return _softmax(call, form)
    if node.op == "ConvTranspose":
        return _transposed(call, form.wanted)
    return None


def _softmax(call: Call, form: Form) -> T | None:
    scale = np.float32(form.wanted.scale[0])
    factor = np.floor(np.float32(1) / scale) * scale
    if factor == 1 or not factor:
        return None
    (made,) = as_list(call.lowerer.table["Softmax"].lower(call))
    return call.b.mul(made, call.b.scalar(float(factor), made))


# transposed convolutions


def _transposed(call: Call, wanted: Quantization) -> T:
    """Sums as ONNX Runtime takes them, the bias added last, divided by the scale.

    Square blocks that tile the result are channels of a 1x1 convolution: the faster kernel, and integers are moved by
    DEPTH_TO_SPACE instead of floats.
    """
    b, side, source = call.b, call.lowerer.integers, call.raw(1).const
    if source is None or not _tiles(call):
        (made,) = as_list(call.lowerer.table["ConvTranspose"].lower(call))
        return side.rounded(made, wanted)
    inputs, outputs, block, _ = source.shape
    channels = block * block * outputs

    def load() -> Array:
        return np.ascontiguousarray(source.numpy().transpose(2, 3, 1, 0).reshape(channels, 1, 1, inputs))

    filters = b.lazy(DataType.FLOAT, (channels, 1, 1, inputs), load, call.node.operand(1).name)
    nothing = b.constant(np.zeros(channels, np.float32))
    y = convolve(call, call.x(0), filters, nothing, [(0, 0)] * 2, [1, 1], [1, 1], [1, 1], 0)
    if call.has(2):
        y = b.add(y, _repeated(call, call.raw(2), block * block))
    y = b.quantize(side.rounded(y, wanted), wanted)
    return b.one("DEPTH_TO_SPACE", [y], y.dtype, call.out_shape(), options("DepthToSpaceOptions", blockSize=block))


def _tiles(call: Call) -> bool:
    """Whether a transposed convolution makes one square block of every pixel, side by side."""
    node, dims = call.node, call.dims(1)
    block = dims[2]
    if dims[2:] != (block, block) or node.attr_ints("strides", [1, 1]) != [block, block]:
        return False
    whole = [extent * block for extent in call.dims(0)[2:]] == list(call.out_dims()[2:])
    return whole and node.attr_int("group", 1) == 1 and not any(node.attr_ints("pads", [0]))


def _repeated(call: Call, bias: T, count: int) -> T:
    """A bias for ``count`` blocks of channels."""
    const = bias.const
    if const is None:
        return call.b.tile(bias, [count])
    return call.b.lazy(bias.dtype, (bias.shape[0] * count,), lambda: np.tile(const.numpy(), count), bias.name)


# averages


def _average(call: Call, kernel: Average) -> T:
    b = call.b
    integers = b.cast(_integers(call, 0), DataType.FLOAT)
    axes = [call.axis(axis) for axis in range(2, len(call.dims(0)))]
    total = b.reduce("SUM", integers, axes, keep=True)
    offset = b.scalar(kernel.operand.zero_point[0] * kernel.count, total)
    steps = b.unary("ROUND", b.mul(b.sub(total, offset), b.scalar(kernel.factor, total)))
    return b.mul(steps, b.scalar(kernel.result.scale[0], steps))


# products


def _product(call: Call, kernel: Product) -> T:
    b = call.b
    x, y = (b.cast(_integers(call, position), DataType.FLOAT) for position in (0, 1))
    offsets = [
        b.sub(tensor, b.scalar(held.zero_point[0], tensor)) if held.zero_point[0] else tensor
        for tensor, held in ((x, kernel.first), (y, kernel.second))
    ]
    scaled = b.mul(b.mul(*offsets), b.scalar(kernel.factor, x))
    return _settled(
        call, b.add(scaled, b.scalar(kernel.result.zero_point[0] + kernel.shift, x)), kernel.result, kernel.shift
    )


# sums


def _add(call: Call, kernel: Addition, storage: Storage) -> T | None:
    for position in (0, 1):
        weights = storage.weights.get(call.node.operand(position))
        if weights is not None:
            return _plus_constant(call, position, kernel, weights.integers())
    way = best_sum(kernel)
    if isinstance(way, IntegerSum):
        return _integer_sum(call, way)
    first, second = call.aligned(0), call.aligned(1)
    return call.b.add(call.b.add(first, call.b.scalar(way.tip, first)) if way.tip else first, second)


def _plus_constant(call: Call, position: int, kernel: Addition, constants: Array) -> T:
    """The operand plus a constant, whose integers are ``constants``; it is operand ``position``."""
    moved: dict[int, Nudged] = {int(item): nudged(kernel, position, int(item)) for item in np.unique(constants)}
    wrong = sum(item.wrong for item in moved.values())
    if wrong > sum(item.wrong_otherwise for item in moved.values()):
        return _integer_sum(call, IntegerSum.of(kernel))
    held = kernel.second if position else kernel.first
    constant, x = call.aligned(position), call.aligned(1 - position)
    assert constant.const is not None
    source = constant.const

    def load() -> Array:
        steps = np.rint(source.numpy().astype(np.float64) / held.scale[0]).astype(np.int64) + held.zero_point[0]
        addends: Array = np.vectorize(lambda integer: moved[int(integer)].addend, otypes=[np.float32])(steps)
        return addends

    made = call.b.lazy(DataType.FLOAT, constant.shape, load, f"{call.node.outputs[0].name}_addend")
    return call.b.add(*((made, x) if position == 0 else (x, made)))


def _integer_sum(call: Call, way: IntegerSum) -> T:
    b = call.b
    x, y = (b.cast(_integers(call, position), DataType.FLOAT) for position in (0, 1))
    if way.offset:
        x = b.sub(x, b.scalar(way.offset, x))
    terms = [b.mul(x, b.scalar(way.first, x)), b.mul(y, b.scalar(way.second, y))]
    fixed = b.scalar(way.fixed, x)
    if way.inner < 2:
        terms[way.inner] = b.add(terms[way.inner], fixed)
    total = b.add(*terms)
    return _settled(call, total if way.inner < 2 else b.add(total, fixed), way.result)


def _settled(call: Call, total: T, held: Quantization, shift: int = 0) -> T:
    """Steps with the zero point (and ``shift``) in them, rounded, as real numbers that are whole steps."""
    b = call.b
    steps = b.sub(b.unary("ROUND", total), b.scalar(held.zero_point[0] + shift, total))
    return b.mul(steps, b.scalar(held.scale[0], steps))


def _integers(call: Call, position: int) -> T:
    """An operand as integers; brought to the result's rank where there are two."""
    side, permutation = call.lowerer.integers, call.choice.inputs[position]
    value = call.node.operand(position)
    constant = value in side.storage.weights
    held = side.constant(value, permutation) if constant else call.lowerer.arranged(value, permutation)
    return call.stretched(position, held) if len(call.node.inputs) > 1 else held
