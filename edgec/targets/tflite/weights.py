"""Constants stored in fewer bits than the arithmetic that reads them: float16 weights, int8 weights of float kernels.

Both rewrite a finished float program; its inputs, outputs and activations stay float32.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.graph import Tensor
from edgec.ir.half import unfit_array
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.program import Op, Program, T

SMALLEST = 1024
"""Constants of fewer elements stay as they are: nothing is saved, and some are shapes and bounds."""

HYBRID = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Operators with kernels for float activations and int8 weights, and the axis of result channels of the weights."""


def store_float16(program: Program) -> list[str]:
    """Keep large float32 constants as float16 behind a DEQUANTIZE, which the runtime folds away.

    Returns:
        A note for every constant that stays float32 because float16 would overflow, or lose what matters of it.

    Source: LiteRT post-training float16 quantization; kernels/dequantize.cc.
    """
    notes: list[str] = []
    halves: dict[int, T] = {}
    ops: list[Op] = []
    for op in program.ops:
        for position, tensor in enumerate(op.inputs):
            if tensor is None or tensor.const is None or tensor.dtype is not DataType.FLOAT or tensor.size < SMALLEST:
                continue
            if id(tensor) not in halves:
                reason = unfit_array(tensor.const.numpy())
                if reason:
                    notes.append(f"the constant '{tensor.name}' stays float32: {reason}")
                    halves[id(tensor)] = tensor
                    continue
                half = T(f"{tensor.name}_float16", DataType.FLOAT16, tensor.shape, _halved(tensor.const))
                real = T(tensor.name, DataType.FLOAT, tensor.shape)
                ops.append(Op("DEQUANTIZE", [half], [real], None, op.sources))
                halves[id(tensor)] = real
            op.inputs[position] = halves[id(tensor)]
        ops.append(op)
    program.ops = ops
    program.relink()
    return list(dict.fromkeys(notes))


def _halved(const: Tensor) -> Tensor:
    return Tensor(DataType.FLOAT16, const.shape, lambda: const.numpy().astype(np.float16))


def store_int8(program: Program) -> list[str]:
    """Give float convolutions and matrix products int8 weights, symmetric, one scale per result channel.

    The kernels quantize their float input as they run, so no calibration is needed.

    Returns:
        Notes for the user.

    Source: LiteRT dynamic range quantization; kernels/conv.cc, depthwise_conv.cc, fully_connected.cc (hybrid).
    """
    held: dict[int, T] = {}
    small: set[int] = set()
    for op in program.ops:
        axis = HYBRID.get(op.code)
        if axis is None:
            continue
        data, weights = op.inputs[0], op.inputs[1]
        assert data is not None and weights is not None
        if data.dtype is not DataType.FLOAT or weights.const is None or weights.dtype is not DataType.FLOAT:
            continue
        if weights.size < SMALLEST:
            small.add(id(weights))
            continue
        if id(weights) not in held:
            held[id(weights)] = _channelwise(weights, weights.const, axis)
        op.inputs[1] = held[id(weights)]
    program.relink()
    left = f"weights of fewer than {SMALLEST} numbers stay float32 ({len(small)} constants)"
    if held:
        found = [f"{len(held)} constants are int8; activations stay float32 and are quantized as the kernels run"]
        return [*found, *([left] if small else [])]
    if small:
        return [f"{left}: the artifact is the float32 one"]
    return ["no operator has weights that a hybrid kernel takes: the artifact is the float32 one"]


def _channelwise(weights: T, const: Tensor, axis: int) -> T:
    others = tuple(a for a in range(weights.rank) if a != axis)
    largest = np.abs(const.numpy()).max(axis=others)
    scale = np.where(largest > 0, largest.astype(np.float64) / 127, 1.0).astype(np.float32)
    spread = scale.reshape([-1 if a == axis else 1 for a in range(weights.rank)])

    def load() -> Array:
        return np.clip(np.round(const.numpy() / spread), -127, 127).astype(np.int8)

    made = T(weights.name, DataType.INT8, weights.shape, Tensor(DataType.INT8, const.shape, load))
    made.scale, made.zero_point, made.axis = scale, np.zeros(scale.shape, np.int64), axis
    return made
