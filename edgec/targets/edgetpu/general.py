"""Rules for every operator: is it known at all, what does it compute on, are sizes and parameters fixed."""

from __future__ import annotations

from typing import Final

from ai_edge_litert import schema_py_generated as schema

from edgec.targets.edgetpu.judging import computed, new_book
from edgec.targets.judging import OK, Judgement, uncertain, unsupported
from edgec.targets.tflite.graph import FlatOperator

INTEGERS: Final = ("int8", "uint8")

BOOK: Final = new_book()

KNOWN: Final = frozenset(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC "
    "LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 "
    "RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE "
    "SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM".split()
)
"""The operators of the model requirements for compiler 16, and TILE, which one real pair shows on the Edge TPU."""

WAYS_OUT: Final = {
    "HARD_SWISH": "use ReLU6, or x * ReLU6(x + 3) / 6 written out",
    "LEAKY_RELU": "use ReLU or PReLU; max(x, alpha * x) is the same",
    "ELU": "use ReLU",
    "GELU": "use ReLU",
    "DEPTH_TO_SPACE": "use a transposed convolution, and convert the ONNX model for this target, which keeps it",
    "ARG_MAX": "leave the last arg-max to the host",
    "DIV": "multiply by the reciprocal where the divisor is constant",
    "SQUARE": "multiply the value with itself",
    "SPLIT_V": "use SLICE, or SPLIT into equal parts",
    "UNPACK": "use SPLIT and RESHAPE, or SLICE",
    "DEQUANTIZE": "give the model int8 outputs, and int8 inside",
    "CAST": "give the model int8 inputs and outputs",
    "SHAPE": "fix the shape, batch 1: the compiler refuses models whose shapes are computed",
    "CUSTOM": "leave it at the very end, where it strands nothing",
}

FIRST_UNREADABLE: Final = 150
"""Number of the first operator that the schema of compiler 16 lacks: GELU."""


@BOOK.rule("EDG411", "operator that the Edge TPU does not have")
def known_operator(operator: FlatOperator) -> Judgement:
    """The Edge TPU has about forty operators; all others run on the CPU. Custom operators are among the others. Of
    operators that LiteRT got after 2021 the compiler does not even read the model.

    Source: model requirements, "Supported operations"; TILE by the pair deeplab_edgetpu_slim_cityscapes. DEQUANTIZE,
    CAST, ARG_MAX, GATHER_ND, FLOOR_DIV, DIV, SQRT, UNPACK and custom operators stay on the CPU in the real pairs;
    LEAKY_RELU, GATHER, TOPK_V2 and FLOOR_MOD do in logs of compilers 14 to 16. "Op builtin_code out of range: 150" is
    what compiler 16 prints at GELU.
    """
    if operator.code in KNOWN:
        return OK
    reason = f"the Edge TPU has no {operator.title}"
    if operator.code == "DEQUANTIZE":
        reason = "DEQUANTIZE: what follows is computed in float, on the CPU"
    elif getattr(schema.BuiltinOperator, operator.code, 0) >= FIRST_UNREADABLE:
        reason += "; it is younger than the compiler, which refuses the whole model"
    return unsupported(reason, WAYS_OUT.get(operator.code, ""))


@BOOK.rule("EDG410", "element type that is not quantized")
def element_type(operator: FlatOperator) -> Judgement:
    """Everything that the Edge TPU computes is int8 or uint8. Constants may be int32 (biases, shapes, axes), and the
    state of an LSTM int16. A model with float inputs keeps its first QUANTIZE on the CPU.

    Source: model requirements (quantized tensors only); the compiler's log says "Operation is working on an unsupported
    data type", and "otherwise supported, but not mapped" of a QUANTIZE from float (logs of compilers 2.0 and 15).
    """
    for tensor in computed(operator):
        if not tensor.variable and tensor.dtype not in INTEGERS:
            help = "quantize the model to int8: edgec convert MODEL --target edgetpu --calibration DATA"
            if operator.code == "QUANTIZE":
                help = "give the model int8 inputs and outputs"
            return unsupported(f"'{tensor.name}' is {tensor.dtype}, not int8 or uint8", help)
    return OK


