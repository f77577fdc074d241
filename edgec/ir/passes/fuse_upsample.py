"""Convolve before enlarging instead of after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.types import Array, DataType


@register
@dataclass(frozen=True)
class FuseUpsample(Pass):
    """``Conv(Resize(x))`` becomes ``DepthToSpace(Conv'(x))`` for an enlargement that repeats every pixel s times.

    Output pixel ``s i + a`` reads the enlarged pixels ``s i + a + t - p``, which are the pixels
    ``i + floor((a + t - p) / s)`` of x: for every phase ``a`` the taps ``t`` that fall on one pixel are added up, and
    the phases become channels of one convolution of x.  The products are as many as before, but the enlarged image is
    never written, and a few result channels become s*s times as many, which vector units fill better.  So only
    convolutions with at most ``limit`` channels times s*s are rewritten.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network, 2016; ONNX operator specification, DepthToSpace-13 (mode DCR).
    """

    name: ClassVar[str] = "fuse-upsample"
    limit: int = 16

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, ("Conv", "Relu"), lambda graph, node: _visit(graph, node, self.limit))


def _visit(graph: Graph, node: Node, limit: int) -> bool:
    """A convolution, or a Relu behind one, which goes along so that it can be fused."""
    if node.op == "Conv":
        users = node.output.users
        rectified = node.output.use_count == 1 and bool(users) and users[0].op == "Relu" and not users[0].domain
        return not rectified and _fuse(graph, node, node, limit)
    producer = node.operand(0).producer
    if producer is None or producer.op != "Conv" or producer.domain or node.operand(0).use_count != 1:
        return False
    return producer.graph is graph and _fuse(graph, producer, node, limit)


def _fuse(graph: Graph, node: Node, last: Node, limit: int) -> bool:
    enlarged, held, bias = node.operand(0), node.operand(1).const, node.input(2)
    resize = enlarged.producer
    if resize is None or resize.op != "Resize" or resize.domain or enlarged.use_count != 1 or held is None:
        return False
    if len(held.shape) != 4 or held.dtype is not DataType.FLOAT or (bias is not None and bias.const is None):
        return False
    factor = _repeats(resize)
    if factor < 2 or held.shape[0] * factor * factor > limit or node.attr_int("group", 1) != 1:
        return False
    if node.attr_ints("strides", [1, 1]) != [1, 1] or node.attr_ints("dilations", [1, 1]) != [1, 1]:
        return False
    if node.attr_str("auto_pad", "NOTSET") != "NOTSET":
        return False
    pads = node.attr_ints("pads", [0, 0, 0, 0])
    kernel = held.shape[2:]
    if any(pads[axis] + pads[axis + 2] != kernel[axis] - 1 for axis in (0, 1)):
        return False  # the result must have the extents of the enlarged image
    weights, fresh = _phases(held.numpy(), factor, pads[:2])
    operands = [resize.operand(0), graph.constant(weights, f"{node.name}_phases")]
    if bias is not None and bias.const is not None:
        operands.append(graph.constant(np.tile(bias.numpy(), factor * factor), f"{node.name}_bias"))
    convolved = graph.build(node, "Conv", operands, hint=node.name, kernel_shape=list(weights.shape[2:]), pads=fresh)
    result = convolved.output
    if last is not node:
        result = graph.build(last, "Relu", [result]).output
    replace_node(graph, last, graph.build(last, "DepthToSpace", [result], blocksize=factor).output)
    return True


def _repeats(resize: Node) -> int:
    """How often a Resize repeats every row and column of an image, or 0 if it does something else."""
    source, result = resize.operand(0), resize.output
    if not source.is_static or not result.is_static or source.rank != 4 or source.dtype is not DataType.FLOAT:
        return 0
    if resize.attr_str("mode", "nearest") != "nearest" or source.dims[:2] != result.dims[:2]:
        return 0
    factor = result.dims[2] // source.dims[2]
    if result.dims[2] != factor * source.dims[2] or result.dims[3] != factor * source.dims[3]:
        return 0
    scales = resize.input(2)
    given = None if scales is None or scales.const is None or not scales.const.size else list(scales.numpy()[-2:])
    if given is not None and given != [factor, factor]:
        return 0
    transformation = resize.attr_str("coordinate_transformation_mode", "half_pixel")
    rounding = resize.attr_str("nearest_mode", "round_prefer_floor")
    asymmetric = transformation == "asymmetric" and rounding == "floor"
    centred = transformation in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round") and factor == 2
    return factor if asymmetric or centred else 0


def _phases(weights: Array, factor: int, pads: list[int]) -> tuple[Array, list[int]]:
    """Weights [s*s*O, I, kh, kw] of the convolution before the enlargement, and its pads."""
    outs, ins, *kernel = weights.shape
    spans = [_span(size, pad, factor) for size, pad in zip(kernel, pads)]
    extents = [last - first + 1 for first, last in spans]
    result = np.zeros((factor, factor, outs, ins, *extents), np.float32)
    for row, column, down, across in np.ndindex(factor, factor, *kernel):
        place = (row + down - pads[0]) // factor - spans[0][0], (column + across - pads[1]) // factor - spans[1][0]
        result[row, column, :, :, place[0], place[1]] += weights[:, :, down, across]
    padding = [-spans[0][0], -spans[1][0], spans[0][1], spans[1][1]]
    return result.reshape(factor * factor * outs, ins, *extents), padding


def _span(size: int, pad: int, factor: int) -> tuple[int, int]:
    """First and last offset, in pixels of the small image, that any phase reads."""
    return (-pad) // factor, (factor - 1 + size - 1 - pad) // factor
