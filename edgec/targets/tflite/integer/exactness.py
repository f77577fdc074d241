"""Which integer kernels give other integers than the model means: they are computed in float32 instead.

A model that arrives quantized means real arithmetic between DequantizeLinear and QuantizeLinear, rounded once, half to
even, with ties as ONNX Runtime decides them (:mod:`edgec.targets.tflite.integer.rounding`).  With XNNPACK, LiteRT's
8-bit convolutions, products by constant weights, most products and averages do that, and so do its tables of 256
numbers (ELU, GELU, EXP, LOGISTIC, TANH).  Others round more than once, or take scales as fixed-point numbers of few
bits:

- HARD_SWISH (LiteRT's own kernel, XNNPACK has none for integers): products of 16 bits, rounded several times.
- ADD and SUB (XNNPACK qs8-vadd): scales as 20-bit multipliers, ties rounded up; LEAKY_RELU (qs8-vlrelu): as 8 bits.
- BATCH_MATMUL of two computed operands (LiteRT's own): a 31-bit multiplier, rounded twice.
- ABS, RELU and RELU6 to another scale, and SQRT: likewise.
- RESIZE_BILINEAR: weights of 10 or 11 bits, rounded to the operand's scale before the result's.
- LOGISTIC, TANH, SOFTMAX, LOG_SOFTMAX: one result scale only, to be requantized where the model has another.
- QUANTIZE between integers of different scales (XNNPACK qs8-vcvt): scales as 8-bit fractions.
- MUL and MEAN, where scales are in simple proportions: the zero point is added on the other side of rounding.

TRANSPOSE_CONV rounds once, but ONNX Runtime has no integer kernel for ConvTranspose: its sums are those of float32,
which exact ones leave at ties.  Where the order of these sums is known they are taken in it (:func:`sums_in_order`).

Source: LiteRT kernels hard_swish.cc, batch_matmul.cc, ...; XNNPACK; measured by benchmarks/quantized.py.
"""

from __future__ import annotations

import math
from typing import Final

from edgec.ir.graph import Model, Node
from edgec.ir.types import DataType
from edgec.targets.tflite.integer.rounding import Addition, Average, Product
from edgec.targets.tflite.integer.storage import Form, Quantization, Storage

FIXED_POINT: Final = frozenset({"HardSwish", "Add", "Sub", "LeakyRelu", "Sqrt"})
"""Operators whose integer kernels do not round once."""

RESCALING: Final = frozenset({"Abs", "Relu", "Clip"})
"""Operators whose integer kernels are exact where operand and result have one scale."""

ONE_SCALE: Final = frozenset({"Sigmoid", "Tanh", "Softmax", "LogSoftmax"})
"""Operators whose integer kernels are exact at one result scale, and rounded a second time at any other."""

EIGHT_BITS: Final = (DataType.INT8, DataType.UINT8)

CHANNELS_IN_ORDER: Final = 128
"""How many products ONNX Runtime's float32 matrix product adds one by one; longer sums are added in blocks.

Source: ONNX Runtime 1.32, ``MLAS_SGEMM_STRIDEK``."""

ORIGIN: Final = "edgec.arithmetic"
"""Key of a model's metadata: whose integer arithmetic the model means."""

LITERT: Final = "LiteRT"
"""Value of :data:`ORIGIN` for models that come from a ``.tflite``."""


def means_real_numbers(model: Model) -> bool:
    """Whether a quantized model means ONNX's arithmetic rather than that of LiteRT's kernels, where it came from."""
    return model.metadata.get(ORIGIN) != LITERT


def is_exact(node: Node, form: Form, storage: Storage) -> bool:
    """Whether the integer kernel of a node gives what real arithmetic, rounded once, gives."""
    if node.domain or form.wanted.dtype not in EIGHT_BITS:
        return True
    if node.op == "Resize":  # one that copies its operand's elements is exact
        return node.attr_str("mode", "nearest") == "nearest"
    if node.op == "MatMul":
        return node.operand(1) in storage.weights
    if node.op == "ConvTranspose":
        return not sums_in_order(node)
    if node.op == "GlobalAveragePool":
        return average(node, form, storage).agrees()
    if node.op == "Mul":
        kernel = product(node, form, storage)
        return kernel is None or kernel.agrees()
    if node.op in RESCALING:
        operand = storage.held.get(node.operand(0))
        return operand is not None and operand.scale == form.wanted.scale
    return node.op not in FIXED_POINT and (node.op not in ONE_SCALE or form.given == form.wanted)


def sums_in_order(node: Node) -> bool:
    """Whether LiteRT's float TRANSPOSE_CONV adds the products of a ConvTranspose as ONNX Runtime does.

    ONNX Runtime multiplies matrices, channel after channel by fused multiply-adds, adds overlapping results and, last,
    the bias.  XNNPACK adds all products of one result in one chain.  That is the same where no results overlap.

    Source: ONNX Runtime 1.32, ``conv_transpose.cc``; XNNPACK's ``f32-igemm``; compared bit by bit on x86-64 with AVX2
    (tests/targets/tflite/test_rounding.py).
    """
    weights = node.operand(1)
    if not weights.is_static:
        return False
    channels, _, *kernel = weights.dims
    strides, dilations = (node.attr_ints(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    spread = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    apart = all(size <= stride for size, stride in zip(spread, strides))
    return apart and channels // node.attr_int("group", 1) <= CHANNELS_IN_ORDER


def addition(node: Node, form: Form, storage: Storage) -> Addition | None:
    """ONNX Runtime's kernel for an Add; None where an operand has more than one scale."""
    operands = (node.operand(0), node.operand(1))
    first, second = (storage.form(value) for value in operands)
    if first is None or second is None or len(first.scale) != 1 or len(second.scale) != 1:
        return None
    single = [number for number, value in enumerate(operands) if value.is_static and math.prod(value.dims) == 1]
    return Addition(first, second, form.wanted, _shift(node, form), single[-1] if single else None)


def product(node: Node, form: Form, storage: Storage) -> Product | None:
    """The same for a Mul."""
    first, second = (storage.form(node.operand(position)) for position in (0, 1))
    if first is None or second is None or len(first.scale) != 1 or len(second.scale) != 1:
        return None
    return Product(first, second, form.wanted, _shift(node, form))


def average(node: Node, form: Form, storage: Storage) -> Average:
    """The same for a GlobalAveragePool."""
    return Average(storage.held[node.operand(0)], form.wanted, math.prod(node.operand(0).dims[2:]))


def _shift(node: Node, form: Form) -> int:
    """What the model's integers are held less: 128 where its uint8 is held as int8."""
    if form.wanted.dtype is not DataType.INT8:
        return 0
    result = node.output
    while len(result.users) == 1 and result.users[0].op in ("Relu", "Clip"):
        result = result.users[0].output
    users = [user.output.dtype for user in result.users if user.op == "QuantizeLinear" and not user.domain]
    return 128 if users and all(dtype is DataType.UINT8 for dtype in users) else 0


def rescales(given: Quantization, wanted: Quantization) -> bool:
    """Whether the step from one form of 8 bits to another is more than a shift of the zero point."""
    return given.dtype in EIGHT_BITS and wanted.dtype in EIGHT_BITS and given.scale != wanted.scale