@BOOK.rule("EDG413", "size or parameter that is not constant")
def constant_parameters(operator: FlatOperator) -> Judgement:
    """All sizes are fixed when the model is compiled, and so are weights, biases, axes, paddings and shapes. An open
    batch is read as 1, as long as no shape is computed from it.

    Source: model requirements (tensor sizes and model parameters are constant at compile time). Google's notebook
    fix_conversion_issues_ptq_tf2 (github.com/google-coral/tutorials) on an open batch: the compiler fails "for some
    models", and fixing it "is not required for all"; those that fail compute a shape (SHAPE, STRIDED_SLICE, PACK).
    """
    for tensor in computed(operator):
        if -1 in tensor.shape[1:]:
            return unsupported(f"'{tensor.name}' has the shape {list(tensor.shape)}", "fix the shape, batch 1")
    for position in PARAMETERS.get(operator.code, ()):
        operand = operator.inputs[position] if position < len(operator.inputs) else None
        if operand is not None and not operand.constant:
            return unsupported(f"operand {position}, '{operand.name}', is computed at run time", "make it a constant")
    return OK


PARAMETERS: Final = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (0, 1, 3),
    "PRELU": (1,),
    "PAD": (1,),
    "MEAN": (1,),
    "SUM": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "RESHAPE": (1,),
    "SLICE": (1, 2),
    "SPLIT": (0,),
    "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,),
    "TRANSPOSE": (1,),
    "EXPAND_DIMS": (1,),
}
"""Operands that are parameters, by position."""


@BOOK.rule("EDG414", "more than three extents above 1")
def rank(operator: FlatOperator) -> Judgement:
    """Tensors have up to three dimensions; further outer ones must be 1. A batch above 1 therefore stays on the CPU,
    and so does upsampling written as PACK and RESHAPE, as the object detection API of TensorFlow does it.

    Source: model requirements ("If a tensor has more than 3 dimensions, then only the 3 innermost dimensions may have a
    size greater than 1"); the compiler's log says "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
    of a batch of 30 (issue 30), and of the PACK and RESHAPE of feature pyramids (issue 708, and
    github.com/maxbbraun/thermal-face issue 2).
    """
    for tensor in computed(operator):
        if any(extent > 1 for extent in tensor.shape[:-3]):
            return unsupported(f"'{tensor.name}' has the shape {list(tensor.shape)}", "convert with batch 1")
    return OK


@BOOK.rule("EDG425", "version of the operator that the compiler may not know")
def version(operator: FlatOperator) -> Judgement:
    """The last compiler is of July 2021. It does not read models with versions of operators that LiteRT got later
    ("Model could not be parsed"), or leaves them to the CPU ("Operation version not supported"). Version 3 of QUANTIZE
    and version 6 of CONV_2D are known to be too new. Compilers 14 and 15 leave version 3 of the resizes
    (half_pixel_centers) to the CPU as well, compiler 16 maps them.

    Source: issue 879 for QUANTIZE; a published error of compiler 16 for CONV_2D ("Didn't find op for builtin opcode
    'CONV_2D' version '6'"); a published log of compiler 14 that leaves version 9 of FULLY_CONNECTED to the CPU, and one
    of compiler 16 that maps layers without bias (version 6); issues 187, 396 and 420 for the resizes; the pair
    movenet_single_pose_lightning_ptq; kernels/register.cc of TensorFlow in 2022 for the others (everything above it is
    later than the compiler).
    """
    known = NEWEST.get(operator.code, 3)
    if operator.version <= known:
        return OK
    reason = f"version {operator.version} of {operator.code}; the compiler knows none above {known}"
    help = "make the .tflite with an older converter, or with edgec"
    return unsupported(reason, help) if operator.code in TOO_NEW else uncertain(reason, help)


TOO_NEW: Final = ("CONV_2D", "QUANTIZE")
"""Operators for which it is known that the compiler does not read later versions."""

NEWEST: Final = {
    "ADD": 4,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "FULLY_CONNECTED": 6,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MINIMUM": 4,
    "MUL": 5,
    "PAD": 4,
    "QUANTIZE": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SLICE": 5,
    "SPLIT": 4,
    "STRIDED_SLICE": 6,
    "SUB": 5,
    "TRANSPOSE": 5,
}
"""Newest version of each operator that the compiler is taken to know, where it is above 3."""


@BOOK.rule("EDG428", "operator that nobody has shown on the Edge TPU", "L2_NORMALIZATION")
def never_shown(operator: FlatOperator) -> Judgement:
    """The normalization to length 1 is among the supported operators, but no published log or compiled model shows it
    on the Edge TPU; the one compiled model that has it keeps it, and all behind it, on the CPU.

    Source: model requirements list L2Normalization; mobilenet_v1_1.0_224_l2norm_quant_edgetpu, the model for weight
    imprinting, holds L2_NORMALIZATION, CONV_2D, MUL, RESHAPE and SOFTMAX as they are, for the engine that rewrites
    them on the device requires it (coral/learn/imprinting_engine.cc of github.com/google-coral/libcoral). It may have
    been joined from two halves.
    """
    return uncertain("supported, but never seen on the Edge TPU", "leave it to the host where it is the last operator")
