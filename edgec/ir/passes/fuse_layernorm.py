"""Let the matrix products behind a layer normalisation absorb its scale and bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.base import Pass, register, rewrite_each
from edgec.ir.types import Array, DataType


@register
@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """``MatMul(n * s + b, W)`` becomes ``MatMul(n, diag(s) W) + b W`` for n the bare normalisation.

    Applies to a LayerNormalization over the last axis with constant scale s and bias b whose result only feeds matrix
    products with constant two-dimensional weights W (Gemm with transB as well).  Where a product is followed by the
    addition of a constant vector, ``b W`` is added to that vector and the graph does not grow.  For targets that have
    no operator for LayerNormalization and would compute scale and bias in two more steps.

    Source: ONNX operator specification, LayerNormalization-17.
    """

    name: ClassVar[str] = "fuse-layernorm"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "LayerNormalization", _fuse)


def _fuse(graph: Graph, node: Node) -> bool:
    value, scale, bias = node.output, node.operand(1), node.input(2)
    if value.shape is None or node.attr_int("axis", -1) not in (-1, len(value.shape) - 1):
        return False
    if scale.const is None or (bias is not None and bias.const is None) or scale.dtype is not DataType.FLOAT:
        return False
    users = value.users
    if not users or value.is_output or not all(_is_product(user, value) for user in users):
        return False
    factors = scale.numpy().reshape(-1)
    offset = None if bias is None or bias.const is None else bias.numpy().reshape(-1)
    if np.all(factors == 1) and (offset is None or not offset.any()):
        return False
    for user in users:
        _absorb(graph, user, factors, offset)
    ones = graph.constant(np.ones(scale.const.shape, np.float32), f"{node.name}_ones")
    node.set_inputs([node.operand(0), ones])
    return True


def _is_product(user: Node, value: Value) -> bool:
    """Whether a node multiplies the value, from the left, with a constant matrix of its own."""
    if user.domain or user.op not in ("MatMul", "Gemm") or user.operand(0) is not value or user.operand(1) is value:
        return False
    if user.op == "Gemm":
        if user.attr_int("transA", 0) or user.attr_float("alpha", 1.0) != 1.0 or user.attr_float("beta", 1.0) != 1.0:
            return False
        addend = user.input(2)
        if addend is not None and (addend.const is None or addend is value or len(addend.const.shape) > 1):
            return False
    weights = user.operand(1).const
    return weights is not None and len(weights.shape) == 2 and weights.dtype is DataType.FLOAT


def _absorb(graph: Graph, user: Node, factors: Array, offset: Array | None) -> None:
    held = user.operand(1).const
    assert held is not None
    by_column = bool(user.op == "Gemm" and user.attr_int("transB", 0))
    shaped = factors[np.newaxis, :] if by_column else factors[:, np.newaxis]

    def load() -> Array:
        return np.ascontiguousarray(held.numpy() * shaped)

    old = user.operand(1)
    user.set_input(1, graph.constant(Tensor(held.dtype, held.shape, load), f"{old.name}_scaled"))
    if offset is None or not offset.any():
        return
    matrix = held.numpy().astype(np.float64)
    vector = (matrix @ offset if by_column else offset @ matrix).astype(np.float32)
    if user.op == "Gemm":
        addend = user.input(2)
        total = vector if addend is None else vector + addend.numpy()
        user.set_input(2, graph.constant(total.astype(np.float32), f"{user.name}_bias"))
        return
    _add_behind(graph, user, vector)


def _add_behind(graph: Graph, product: Node, vector: Array) -> None:
    """Add a vector to a product's result, through the addition that already stands there if there is one."""
    result = product.output
    if result.use_count == 1 and len(result.users) == 1:
        follower = result.users[0]
        if follower.op == "Add" and not follower.domain:
            position = 1 if follower.operand(0) is result else 0
            addend = follower.operand(position)
            if addend.const is not None and addend.const.shape in ((), (1,), vector.shape):
                total = (addend.numpy() + vector).astype(np.float32)
                follower.set_input(position, graph.constant(total, f"{follower.name}_bias"))
                return
    made = graph.value(f"{result.name}_offset", result.dtype, result.shape)
    graph.replace(result, made)
    constant = graph.constant(vector, f"{product.name}_bias")
    graph.insert_after(product, Node("Add", [result, constant], [made], name=product.name, sources=product.sources))
