"""Write splits into unequal parts as slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, remove_dead, rewrite_each


@register
@dataclass(frozen=True)
class SliceUnequalSplits(Pass):
    """A ``Split`` whose parts are not all of one size becomes one ``Slice`` per part, for accelerators that split into
    equal parts only.

    Source: ONNX operator specification, Split-18, Slice-13.
    """

    name: ClassVar[str] = "slice-unequal-splits"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "Split", _slices)


def _slices(graph: Graph, node: Node) -> bool:
    x = node.operand(0)
    if x.shape is None or any(value.shape is None for value in node.outputs):
        return False
    axis = node.attr_int("axis", 0) % max(len(x.shape), 1)
    sizes = [value.shape[axis] for value in node.outputs if value.shape is not None]
    if len(set(sizes)) == 1 or not all(isinstance(size, int) for size in sizes):
        return False
    ends = np.cumsum([int(size) for size in sizes if isinstance(size, int)])
    for value, start, end in zip(node.outputs, [0, *ends], ends):
        bounds = [_numbers(graph, int(number)) for number in (start, end, axis)]
        graph.replace(value, graph.build(node, "Slice", [x, *bounds]).output)
    remove_dead(graph, node)
    return True


def _numbers(graph: Graph, number: int) -> Value:
    return graph.constant(np.array([number], np.int64), "bound")
