"""Matrix products.

Source: ONNX Gemm-13, MatMul-13; LiteRT kernels fully_connected.cc, batch_matmul.cc.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import FIXED, LayoutRule, Permutation, identity
from edgec.targets.tflite.layout.rules import MATRIX_PRODUCTS, Along, Choice
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


@lowers("Gemm")
def gemm(call: Call) -> T:
    """alpha * A' B' + beta * C; with constant B one FULLY_CONNECTED."""
    b, node = call.b, call.node
    alpha, beta = node.attr_float("alpha", 1.0), node.attr_float("beta", 1.0)
    a = call.x(0)
    if 0 in a.shape:
        refuse("a product over no elements")
    if node.attr_int("transA", 0):
        a = b.transpose(a, (1, 0))
    transposed = bool(node.attr_int("transB", 0))
    if a.dtype is not DataType.FLOAT:
        return _integer_gemm(call, a, transposed)
    columns = call.out_dims()[1]
    weights = call.raw(1)
    if weights.const is not None:
        const = weights.const
        shape = const.shape if transposed else const.shape[::-1]
        factor = np.float32(alpha)

        def load() -> Array:
            array = const.numpy() if transposed else const.numpy().T
            return np.ascontiguousarray(array if factor == 1 else array.astype(np.float32) * factor, dtype=np.float32)

        filters = b.lazy(DataType.FLOAT, shape, load, weights.name)
        alpha = 1.0
    else:
        filters = weights if transposed else b.transpose(weights, (1, 0))
    bias: T | None = None
    rest: T | None = None
    if call.has(2) and beta != 0.0:
        c = call.raw(2)
        if c.const is not None and alpha == 1.0 and c.size in (1, columns) and c.shape[:-1] in ((), (1,)):
            bias = b.constant(
                np.broadcast_to(c.const.numpy().reshape(-1) * np.float32(beta), (columns,)), DataType.FLOAT
            )
        else:
            rest = b.mul(c, b.scalar(beta, c)) if beta != 1.0 else c
    y = b.fully_connected(a, filters, bias)
    if alpha != 1.0:
        y = b.mul(y, b.scalar(alpha, y))
    return y if rest is None else b.add(y, rest)


def _integer_gemm(call: Call, a: T, transposed: bool) -> T:
    """Integer products as a broadcast multiplication and a sum: LiteRT's matrix kernels are for floats."""
    b, node = call.b, call.node
    right = call.raw(1)
    y = integer_product(call, a, b.transpose(right, (1, 0)) if transposed else right)
    alpha, beta = node.attr_float("alpha", 1.0), node.attr_float("beta", 1.0)
    if alpha != 1.0:
        y = b.mul(y, b.scalar(alpha, y))
    if call.has(2):
        c = call.raw(2)
        y = b.add(y, b.mul(c, b.scalar(beta, c)) if beta != 1.0 else c)
    return y


def integer_product(call: Call, a: T, right: T) -> T:
    """A [..., M, K] times B [..., K, N] by multiplying [..., M, K, 1] with [..., 1, K, N] and adding over K."""
    b = call.b
    dtype = a.dtype
    if dtype in (DataType.INT8, DataType.UINT8):
        a, right = b.cast(a, DataType.INT32), b.cast(right, DataType.INT32)
    left = b.reshape(a, (*a.shape, 1))
    other = b.reshape(right, (*right.shape[:-2], 1, *right.shape[-2:]))
    product = b.mul(left, other)
    return b.cast(b.reduce("SUM", product, [product.rank - 2], keep=False), dtype)


class _WeightsOnTheRight(Along):
    """A product with a constant matrix: the leading axes may be stored in any order, the last stays last."""

    def __init__(self) -> None:
        super().__init__(allowed=lambda node, p: p[-1] == len(p) - 1, operands=(0,))


CONSTANT_RIGHT = _WeightsOnTheRight()


def _matmul_rule(node: Node) -> LayoutRule:
    a, right = node.operand(0), node.operand(1)
    if a.shape is None or right.shape is None:
        return FIXED
    if right.const is not None and len(right.shape) == 2 and len(a.shape) >= 2:
        return CONSTANT_RIGHT
    if len(a.shape) >= 2 and len(right.shape) >= 2 and len(a.shape) == len(right.shape):
        return MATRIX_PRODUCTS
    return FIXED


@lowers("MatMul", layout=_matmul_rule)
def matmul(call: Call) -> T:
    """NumPy's matmul; FULLY_CONNECTED for a constant 2-D right side, else BATCH_MATMUL with free transposes."""
    b, node = call.b, call.node
    a_dims, b_dims = call.dims(0), call.dims(1)
    right = node.operand(1)
    dtype = call.dtype(0)
    if 0 in a_dims:  # sums of nothing
        return b.constant(np.zeros(call.out_shape(), dtype.numpy))
    if dtype is DataType.FLOAT and right.const is not None and len(b_dims) == 2 and len(a_dims) >= 2:
        filters = b.transpose(call.raw(1), (1, 0))
        return b.fully_connected(call.x(0), filters)
    first, second = call.x(0), call.x(1)
    swap_a, swap_b = _swapped(call.choice, 0), _swapped(call.choice, 1)
    if len(a_dims) == 1:
        first = b.reshape(first, (1, a_dims[0]))
    if len(b_dims) == 1:
        second = b.reshape(second, (b_dims[0], 1))
    if dtype is not DataType.FLOAT:
        if swap_a:
            first = b.transpose(first, (*range(first.rank - 2), first.rank - 1, first.rank - 2))
        if swap_b:
            second = b.transpose(second, (*range(second.rank - 2), second.rank - 1, second.rank - 2))
        y = integer_product(call, first, second)
        if _is_swap(call.choice.outputs[0]):
            y = b.transpose(y, (*range(y.rank - 2), y.rank - 1, y.rank - 2))
        return b.reshape(y, call.out_shape())
    if _is_swap(call.choice.outputs[0]):
        y = b.batch_matmul(second, first, adjoint_a=not swap_b, adjoint_b=not swap_a)
    else:
        y = b.batch_matmul(first, second, adjoint_a=swap_a, adjoint_b=swap_b)
    return b.reshape(y, call.out_shape())


def _is_swap(permutation: Permutation) -> bool:
    return len(permutation) >= 2 and permutation != identity(len(permutation))


def _swapped(choice: Choice, position: int) -> bool:
    permutation = choice.inputs[position]
    return permutation is not None and _is_swap(permutation)
