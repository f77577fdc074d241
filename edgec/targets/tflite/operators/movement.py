"""Operators that move elements without computing: shapes, slices, joins, pads.

Source: the ONNX operator specifications; LiteRT kernels reshape.cc, strided_slice.cc, concatenation.cc, pad.cc, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir.graph import Node
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import ELEMENTWISE, FIXED, LayoutRule
from edgec.targets.tflite.layout.rules import ALONG, RESHAPES, TRANSPOSES, Along
from edgec.targets.tflite.operators.runtime import (
    all_constant,
    runtime_expand,
    runtime_pad,
    runtime_reshape,
    runtime_slice,
    runtime_tile,
)
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


@lowers("Transpose", layout=TRANSPOSES)
def transpose(call: Call) -> T:
    """The analysis names the operand's own bytes as the result; nothing is moved here."""
    return call.x(0)


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", layout=RESHAPES)
def reshape(call: Call) -> T:
    """The same bytes under another shape; the result's shape is static even where the operand saying so is not."""
    if not call.node.output.is_static:
        return runtime_reshape(call)
    return call.b.reshape(call.x(0), call.out_shape())


@lowers("Identity", layout=ALONG)
def identity_operator(call: Call) -> T:
    """Nothing."""
    return call.x(0)


@lowers("Dropout", layout=Along(operands=(0,)))
def dropout(call: Call) -> list[T]:
    """Nothing outside of training; the mask then is true everywhere."""
    b, node = call.b, call.node
    ratio = float(call.const(1, "the ratio").reshape(())) if call.is_const(1) else 0.5
    training = call.has(2) and (not call.is_const(2) or bool(call.const(2, "the mode").reshape(())))
    if training and ratio != 0.0:
        refuse("dropout in training mode is random", "export the model in evaluation mode", rule="EDG406")
    results = [call.x(0)]
    if len(node.outputs) > 1:
        results.append(b.constant(np.ones(call.out_shape(1), np.bool_)))
    return results


@lowers("Concat", layout=ALONG)
def concat(call: Call) -> T:
    """CONCATENATION."""
    parts = [call.x(position) for position, value in enumerate(call.node.inputs) if value is not None]
    full = [part for part, value in zip(parts, call.node.inputs) if value is not None and 0 not in part.shape]
    joined = call.b.concat(full or parts[:1], call.axis(call.node.attr_int("axis")))
    return joined


@lowers("Split", layout=Along(operands=(0,)))
def split(call: Call) -> list[T]:
    """SPLIT, or SPLIT_V for parts of different size; the sizes follow from the results' static shapes."""
    axis = call.node.attr_int("axis", 0)
    rank = len(call.dims(0))
    sizes = [call.out_dims(position)[axis % rank] for position in range(len(call.node.outputs))]
    return call.b.split(call.x(0), call.axis(axis), sizes)


def _by_constants(node: Node) -> LayoutRule:
    """Any layout where all parameters are constant; ONNX's own where some are computed at run time."""
    return Along(operands=(0,)) if all_constant(*node.inputs[1:]) and node.operand(0).is_static else FIXED


@lowers("Slice", layout=_by_constants)
def slice_operator(call: Call) -> T:
    """SLICE for unit steps, STRIDED_SLICE for others."""
    b = call.b
    if not all_constant(*call.node.inputs[1:]) or not call.node.operand(0).is_static:
        return runtime_slice(call)
    dims = call.dims(0)
    starts, ends = call.const(1, "starts"), call.const(2, "ends")
    axes = call.optional_const(3, "axes")
    steps = call.optional_const(4, "steps")
    axis_list = [int(a) % len(dims) for a in (axes if axes is not None else range(len(starts)))]
    step_list = [int(s) for s in steps] if steps is not None else [1] * len(starts)
    begin, end, step, size = [0] * len(dims), list(dims), [1] * len(dims), list(dims)
    for start, stop, axis, stride in zip(starts, ends, axis_list, step_list):
        first, last, _ = slice(
            int(start), int(stop) if not (stride < 0 and int(stop) < -dims[axis]) else None, stride
        ).indices(dims[axis])
        begin[axis], end[axis], step[axis] = first, last, stride
        size[axis] = len(range(first, last, stride))
    shape = call.out_shape()
    if 0 in size:
        return b.constant(np.zeros(shape, call.out_dtype().numpy))
    if all(stride == 1 for stride in step):
        return b.slice(call.x(0), call.spread(begin), call.spread(size))
    return b.strided_slice(call.x(0), call.spread(begin), call.spread(end), call.spread(step), shape)


