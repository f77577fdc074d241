"""Small rewrites of a finished program: fuse activations into the operator before them, drop what nobody uses."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.absorb import absorb
from edgec.targets.tflite.program import Op, Program, T
from edgec.targets.tflite.sharing import protect

FUSED = {
    "RELU": schema.ActivationFunctionType.RELU,
    "RELU6": schema.ActivationFunctionType.RELU6,
    "RELU_N1_TO_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}
"""Activations that other operators can apply to their own result."""

FUSES = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
)
"""Operators that can, on float tensors."""


def tidy(program: Program) -> None:
    """All rewrites, in order."""
    program.remove_dead()
    absorb(program)
    _fuse_biases(program)
    _fuse_activations(program)
    _narrow_positions(program)
    protect(program)


def _fuse_biases(program: Program) -> None:
    """A constant vector added to a FULLY_CONNECTED without bias becomes its bias."""
    outputs = {id(tensor) for tensor in program.outputs}
    removed: set[int] = set()
    for op in program.ops:
        if op.code != "ADD":
            continue
        for source, bias in (op.inputs, op.inputs[::-1]):
            assert source is not None and bias is not None
            producer = source.producer
            if (
                producer is None
                or producer.code != "FULLY_CONNECTED"
                or producer.inputs[2] is not None
                or bias.const is None
                or not bias.dtype.is_float
                or bias.shape[-1:] != source.shape[-1:]
                or bias.size != source.shape[-1]
                or len(source.users) != 1
                or id(source) in outputs
                or op.outputs[0].shape != source.shape
            ):
                continue
            const = bias.const
            vector = (source.shape[-1],)
            producer.inputs[2] = T(bias.name, bias.dtype, vector, _reshaped(const, vector))
            _take_over(producer, op)
            removed.add(id(op))
            break
    program.ops = [op for op in program.ops if id(op) not in removed]
    program.relink()


def _reshaped(const: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(const.dtype, shape, lambda: const.numpy().reshape(shape))


def _fuse_activations(program: Program) -> None:
    outputs = {id(tensor) for tensor in program.outputs}
    removed: set[int] = set()
    for op in program.ops:
        if op.code not in FUSED:
            continue
        source = op.inputs[0]
        assert source is not None
        last = producer = source.producer
        alone = _has_one_user(source, outputs)
        if last is not None and last.code == "DEPTH_TO_SPACE":  # what is applied before elements move is the same
            moved = last.inputs[0]
            assert moved is not None
            producer, alone = moved.producer, alone and _has_one_user(moved, outputs)
        if (
            last is None
            or producer is None
            or producer.code not in FUSES
            or not alone
            or producer.options is None
            or producer.options.fusedActivationFunction != schema.ActivationFunctionType.NONE
            or not _same_meaning(source, op.outputs[0])
        ):
            continue
        producer.options.fusedActivationFunction = FUSED[op.code]
        _take_over(last, op)
        removed.add(id(op))
    program.ops = [op for op in program.ops if id(op) not in removed]
    program.relink()


def _has_one_user(tensor: T, outputs: set[int]) -> bool:
    return len(tensor.users) == 1 and id(tensor) not in outputs


def _narrow_positions(program: Program) -> None:
    """ARG_MAX and ARG_MIN give the type that is wanted in place of a CAST behind them."""
    outputs = {id(tensor) for tensor in program.outputs}
    removed: set[int] = set()
    for op in program.ops:
        if op.code != "CAST" or op.outputs[0].dtype is not DataType.INT32:
            continue
        source = op.inputs[0]
        assert source is not None
        producer = source.producer
        if producer is None or producer.code not in ("ARG_MAX", "ARG_MIN"):
            continue
        if len(source.users) != 1 or id(source) in outputs:
            continue
        producer.options.outputType = schema.TensorType.INT32
        _take_over(producer, op)
        removed.add(id(op))
    program.ops = [op for op in program.ops if id(op) not in removed]
    program.relink()


def _same_meaning(source: T, result: T) -> bool:
    """Whether both are floats, or integers of the same scale and zero point."""
    if source.scale is None or result.scale is None:
        return source.scale is result.scale and source.dtype.is_float
    return bool(np.array_equal(source.scale, result.scale) and np.array_equal(source.zero_point, result.zero_point))


def _take_over(producer: Op, op: Op) -> None:
    """Let ``producer`` write the result of the operator after it."""
    result = op.outputs[0]
    producer.outputs[0] = result
    producer.sources = tuple(dict.fromkeys((*producer.sources, *op.sources)))
    result.producer = producer
