"""How ONNX Runtime's CPU execution provider wants graphs quantized.

Source: ONNX Runtime, "Quantize ONNX models" (data type selection, QDQ format); the operators whose QDQ form 1.31
turns into integer kernels, found by optimising a model of each.
"""

from __future__ import annotations

from edgec.ir.quantization import Fixed, QuantizationRules
from edgec.ir.types import DataType

SAME = frozenset(
    "Concat MaxPool Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Resize DepthToSpace Tile Expand "
    "ReduceMax ReduceMin".split()
)
"""Operators that move integers without looking at their scale."""

COMPUTING = frozenset(
    "Conv Gemm MatMul Add Mul AveragePool GlobalAveragePool LeakyRelu Sigmoid Softmax Relu Clip".split()
)
"""Operators with integer kernels, and activations that the kernel in front of them applies."""

FIXED = {"Softmax": Fixed(1 / 256, 0)}
"""QLinearSoftmax of 1.31 gives nonsense at other scales.  Source: ONNX Runtime's own quantizer sets this one."""


def rules(precision: str) -> QuantizationRules | None:
    """The rules of a precision; None for those that are no matter of QDQ.

    Activations are uint8: with int8 ones, ONNX Runtime leaves every node in float whose operand has several users.
    Weights are int8 and symmetric, with one scale per result channel.
    """
    if precision not in ("int8", "mixed"):
        return None
    return QuantizationRules(
        DataType.UINT8,
        symmetric=False,
        quantizable=SAME | COMPUTING,
        same=SAME,
        fixed=FIXED,
        fuses=frozenset({"Conv", "Gemm", "MatMul", "Add", "Mul"}),
        per_channel=frozenset({"Conv", "Gemm", "MatMul"}),
    )
