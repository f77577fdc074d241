"""The operators of the Ethos-U NPUs as tables.

Source: the report that ``vela --supported-ops-report`` writes (ethos-u-vela 5.2.0).
"""

from __future__ import annotations

from typing import Final

U55: Final = frozenset(
    (
        "ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D ELU EXP EXPAND_DIMS "
        "FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG "
        "PACK PAD PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE "
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQUARED_DIFFERENCE "
        "SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK"
    ).split()
)
"""Of Ethos-U55 and U65."""

U85: Final = U55 | frozenset(
    (
        "ASSIGN_VARIABLE CAST DIV EQUAL GATHER GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT "
        "LOGICAL_OR NOT_EQUAL READ_VARIABLE REDUCE_ALL REDUCE_ANY SCATTER_ND SELECT SELECT_V2"
    ).split()
)
"""Of the Ethos-U85."""

WIDE: Final = frozenset(
    (
        "ADD ARG_MAX BATCH_MATMUL EXPAND_DIMS FULLY_CONNECTED MIRROR_PAD MUL NEG RESHAPE SQUEEZE SUB SUM TRANSPOSE"
    ).split()
)
"""Operators of U55 and U65 that take 32-bit feature maps."""

UNSCALED_U85: Final = frozenset(
    (
        "ARG_MAX ASSIGN_VARIABLE EXPAND_DIMS GATHER MIRROR_PAD PAD PADV2 QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_ANY "
        "SCATTER_ND SELECT SELECT_V2 TRANSPOSE"
    ).split()
)
"""Operators that need no scales on the U85."""

UNSCALED: Final = frozenset("ARG_MAX EXPAND_DIMS MIRROR_PAD PAD PADV2 QUANTIZE TRANSPOSE".split())
"""Operators that need no scales on any of them."""

TYPES: Final = {
    "BATCH_MATMUL": ("int8", "int16"),
    "ELU": ("int8",),
    "GELU": ("int8", "uint8"),
    "LOG": ("int8", "int16"),
    "MEAN": ("int8", "uint8", "int16"),
    "RSQRT": ("int8", "int16"),
}
"""Element types of the first operand, where they are fewer than usual."""

WEIGHTS: Final = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
"""Position of the weights."""

PARAMETERS: Final = {
    "CONV_2D": (2,),
    "DEPTHWISE_CONV_2D": (2,),
    "FULLY_CONNECTED": (2,),
    "MEAN": (1,),
    "MIRROR_PAD": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (3,),
}
"""Operands that have to be constants, by position."""

JUDGED_BY_VELA: Final = (
    "ASSIGN_VARIABLE",
    "GATHER",
    "READ_VARIABLE",
    "REVERSE_V2",
    "SCATTER_ND",
    "STRIDED_SLICE",
    "TRANSPOSE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
)
"""Operators with conditions that are not evaluated here."""

WAYS_OUT: Final = {
    "DEQUANTIZE": "give the model int8 inputs and outputs",
    "CAST": "give the model int8 inputs and outputs",
    "DIV": "multiply by the reciprocal where the divisor is constant",
    "DEPTH_TO_SPACE": "use a transposed convolution, and convert the ONNX model for this target, which keeps it",
    "SQUARE": "multiply the value with itself",
    "CUSTOM": "leave it at the very end",
}
"""What may help where an operator is missing."""
