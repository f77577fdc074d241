"""The integer forms of operators: what runs on LiteRT's integer kernels, and under which constraints.

Most rows reuse the float lowering: it appends the same LiteRT operator, only on integer tensors.  Convolutions and
matrix products have lowerings of their own here, because their weights and biases are integers of their own kind.

Source: LiteRT 8-bit quantization specification (restrictions per operator); kernels conv.cc, fully_connected.cc, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edgec.ir.graph import Node, Value
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import hold, options
from edgec.targets.tflite.call import Call, as_list
from edgec.targets.tflite.integer.storage import FREE, LIKE, SAME, Form, Quantization, Storage, Weights
from edgec.targets.tflite.operators import blocks
from edgec.targets.tflite.operators.convolution import VALID, convolve, lift, resolve_pads
from edgec.targets.tflite.operators.pooling import average_pool as pool_by_average
from edgec.targets.tflite.operators.pooling import pool_geometry
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse

CONSTRAINTS: dict[str, str] = {
    **dict.fromkeys(
        "Concat Max Min MaxPool Pad Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather DepthToSpace "
        "SpaceToDepth Tile Expand Identity ReduceMax ReduceMin GlobalMaxPool".split(),
        SAME,
    ),
    **dict.fromkeys("AveragePool Resize".split(), LIKE),
    **dict.fromkeys(
        "Add Sub Mul GlobalAveragePool ReduceMean ReduceSum HardSwish LeakyRelu Elu Gelu Exp Sigmoid Tanh Softmax "
        "LogSoftmax MatMul Conv ConvTranspose Gemm Relu Clip PRelu Abs Sqrt Div".split(),
        FREE,
    ),
}
"""Operators with an integer form."""

FIXED: dict[str, Quantization] = {
    "Sigmoid": Quantization(DataType.INT8, (1 / 256,), (-128,)),
    "Softmax": Quantization(DataType.INT8, (1 / 256,), (-128,)),
    "Tanh": Quantization(DataType.INT8, (1 / 128,), (0,)),
    "LogSoftmax": Quantization(DataType.INT8, (16 / 256,), (127,)),
}
"""Operators whose int8 kernels give one scale and zero point; other parameters are reached by a QUANTIZE behind."""

FIXED16: dict[str, Quantization] = {
    "Sigmoid": Quantization(DataType.INT16, (1 / 32768,), (0,)),
    "Softmax": Quantization(DataType.INT16, (1 / 32768,), (0,)),
    "Tanh": Quantization(DataType.INT16, (1 / 32768,), (0,)),
}

FIXED_UNSIGNED: dict[str, Quantization] = {
    "Sigmoid": Quantization(DataType.UINT8, (1 / 256,), (0,)),
    "Softmax": Quantization(DataType.UINT8, (1 / 256,), (0,)),
    "Tanh": Quantization(DataType.UINT8, (1 / 128,), (128,)),
    "LogSoftmax": Quantization(DataType.UINT8, (16 / 256,), (255,)),
}

PRESCRIBED = {DataType.INT8: FIXED, DataType.INT16: FIXED16, DataType.UINT8: FIXED_UNSIGNED}

SAME_UNIT = 1e-6
"""Scales that differ by no more than this, relatively, are one number rounded in different ways."""

SIGNED_ONLY = frozenset({"Elu", "Exp", "Abs", "Sqrt"})
"""Operators whose integer kernels take int8 but not uint8.  Source: LiteRT kernels activations.cc, elementwise.cc."""

EIGHT_BITS_ONLY = frozenset({"HardSwish", "Elu", "Gelu", "LogSoftmax", "Sqrt", "DepthToSpace", "SpaceToDepth"})
"""Operators whose integer kernels take int8 but not int16.  Source: LiteRT kernels hard_swish.cc, depth_to_space.cc."""

KERNELS = frozenset(
    "ADD SUB MUL MEAN SUM REDUCE_MAX REDUCE_MIN HARD_SWISH LEAKY_RELU ELU GELU EXP LOGISTIC TANH SOFTMAX LOG_SOFTMAX "
    "BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 PRELU "
    "ABS SQRT CONCATENATION MAXIMUM MINIMUM MAX_POOL_2D AVERAGE_POOL_2D PAD PADV2 RESHAPE TRANSPOSE SLICE "
    "STRIDED_SLICE SPLIT SPLIT_V GATHER RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR DEPTH_TO_SPACE SPACE_TO_DEPTH TILE "
    "BROADCAST_TO MIRROR_PAD QUANTIZE".split()
)
"""LiteRT operators that may stand in an integer form; any other means that the float lowering composes."""

DATA_OPERANDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys("Add Sub Mul MatMul Max Min PRelu".split(), (0, 1)),
    "Concat": (),
}
"""Which operands are data rather than parameters; by default the first, for Concat all."""


def form_of(node: Node, storage: Storage) -> Form | None:
    """The integer form of a node, or None where it has to be computed in float."""
    constraint = CONSTRAINTS.get(node.op) if not node.domain else None
    if constraint is None:
        return None
    results = [value for value in node.outputs if value.use_count]
    held = [storage.held.get(value) for value in results]
    if not held or any(item is None or item != held[0] for item in held):
        return None
    wanted = held[0]
    assert wanted is not None
    if wanted.dtype is DataType.INT16 and node.op in EIGHT_BITS_ONLY:
        return None
    if wanted.dtype is DataType.UINT8 and not _has_unsigned_kernel(node, storage):
        return None
    positions = DATA_OPERANDS.get(node.op, (0,)) or tuple(range(len(node.inputs)))
    for position in positions:
        value = node.input(position)
        if value is None:
            continue
        operand = storage.held.get(value)
        constant = storage.weights.get(value)
        if node.op in ("MatMul", "Gemm") and position == 1 and constant is not None:
            continue
        if operand is None and (constant is None or constant.quantization.axis is not None):
            return None
        if (operand or _of(constant)).dtype is not wanted.dtype:
            return None
    if node.op in ("Conv", "ConvTranspose", "Gemm") and not _weights_fit(node, storage):
        return None
    if node.op == "Div" and not _divisor(node, storage):
        return None
    given = PRESCRIBED[wanted.dtype].get(node.op) or wanted
    if constraint == LIKE:
        given = storage.held[node.operand(0)]
    return Form(wanted, given, constraint)


def _has_unsigned_kernel(node: Node, storage: Storage) -> bool:
    if node.op == "MatMul":  # BATCH_MATMUL has none, FULLY_CONNECTED has
        return node.operand(1) in storage.weights
    return node.op not in SIGNED_ONLY


def _divisor(node: Node, storage: Storage) -> float | None:
    """The one number that a node divides by; None where it is computed, several, 0 or not finite."""
    value = node.operand(1)
    weights = storage.weights.get(value)
    if weights is not None and weights.tensor.size == 1 and weights.quantization.axis is None:
        number = weights.quantization.real(int(weights.integers().reshape(())))
    elif value.const is not None and value.const.size == 1:
        number = float(value.numpy().astype(np.float32).reshape(()))
    else:
        return None
    return number if number and np.isfinite(number) and np.isfinite(1 / number) else None


def _of(weights: Weights | None) -> Quantization:
    assert weights is not None
    return weights.quantization


def _weights_fit(node: Node, storage: Storage) -> bool:
    """Whether weights and bias are what LiteRT's kernels take: symmetric int8 or any uint8, and a constant bias."""
    weights, bias = storage.weights.get(node.operand(1)), node.input(2)
    if weights is None:
        return False
    form = weights.quantization
    if storage.unsigned:
        if form.dtype is not DataType.UINT8 or form.axis is not None:
            return False
    elif form.dtype is not DataType.INT8 or any(form.zero_point):
        return False
    if len(weights.tensor.shape) > 4 or len(weights.tensor.shape) < 2:
        return False
    return bias is None or bias.const is not None or bias in storage.biases


