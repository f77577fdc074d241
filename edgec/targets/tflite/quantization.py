"""How LiteRT wants graphs quantized.

Source: LiteRT 8-bit quantization specification; the table of integer forms that the lowering keeps.
"""

from __future__ import annotations

from edgec.ir.quantization import Fixed, QuantizationRules
from edgec.ir.types import DataType
from edgec.targets.tflite.integer.operators import CONSTRAINTS, FIXED, FIXED16
from edgec.targets.tflite.integer.storage import LIKE, SAME

PER_CHANNEL = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

NO_INT16 = frozenset("HardSwish Elu Gelu LogSoftmax PRelu Sqrt ReduceSum MatMul DepthToSpace SpaceToDepth".split())
"""Operators with kernels for int8, but none for int16 activations.  Source: LiteRT kernels, ``Prepare`` of each."""

SLOW = frozenset({"HardSwish"})
"""Operators that XNNPACK takes as floats only; LiteRT's own integer kernel is several times slower.  PP-OCR's detector
takes 13.0 ms in int8, 11.1 in float32, and 6.1 in int8 with most of its HardSwish in float (LiteRT 2.3, x86-64)."""

ARRIVED_ONLY = frozenset({"Div"})
"""Operators with an integer form in some graphs only, so that none is quantized that did not arrive so."""


def rules(precision: str) -> QuantizationRules | None:
    """The rules of a precision; None for those that are no matter of QDQ.

    int8 and mixed: asymmetric activations; int16x8: symmetric int16 activations.  Weights are int8 and symmetric in
    all, with one scale per result channel.
    """
    if precision not in ("int8", "int16x8", "mixed"):
        return None
    narrow = precision != "int16x8"
    return QuantizationRules(
        DataType.INT8 if narrow else DataType.INT16,
        symmetric=not narrow,
        quantizable=frozenset(CONSTRAINTS) - ARRIVED_ONLY - (frozenset() if narrow else NO_INT16),
        same=frozenset(op for op, constraint in CONSTRAINTS.items() if constraint in (SAME, LIKE)),
        fixed={op: Fixed(found.scale[0], found.zero_point[0]) for op, found in (FIXED if narrow else FIXED16).items()},
        per_channel=PER_CHANNEL,
        slow=SLOW,
    )
