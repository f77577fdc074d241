"""Enlarge in steps of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each

COPYING = frozenset(
    {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("pytorch_half_pixel", "round_prefer_floor")}
)
"""Coordinate and rounding modes in which enlarging n times copies every element n times."""


@register
@dataclass(frozen=True)
class SplitResizes(Pass):
    """A nearest-neighbour ``Resize`` of height and width by 4, 8, 16, ... becomes several by 2, for accelerators that
    enlarge by 2 only.

    Copying every element 2 times, and again, is copying it 4 times: exact.  Only modes that copy are rewritten; linear
    interpolation in steps is not the same and is left alone.

    Source: ONNX operator specification, Resize-19.
    """

    name: ClassVar[str] = "split-resizes"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "Resize", _split)


def _split(graph: Graph, node: Node) -> bool:
    x, result = node.operand(0), node.output
    modes = (
        node.attr_str("coordinate_transformation_mode", "half_pixel"),
        node.attr_str("nearest_mode", "round_prefer_floor"),
    )
    if node.attr_str("mode", "nearest") != "nearest" or modes not in COPYING or node.has("axes"):
        return False
    if x.shape is None or result.shape is None or len(x.shape) != 4 or x.shape[:2] != result.shape[:2]:
        return False
    if not all(isinstance(extent, int) and extent for extent in (*x.shape, *result.shape)):
        return False
    (height, width), (down, across) = x.dims[2:], result.dims[2:]
    steps = (down // height).bit_length() - 1
    if down != height << steps or across != width << steps or steps < 2:
        return False
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32), "scales")
    value = x
    for _ in range(steps):
        value = graph.build(
            node,
            "Resize",
            [value, None, scales],
            mode="nearest",
            coordinate_transformation_mode=modes[0],
            nearest_mode=modes[1],
        ).output
    replace_node(graph, node, value)
    return True
