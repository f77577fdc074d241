"""Find LayerNormalization that exporters wrote as means, differences and a square root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each
from edgec.ir.passes.constants import integers_of, uniform_of
from edgec.ir.passes.patterns import Match, Number, OneOf, Op, Pattern, Scalar, Var, find, keeps_type


@register
@dataclass(frozen=True)
class RecogniseLayernorm(Pass):
    """``d / sqrt(mean(d ^ 2) + epsilon)`` with ``d = x - mean(x)`` becomes LayerNormalization.

    The means are over the same trailing axes.  The division may be written as a product with Reciprocal or a power of
    -0.5 and the square as Pow or Mul.  A following multiplication by a constant over the normalised axes becomes the
    scale, and an addition after that the bias.

    Source: Ba, Kiros and Hinton 2016; ONNX operator specification, LayerNormalization.
    """

    name: ClassVar[str] = "recognise-layernorm"

    def apply(self, model: Model) -> bool:
        changed = rewrite_each(model, ("Div", "Mul"), _normalise)
        changed = rewrite_each(model, "Mul", _take_scale) or changed
        return rewrite_each(model, "Add", _take_bias) or changed


class _Mean(Pattern):
    """ReduceMean with extents kept; its node is remembered under the name by way of its output."""

    def __init__(self, inner: Pattern, name: str):
        self.inner, self.name = inner, name

    def match(self, value: Value, found: Match) -> bool:
        node = value.producer
        if node is None or node.op != "ReduceMean" or node.domain or not node.attr_int("keepdims", 1):
            return False
        found.values[self.name] = value
        if not self.inner.match(node.operand(0), found):
            return False
        found.nodes.setdefault(node)
        return True


_x, _d = Var("x"), Var("d")
_SQUARE = OneOf(Op("Pow", _d, Number(2.0)), Op("Mul", _d, _d))
_VARIANCE = Op("Add", _Mean(_SQUARE, "variance"), Scalar("epsilon"))
_ROOT = Op("Sqrt", _VARIANCE)
_NORMALISED = OneOf(
    Op("Div", _d, _ROOT),
    Op("Mul", _d, OneOf(Op("Reciprocal", _ROOT), Op("Div", Number(1.0), _ROOT), Op("Pow", _VARIANCE, Number(-0.5)))),
)
_DIFFERENCE = Op("Sub", _x, _Mean(_x, "mean"))


def _normalise(graph: Graph, node: Node) -> bool:
    found = find(node, _NORMALISED)
    if found is None or not _DIFFERENCE.match(found.values["d"], found):
        return False
    x = found.values["x"]
    axis = _trailing(found.values["mean"])
    if axis is None or axis != _trailing(found.values["variance"]) or not keeps_type(node.output, x):
        return False
    extents = x.shape[axis:] if x.shape is not None else ()
    if not all(isinstance(extent, int) for extent in extents):
        return False
    ones = Tensor.of(np.ones(extents, x.dtype.numpy), x.dtype)
    made = graph.build(
        node,
        "LayerNormalization",
        [x, graph.constant(ones, f"{node.name}_scale")],
        hint=node.name,
        axis=axis - len(x.shape or ()),
        epsilon=found.numbers["epsilon"],
    )
    made.sources = found.sources
    replace_node(graph, node, made.output)
    return True


def _trailing(mean: Value) -> int | None:
    """The first axis of a mean over all trailing axes."""
    node = mean.producer
    assert node is not None
    shape, axes = node.operand(0).shape, integers_of(node.input(1))
    if shape is None or not axes:
        return None
    positive = sorted(axis % len(shape) for axis in axes)
    return positive[0] if positive == list(range(positive[0], len(shape))) else None


def _parameter(graph: Graph, node: Node, base: Value, position: int) -> Value | None:
    """The other operand as a constant that fills the normalised axes, or None."""
    other, norm = node.operand(1 - position), base.producer
    if other.const is None or norm is None or norm.op != "LayerNormalization" or norm.domain or norm.graph is not graph:
        return None
    if base.use_count != 1 or any(value.use_count for value in norm.outputs[1:]) or other.dtype is not base.dtype:
        return None
    wanted = norm.operand(1).shape
    held = other.const
    leading = len(held.shape) - len(wanted or ())
    if wanted is None or leading < 0 or base.shape is None or len(held.shape) > len(base.shape):
        return None
    if any(extent != 1 for extent in held.shape[:leading]) or held.shape[leading:] != wanted:
        return None
    if not leading:
        return other
    return graph.constant(Tensor.of(held.numpy().reshape(held.shape[leading:]), held.dtype), other.name)


def _take_scale(graph: Graph, node: Node) -> bool:
    for position in (0, 1):
        base = node.operand(position)
        scale = _parameter(graph, node, base, position)
        norm = base.producer
        if scale is None or norm is None or norm.input(2) is not None or uniform_of(norm.operand(1)) != 1:
            continue
        norm.set_input(1, scale)
        replace_node(graph, node, base)
        return True
    return False


def _take_bias(graph: Graph, node: Node) -> bool:
    for position in (0, 1):
        base = node.operand(position)
        bias = _parameter(graph, node, base, position)
        norm = base.producer
        if bias is None or norm is None or norm.input(2) is not None:
            continue
        norm.set_input(2, bias)
        replace_node(graph, node, base)
        return True
    return False