@lowers("Pad", layout=_by_constants)
def pad(call: Call) -> T:
    """PAD or PADV2 for constants, MIRROR_PAD for reflection, slices and joins for edges and wrapping."""
    b = call.b
    if not all_constant(*call.node.inputs[1:]) or not call.node.operand(0).is_static:
        return runtime_pad(call)
    dims = call.dims(0)
    pads = [int(p) for p in call.const(1, "pads")]
    axes_operand = call.optional_const(3, "axes")
    axes = [int(a) % len(dims) for a in axes_operand] if axes_operand is not None else list(range(len(dims)))
    before, after = [0] * len(dims), [0] * len(dims)
    for number, axis in enumerate(axes):
        before[axis], after[axis] = pads[number], pads[number + len(axes)]
    x = call.x(0)
    crop_before, crop_after = [max(-p, 0) for p in before], [max(-p, 0) for p in after]
    if any(crop_before) or any(crop_after):
        size = [d - p - q for d, p, q in zip(dims, crop_before, crop_after)]
        x = b.slice(x, call.spread(crop_before), call.spread(size))
    pairs = list(zip(call.spread([max(p, 0) for p in before]), call.spread([max(p, 0) for p in after])))
    mode = call.node.attr_str("mode", "constant")
    if mode == "constant":
        value = call.const(2, "the padding value").reshape(()).item() if call.has(2) else 0
        if x.dtype is DataType.BOOL:
            return b.cast(b.pad(b.cast(x, DataType.INT32), pairs, int(value)), DataType.BOOL)
        return b.pad(x, pairs, value)
    return _pad_by_mode(call, x, pairs, mode)


def _pad_by_mode(call: Call, x: T, pairs: Sequence[tuple[int, int]], mode: str) -> T:
    b = call.b
    if mode == "reflect" and all(p < d and q < d for (p, q), d in zip(pairs, x.shape)) and x.rank <= 5:
        if all(p == 0 and q == 0 for p, q in pairs):
            return x
        shape = [d + p + q for d, (p, q) in zip(x.shape, pairs)]
        paddings = b.constant(np.array(list(pairs), np.int32).reshape(x.rank, 2))
        return b.one("MIRROR_PAD", [x, paddings], x.dtype, shape, options("MirrorPadOptions", mode=0))
    if mode not in ("edge", "wrap", "reflect"):
        refuse(f"the padding mode '{mode}'", rule="EDG406")
    numpy_mode = {"edge": "edge", "wrap": "wrap", "reflect": "reflect"}[mode]
    for axis, (p, q) in enumerate(pairs):
        if p == 0 and q == 0:
            continue
        order = np.pad(np.arange(x.shape[axis]), (p, q), mode=numpy_mode).astype(np.int32)  # type: ignore[call-overload]
        x = b.gather(x, b.constant(order), axis)
    return x


@lowers("Tile", layout=_by_constants)
def tile(call: Call) -> T:
    """TILE."""
    if not call.is_const(1) or not call.node.operand(0).is_static:
        return runtime_tile(call)
    return call.b.tile(call.x(0), call.spread([int(r) for r in call.const(1, "repeats")], fill=1))


def _expand_rule(node: Node) -> LayoutRule:
    return ELEMENTWISE if node.output.is_static else FIXED


@lowers("Expand", layout=_expand_rule)
def expand(call: Call) -> T:
    """BROADCAST_TO; the result's shape is static."""
    if not call.node.output.is_static:
        return runtime_expand(call)
    x, shape = call.aligned(0), call.out_shape()
    if x.rank < len(shape):
        x = call.b.reshape(x, (*(1,) * (len(shape) - x.rank), *x.shape))
    return call.b.broadcast_to(x, shape) if x.shape != shape else call.b.copy(x)


def _channels_last(node: Node) -> tuple[int, ...]:
    return (0, 2, 3, 1)


@lowers("DepthToSpace", "SpaceToDepth", layout=Along(allowed=lambda node, p: p == (0, 2, 3, 1), default=_channels_last))
def depth_space(call: Call) -> T:
    """DEPTH_TO_SPACE keeps ONNX's DCR order of channels; CRD is reached by reordering the channels first."""
    b, node = call.b, call.node
    x = call.x(0)
    block = node.attr_int("blocksize")
    if node.op == "SpaceToDepth":
        return b.one("SPACE_TO_DEPTH", [x], x.dtype, call.out_shape(), options("SpaceToDepthOptions", blockSize=block))
    if node.attr_str("mode", "DCR") == "CRD":
        depth = x.shape[3] // (block * block)
        order = np.arange(x.shape[3]).reshape(depth, block * block).T.reshape(-1).astype(np.int32)
        if depth > 1:
            x = b.gather(x, b.constant(order), 3)
    return b.one("DEPTH_TO_SPACE", [x], x.dtype, call.out_shape(), options("DepthToSpaceOptions", blockSize=block))
