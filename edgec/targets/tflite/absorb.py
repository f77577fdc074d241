"""Let constant weights absorb the reordering of channels around them, so that nothing is moved at run time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.graph import Tensor
from edgec.ir.types import Array
from edgec.targets.tflite.program import Op, Program, T

FILTERS_FIRST = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Operators whose weights' first axis makes the last axis of the result."""


def absorb(program: Program) -> None:
    """All rewrites of this kind."""
    _flattened(program)
    _gathered(program)


def _flattened(program: Program) -> None:
    """FULLY_CONNECTED(RESHAPE(TRANSPOSE(x))) takes RESHAPE(x) where its weights' columns follow the transposition.

    An image in NHWC that ONNX flattens in NCHW order would otherwise be transposed at run time.
    """
    for op in program.ops:
        if op.code != "FULLY_CONNECTED":
            continue
        flat, weights = op.inputs[0], op.inputs[1]
        assert flat is not None and weights is not None
        reshape = flat.producer
        if weights.const is None or reshape is None or reshape.code != "RESHAPE" or len(flat.users) != 1:
            continue
        moved = reshape.inputs[0]
        assert moved is not None
        transpose = moved.producer
        if transpose is None or transpose.code != "TRANSPOSE" or len(moved.users) != 1:
            continue
        source, order = transpose.inputs[0], transpose.inputs[1]
        assert source is not None and order is not None and order.const is not None
        permutation = [int(axis) for axis in order.const.numpy()]
        columns = weights.shape[1]
        if permutation[0] != 0 or int(np.prod(moved.shape[1:])) != columns or flat.shape[0] != moved.shape[0]:
            continue
        back = [permutation.index(axis) for axis in range(len(permutation))]
        op.inputs[1] = _replaced(weights, _reordered(weights.const, moved.shape[1:], back))
        reshape.inputs[0] = source
        program.relink()
    program.remove_dead()


def _reordered(const: Tensor, extents: Sequence[int], back: Sequence[int]) -> Tensor:
    """Weights [N, K] whose columns, seen as ``extents``, are put in the order before the transposition."""

    def load() -> Array:
        rows = const.shape[0]
        return np.ascontiguousarray(const.numpy().reshape(rows, *extents).transpose(back)).reshape(const.shape)

    return Tensor(const.dtype, const.shape, load)


def _gathered(program: Program) -> None:
    """GATHER of constant channels of a convolution's result picks the filters instead."""
    outputs = {id(tensor) for tensor in program.outputs}
    removed: set[int] = set()
    for op in program.ops:
        if op.code != "GATHER" or op.options.batchDims:
            continue
        source, indices = op.inputs
        assert source is not None and indices is not None
        producer = source.producer
        if (
            producer is None
            or producer.code not in FILTERS_FIRST
            or op.options.axis != source.rank - 1
            or indices.const is None
            or indices.rank != 1
            or len(source.users) != 1
            or id(source) in outputs
            or not _takes(producer, indices.const)
        ):
            continue
        producer.outputs[0] = op.outputs[0]
        op.outputs[0].producer = producer
        producer.sources = tuple(dict.fromkeys((*producer.sources, *op.sources)))
        removed.add(id(op))
    program.ops = [op for op in program.ops if id(op) not in removed]
    program.relink()


def _takes(producer: Op, indices: Tensor) -> bool:
    """Pick the filters and biases of an operator; False where it cannot be done."""
    weights, bias = producer.inputs[1], producer.inputs[2]
    if weights is None or weights.const is None or (bias is not None and bias.const is None):
        return False
    if indices.size > weights.shape[0] or (producer.code == "CONV_2D" and weights.shape[3] != _channels(producer)):
        return False  # more work than before, or a grouped convolution, whose filters belong to their group
    if any(tensor is not None and tensor.scale is not None and len(tensor.scale) > 1 for tensor in (weights, bias)):
        return False  # scales per filter would have to be picked as well
    producer.inputs[1] = _replaced(weights, _picked(weights.const, indices))
    if bias is not None and bias.const is not None:
        producer.inputs[2] = _replaced(bias, _picked(bias.const, indices))
    return True


def _channels(convolution: Op) -> int:
    image = convolution.inputs[0]
    assert image is not None
    return image.shape[3]


def _picked(const: Tensor, indices: Tensor) -> Tensor:
    shape = (indices.size, *const.shape[1:])
    return Tensor(const.dtype, shape, lambda: np.ascontiguousarray(np.take(const.numpy(), indices.numpy(), 0)))


def _replaced(old: T, const: Tensor) -> T:
    made = T(old.name, old.dtype, const.shape, const)
    made.scale, made.zero_point, made.axis = old.scale, old.zero_point, old.axis
    return made
