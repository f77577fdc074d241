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
from edgec.targets.tflite.operators import blocks
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
    if source is None or not blocks.tiles(call):
        (made,) = as_list(call.lowerer.table["ConvTranspose"].lower(call))
        return side.rounded(made, wanted)
    shape, name = blocks.filter_shape(call), call.node.operand(1).name
    filters = b.lazy(DataType.FLOAT, shape, lambda: blocks.as_filters(source.numpy()), name)
    y = blocks.blocks(call, filters, b.constant(np.zeros(shape[0], np.float32)))
    if call.has(2):
        y = b.add(y, blocks.repeated(call, call.raw(2)))
    return blocks.placed(call, b.quantize(side.rounded(y, wanted), wanted))


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
