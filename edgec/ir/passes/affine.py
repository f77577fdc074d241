"""Take a per-channel scale and offset into the weights and bias of a linear operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.ir.graph import Graph, Node, Tensor, Value
from edgec.ir.types import Array

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")

EAGER = 65536
"""Scaled weights up to this many elements are kept in memory; larger ones are computed when they are written."""


def channel_axis(node: Node) -> int | None:
    """The axis of a linear operator's output that its weights' channels lie on; None if the rank is unknown."""
    if node.op in ("Conv", "ConvTranspose"):
        return 1
    return None if node.output.shape is None else len(node.output.shape) - 1


def linear_producer(value: Value, producers: tuple[str, ...] = LINEAR) -> Node | None:
    """The linear operator with constant weights whose result is ``value`` and used nowhere else."""
    node = value.producer
    if node is None or node.op not in producers or node.domain or value.use_count != 1:
        return None
    weights = node.operand(1)
    if weights.const is None or not weights.dtype.is_float or not weights.const.size:
        return None
    bias = node.input(2)
    if bias is not None and bias.const is None:
        return None
    if node.op == "MatMul" and len(weights.const.shape) < 2:
        return None
    return node


def channels_of(node: Node) -> int:
    """How many output channels a linear operator has."""
    shape = node.operand(1).dims
    if node.op == "Conv":
        return shape[0]
    if node.op == "ConvTranspose":
        return shape[1] * node.attr_int("group", 1)
    return shape[-2] if node.attr_int("transB", 0) else shape[-1]


def per_channel(constant: Value, base: Value, axis: int, count: int) -> Array | None:
    """A constant operand as one float64 per channel, or None if it varies along another axis or widens ``base``.

    Args:
        constant: broadcast against ``base`` by the rules of ONNX.
        axis, count: the channel axis of ``base`` and its extent.

    Returns:
        Shape ``[count]``.
    """
    if constant.const is None or base.shape is None or constant.dtype is not base.dtype:
        return None
    shape = constant.const.shape
    if constant.const.size not in (1, count) or len(shape) > len(base.shape):
        return None
    padded = (1,) * (len(base.shape) - len(shape)) + shape
    if any(dim != 1 for position, dim in enumerate(padded) if position != axis):
        return None
    return np.broadcast_to(constant.numpy().astype(np.float64).reshape(-1), (count,))


def absorb(graph: Graph, node: Node, scale: Array | None, offset: Array | None) -> bool:
    """Make a linear operator compute ``scale * y + offset`` instead of ``y``.

    Weights are multiplied per output channel (Conv ``[M, C/g, ...]``, ConvTranspose ``[C, M/g, ...]`` group by group,
    Gemm and MatMul per column); the bias becomes ``scale * bias + offset``.

    Args:
        scale, offset: shape ``[channels]``, float64; None for 1 and 0.

    Returns:
        False, with nothing changed, if a result would not be finite, would lose digits to underflow, or if the
        operator has no bias to take the offset (MatMul).
    """
    if node.op == "MatMul" and offset is not None and np.any(offset):
        return False
    held = node.operand(1).const
    assert held is not None
    limits = np.finfo(held.dtype.numpy) if held.dtype.numpy.kind == "f" else None
    if limits is None:
        return False
    factors = _factors(node, held, scale) if scale is not None else None
    if factors is not None and not _safe(held, factors, limits):
        return False
    bias = _new_bias(node, scale, offset)
    if bias is not None and not np.all(np.abs(bias) <= float(limits.max)):
        return False
    if factors is not None:
        node.set_input(1, graph.constant(_scaled(held, factors), node.operand(1).name))
    if bias is not None:
        old = node.input(2)
        name = old.name if old is not None else f"{node.name}_bias"
        node.set_input(2, graph.constant(Tensor.of(bias.astype(held.dtype.numpy), held.dtype), name))
        if node.op == "Gemm":
            node.attributes["beta"] = 1.0
    return True


def scale_inputs(graph: Graph, node: Node, scale: Array | None, offset: Array | None, *, apply: bool) -> bool:
    """Make a Conv or Gemm compute ``f(scale * x + offset)`` instead of ``f(x)``.

    Args:
        scale, offset: shape ``[input channels]``, float64; None for 1 and 0.
        apply: change the node; without it only say whether it can be done.

    Returns:
        False, with nothing changed, if the operator pads an input that is moved, its bias is not constant, or a
        result would overflow or lose digits to underflow.
    """
    held, bias = node.operand(1).const, node.input(2)
    if held is None or held.dtype.numpy.kind != "f" or not held.size or (bias is not None and bias.const is None):
        return False
    limits = np.finfo(held.dtype.numpy)
    if scale is not None:
        factors = _input_factors(node, held, scale)
        if factors is None or not _safe(held, factors, limits):
            return False
        if apply:
            node.set_input(1, graph.constant(_scaled(held, factors), node.operand(1).name))
        return True
    if offset is None or _pads(node):
        return offset is None
    factors = _input_factors(node, held, offset)
    if factors is None:
        return False
    if not apply:
        return True
    moved = _output_sums(node, held.numpy() * factors)
    if node.op == "Gemm":
        moved = moved * node.attr_float("alpha", 1.0)
    return absorb(graph, node, None, moved)


def _pads(node: Node) -> bool:
    if node.op != "Conv":
        return False
    return any(node.attr_ints("pads", ())) or node.attr_str("auto_pad", "NOTSET") not in ("NOTSET", "VALID")


def _input_factors(node: Node, weights: Tensor, scale: Array) -> Array | None:
    """One number per input channel in a shape that broadcasts against the weights."""
    if node.op == "Gemm":
        columns = weights.shape[1 if node.attr_int("transB", 0) else 0]
        if columns != scale.size:
            return None
        return scale if node.attr_int("transB", 0) else scale.reshape(-1, 1)
    groups = node.attr_int("group", 1)
    if weights.shape[1] * groups != scale.size or weights.shape[0] % groups:
        return None
    per_output = np.repeat(scale.reshape(groups, weights.shape[1]), weights.shape[0] // groups, axis=0)
    return per_output.reshape(*per_output.shape, *(1,) * (len(weights.shape) - 2))


def _output_sums(node: Node, products: Array) -> Array:
    """Sums over everything but the output channels."""
    if node.op == "Gemm":
        return np.asarray(products.sum(axis=1 if node.attr_int("transB", 0) else 0))
    return np.asarray(products.sum(axis=tuple(range(1, products.ndim))))


def _factors(node: Node, weights: Tensor, scale: Array) -> Array:
    """``scale`` in a shape that broadcasts against the weights (against their grouped form for ConvTranspose)."""
    rank = len(weights.shape)
    if node.op == "Conv":
        return scale.reshape(-1, *(1,) * (rank - 1))
    if node.op == "ConvTranspose":
        groups = node.attr_int("group", 1)
        per_input = np.repeat(scale.reshape(groups, weights.shape[1]), weights.shape[0] // groups, axis=0)
        return per_input.reshape(*per_input.shape, *(1,) * (rank - 2))
    return scale.reshape(-1, 1) if node.attr_int("transB", 0) else scale


def _safe(weights: Tensor, factors: Array, limits: Any) -> bool:
    """Whether all products are finite and no slice of the weights sinks towards the subnormal numbers."""
    array = weights.numpy()
    aligned = (1,) * (array.ndim - factors.ndim) + factors.shape
    over = tuple(axis for axis, dim in enumerate(aligned) if dim == 1)
    extent = np.maximum(array.max(axis=over, keepdims=True), -array.min(axis=over, keepdims=True)).astype(np.float64)
    product = np.abs(factors) * extent
    sinking = (product != 0) & (product < 1024 * float(limits.tiny)) & (np.abs(factors) < 1)
    return bool(np.all(product <= float(limits.max))) and not bool(np.any(sinking))


def _scaled(weights: Tensor, factors: Array) -> Tensor:
    kind = weights.dtype.numpy
    narrow = factors.astype(np.float64 if kind == np.float64 else np.float32)

    def load() -> Array:
        product: Array = weights.numpy() * narrow
        return product.astype(kind, copy=False)

    if weights.size <= EAGER:
        return Tensor.of(load(), weights.dtype)
    return Tensor(weights.dtype, weights.shape, load)


def _new_bias(node: Node, scale: Array | None, offset: Array | None) -> Array | None:
    """The bias in float64, or None if it stays as it is."""
    if node.op == "MatMul":
        return None
    old = node.input(2)
    if old is None:
        return None if offset is None else np.array(offset)
    bias = old.numpy().astype(np.float64)
    if node.op == "Gemm":
        bias = bias * node.attr_float("beta", 1.0)
    with np.errstate(all="ignore"):
        return (bias if scale is None else bias * scale) + (0.0 if offset is None else offset)