Lowering = Callable[[Call], T]
INTEGER: dict[str, Lowering] = {}


def _lowers(op: str) -> Callable[[Lowering], Lowering]:
    def register(function: Lowering) -> Lowering:
        INTEGER[op] = function
        return function

    return register


def _operand(call: Call, position: int) -> Quantization:
    return call.lowerer.integers.storage.held[call.node.operand(position)]


def _filters(
    call: Call, value: Value, axis: int, shape: Sequence[int], arrange: Callable[[Array], Array], stored_axis: int
) -> tuple[T, Array]:
    """The weights as a constant of 8 bits, and one scale per result channel (float64).

    Args:
        axis: the ONNX axis of result channels.
        arrange: puts the integers into LiteRT's order, shape ``shape``, channels along ``stored_axis``.
    """
    weights = call.lowerer.integers.storage.weights[value]
    quantization = weights.quantization
    if quantization.axis not in (None, axis):
        refuse("the weights are quantized along another axis than the result's channels")
    filters = call.b.lazy(
        quantization.dtype, shape, lambda: np.ascontiguousarray(arrange(weights.integers())), call.node.operand(1).name
    )
    filters.scale = np.array(quantization.scale, np.float32)
    filters.zero_point = np.array(quantization.zero_point, np.int64)
    filters.axis = stored_axis if quantization.axis is not None else 0
    return filters, np.broadcast_to(np.array(quantization.scale, np.float64), (weights.tensor.shape[axis],))


