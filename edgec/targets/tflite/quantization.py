"""How LiteRT wants graphs quantized.

Source: LiteRT 8-bit quantization specification; the table of integer forms that the lowering keeps.
"""

from __future__ import annotations

from edgec.ir.quantization import Fixed, QuantizationRules
from edgec.ir.types import DataType
from edgec.targets.tflite.integer.operators import CONSTRAINTS, FIXED
from edgec.targets.tflite.integer.storage import SAME

PER_CHANNEL = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def rules(precision: str) -> QuantizationRules | None:
    """int8: asymmetric activations, symmetric weights with one scale per result channel; None for other precisions."""
    if precision != "int8":
        return None
    return QuantizationRules(
        DataType.INT8,
        symmetric=False,
        quantizable=frozenset(CONSTRAINTS),
        same=frozenset(op for op, constraint in CONSTRAINTS.items() if constraint == SAME),
        fixed={op: Fixed(found.scale[0], found.zero_point[0]) for op, found in FIXED.items()},
        per_channel=PER_CHANNEL,
    )