def _bias(call: Call, position: int, operand: Quantization, scales: Array) -> T:
    """The bias as int32 at scale input x weight (int64 where activations are int16)."""
    channels = len(scales)
    products = scales * operand.scale[0]
    dtype = DataType.INT64 if operand.dtype is DataType.INT16 else DataType.INT32
    value = call.node.input(position)
    counts: Array = np.zeros(channels)
    if value is not None and value.const is not None:
        counts = value.numpy().astype(np.float64).reshape(-1) / products
    elif value is not None:
        held, steps = call.lowerer.integers.storage.biases[value]
        counts = held.numpy().astype(np.float64).reshape(-1)
        if np.allclose(steps, products, rtol=SAME_UNIT, atol=0):
            products = np.broadcast_to(steps, (channels,))
        else:
            counts = counts * steps / products
    limits = np.iinfo(dtype.numpy)
    whole = np.clip(np.round(np.broadcast_to(counts, (channels,))), limits.min, limits.max)
    bias = call.b.lazy(dtype, (channels,), lambda: whole.astype(dtype.numpy), f"{call.node.outputs[0].name}_bias")
    uniform = bool(np.all(products == products[0]))
    bias.scale = products[:1].astype(np.float32) if uniform else products.astype(np.float32)
    bias.zero_point = np.zeros(len(bias.scale), np.int64)
    return bias


@_lowers("Conv")
def conv(call: Call) -> T:
    """CONV_2D or DEPTHWISE_CONV_2D with weights quantized per channel."""
    node = call.node
    dims = call.dims(1)
    spatial, group = len(dims) - 2, node.attr_int("group", 1)
    kernel = list(dims[2:])
    strides, dilations = node.attr_ints("strides", [1] * spatial), node.attr_ints("dilations", [1] * spatial)
    extents = list(call.dims(0)[2:])
    pads = resolve_pads(node, extents, kernel, strides, dilations)
    x = call.x(0)
    if spatial == 1:
        x = lift(call, x)
        kernel, strides, dilations, pads = [1, *kernel], [1, *strides], [1, *dilations], [(0, 0), *pads]
    channels, outs = call.dims(0)[1], dims[0]
    value = node.operand(1)
    if group > 1 and dims[1] == 1 and group == channels:
        shape: tuple[int, ...] = (1, *kernel, outs)
        filters, scales = _filters(
            call, value, 0, shape, lambda w: w.reshape(outs, *kernel).transpose(1, 2, 0)[np.newaxis], 3
        )
        multiplier = outs // channels
    else:
        shape = (outs, *kernel, dims[1])
        filters, scales = _filters(
            call, value, 0, shape, lambda w: w.reshape(outs, dims[1], *kernel).transpose(0, 2, 3, 1), 0
        )
        multiplier = 0
    bias = _bias(call, 2, _operand(call, 0), scales)
    y = convolve(call, x, filters, bias, pads, kernel, strides, dilations, multiplier)
    return call.b.reshape(y, call.out_shape()) if spatial == 1 else y


@_lowers("Gemm")
def gemm(call: Call) -> T:
    """FULLY_CONNECTED."""
    node = call.node
    if node.attr_int("transA", 0) or node.attr_float("alpha", 1.0) != 1.0 or node.attr_float("beta", 1.0) != 1.0:
        refuse("a Gemm with alpha, beta or a transposed left side")
    by_row = bool(node.attr_int("transB", 0))
    dims = call.dims(1)
    shape = dims if by_row else dims[::-1]
    axis = 0 if by_row else 1
    filters, scales = _filters(call, node.operand(1), axis, shape, (lambda w: w) if by_row else (lambda w: w.T), 0)
    return call.b.fully_connected(call.x(0), filters, _bias(call, 2, _operand(call, 0), scales))


def product(call: Call) -> T:
    """A MatMul with constant weights: FULLY_CONNECTED."""
    dims = call.dims(1)
    filters, scales = _filters(call, call.node.operand(1), 1, dims[::-1], lambda w: w.T, 0)
    return call.b.fully_connected(call.x(0), filters, _bias(call, 2, _operand(call, 0), scales))


@_lowers("ConvTranspose")
def conv_transpose(call: Call) -> T:
    """TRANSPOSE_CONV without groups or dilation, cropped to ONNX's extent by SLICE; 1x1 CONV_2D and DEPTH_TO_SPACE
    where blocks of 8-bit integers tile the result.
    """
    node, b = call.node, call.b
    dims = call.dims(1)
    if blocks.tiles(call) and _operand(call, 0).dtype is not DataType.INT16:  # DEPTH_TO_SPACE has no kernel for int16
        return _tiled(call)
    strides, dilations = node.attr_ints("strides", [1, 1]), node.attr_ints("dilations", [1, 1])
    if len(dims) != 4 or node.attr_int("group", 1) != 1 or any(d != 1 for d in dilations):
        refuse("an integer transposed convolution with groups, dilation or other than two spatial axes")
    if node.attr_str("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.has("output_shape"):
        refuse("an integer transposed convolution with auto_pad or output_shape")
    extents, kernel, wanted = call.dims(0)[2:], dims[2:], call.out_dims()[2:]
    full = [(extent - 1) * stride + size for extent, stride, size in zip(extents, strides, kernel)]
    begin = node.attr_ints("pads", [0] * 4)[:2] if node.attr_str("auto_pad", "NOTSET") == "NOTSET" else [0, 0]
    if any(first + extent > whole for first, extent, whole in zip(begin, wanted, full)):
        refuse("an integer transposed convolution with output_padding beyond the full result")
    shape = (dims[1], *kernel, dims[0])
    filters, scales = _filters(call, node.operand(1), 1, shape, lambda w: w.transpose(1, 2, 3, 0), 0)
    x = call.x(0)
    out = (x.shape[0], *full, dims[1])
    table = options("TransposeConvOptions", padding=VALID, strideH=strides[0], strideW=strides[1])
    operands = [b.ints(out), filters, x, _bias(call, 2, _operand(call, 0), scales)]
    y = b.one("TRANSPOSE_CONV", operands, x.dtype, out, table)
    return b.slice(y, [0, *begin, 0], [x.shape[0], *wanted, dims[1]])


def _tiled(call: Call) -> T:
    filters, scales = _filters(call, call.node.operand(1), 1, blocks.filter_shape(call), blocks.as_filters, 0)
    blocks.repeat_scales(call, filters)
    bias = blocks.repeated(call, _bias(call, 2, _operand(call, 0), scales))
    return blocks.placed(call, blocks.blocks(call, filters, bias))


@_lowers("Div")
def divide(call: Call) -> T:
    """A division by one number: MUL by its reciprocal, which an integer of its own scale holds."""
    assert call.form is not None
    divisor = _divisor(call.node, call.lowerer.integers.storage)
    assert divisor is not None
    b, dtype, (low, high) = call.b, call.form.wanted.dtype, call.form.wanted.range
    zero = 0 if divisor > 0 or dtype is not DataType.UINT8 else high
    integer = high if divisor > 0 else -high if zero == 0 else low
    scale = abs(1 / divisor) / high
    factor = b.lazy(dtype, (), lambda: np.array(integer, dtype.numpy), f"{call.node.outputs[0].name}_factor")
    factor.scale, factor.zero_point = np.array([scale], np.float32), np.array([zero], np.int64)
    return b.mul(call.x(0), factor)


@_lowers("AveragePool")
def average_pool(call: Call) -> T:
    """AVERAGE_POOL_2D where the result's scale is the operand's, else MEAN or a depthwise convolution by ones, which
    round once, to the result's scale.
    """
    assert call.form is not None
    node, b, form = call.node, call.b, call.form
    extents = list(call.dims(0)[2:])
    kernel, strides, dilations, pads = pool_geometry(node, extents, call.out_dims()[2:])
    padded = any(pad != (0, 0) for pad in pads)
    partial = (padded and not node.attr_int("count_include_pad", 0)) or bool(node.attr_int("ceil_mode", 0))
    plain = len(kernel) == 2 and not partial
    if form.given == form.wanted and not (plain and call.lowerer.integers.exact):
        return as_list(pool_by_average(call))[0]
    if not plain:
        refuse("an average that leaves its padding out, to another scale")
    b.quantization = form.wanted
    if kernel == extents and not padded:
        return b.reduce("MEAN", call.x(0), (1, 2), keep=True)
    channels, taps = call.dims(0)[1], kernel[0] * kernel[1]
    dtype = DataType.UINT8 if form.given.dtype is DataType.UINT8 else DataType.INT8
    shape = (1, *kernel, channels)
    ones = b.lazy(dtype, shape, lambda: np.ones(shape, dtype.numpy), f"{node.outputs[0].name}_ones")
    ones.scale, ones.zero_point, ones.axis = np.array([1 / taps], np.float32), np.zeros(1, np.int64), 0
    bias = _bias(call, len(node.inputs), form.given, np.full(channels, 1 / taps))
    return convolve(call, call.x(0), ones, bias, pads, kernel, strides, dilations, 1)


@_lowers("Relu")
def relu(call: Call) -> T:
    """A clamp that the result's own range often does already."""
    return _clamp(call, 0.0, None)


@_lowers("Clip")
def clip(call: Call) -> T:
    """A clamp at constant bounds."""
    low, high = call.optional_const(1, "min"), call.optional_const(2, "max")
    return _clamp(
        call,
        None if low is None else float(low.reshape(-1)[0]),
        None if high is None else float(high.reshape(-1)[0]),
    )


def _clamp(call: Call, low: float | None, high: float | None) -> T:
    x, held = call.x(0), _operand(call, 0)
    least, most = (held.real(integer) for integer in held.range)
    half = held.scale[0] / 2
    open_below, open_above = low is None or least >= low - half, high is None or most <= high + half
    if open_below and open_above:
        return x
    code = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}.get(
        (low if low is not None else -1.5, high if high is not None else -1.5)
    )
    if code is None and low == 0.0 and open_above:
        code = "RELU"
    if held.dtype is DataType.INT16 and code not in ("RELU", "RELU6"):  # these have no kernel for it
        return _limited(call, x, held, None if open_below else low, None if open_above else high)
    if code is None:
        refuse(f"an integer clamp to [{low}, {high}]")
    return call.b.unary(code, x)


def _limited(call: Call, x: T, held: Quantization, low: float | None, high: float | None) -> T:
    """A clamp by MAXIMUM and MINIMUM, whose operands and results have one scale; to the result's scale behind it."""
    b, form = call.b, call.form
    assert form is not None
    b.quantization = held
    for code, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if bound is not None:
            whole = held.quantize(np.array([bound], np.float32))
            limit = b.lazy(held.dtype, whole.shape, partial(np.copy, whole))
            hold(limit, held)
            x = b.binary(code, x, limit)
    if form.wanted != held:
        x = b.quantize(x, form.wanted)
    return x
