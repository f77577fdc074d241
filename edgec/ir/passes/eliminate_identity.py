"""Remove operators that hand their operand on unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register, remove_dead, replace_node, rewrite_each
from edgec.ir.passes.constants import integers_of, same_type, scalar_of, uniform_of
from edgec.ir.types import DataType

Rule = Callable[[Node], "Value | None"]
"""The value that can stand for the node's first output, or None."""

_RULES: dict[str, Rule] = {}


@register
@dataclass(frozen=True)
class EliminateIdentity(Pass):
    """Remove operators that compute the identity: y = x for every x.

    These are Identity; Dropout in inference; Cast to the same type and casts undone by a second cast; Reshape, Flatten,
    Squeeze, Unsqueeze, Expand, Tile, Slice, Pad, Transpose, Resize and pools that change nothing; Concat, Split, Sum,
    Mean, Max and Min of one operand; reductions over extents of one; x + 0, x - 0, x * 1, x / 1, x ** 1; Clip without
    bounds; double negation; and repeated idempotent operators.  Element type and shape are certainly the same before
    and after (x + 0 may turn -0.0 into 0.0).  Dropout in training mode is left for the target to refuse.

    Source: ONNX operator specification.
    """

    name: ClassVar[str] = "eliminate-identity"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, tuple(_RULES), _rewrite)


def _rewrite(graph: Graph, node: Node) -> bool:
    value = _RULES[node.op](node)
    if value is None:
        return node.op == "Cast" and _merge_casts(graph, node)
    if any(other.use_count for other in node.outputs[1:]):  # the mask of a Dropout keeps its node
        if not node.outputs[0].use_count:
            return False
        graph.replace(node.outputs[0], value)
        return True
    if value.shape is None and node.output.shape is not None and value.dtype is node.output.dtype:
        value.shape = node.output.shape
    replace_node(graph, node, value)
    remove_dead(graph, node)
    return True


def _rule(*ops: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        for op in ops:
            _RULES[op] = function
        return function

    return add


def _unchanged(node: Node) -> Value | None:
    value = node.operand(0)
    return value if same_type(value, node.output) else None


@_rule("Identity")
def _identity(node: Node) -> Value | None:
    return node.input(0)


@_rule("OptionalGetElement")
def _optional_get_element(node: Node) -> Value | None:
    value = node.input(0)
    return value if value is not None and value.type_proto is None else None  # of a tensor, it is the tensor


@_rule("Dropout")
def _dropout(node: Node) -> Value | None:
    training = node.input(2)
    if training is None or scalar_of(training) is False:
        return node.operand(0)
    return node.operand(0) if scalar_of(training) is True and scalar_of(node.input(1)) == 0 else None


_WIDER: dict[DataType, frozenset[DataType]] = {}
"""Types that hold every value of the key exactly."""


def _hold(key: DataType, *wider: DataType) -> None:
    _WIDER[key] = frozenset(wider) | frozenset(item for one in wider for item in _WIDER.get(one, ()))


_hold(DataType.FLOAT, DataType.DOUBLE)
_hold(DataType.FLOAT16, DataType.FLOAT)
_hold(DataType.BFLOAT16, DataType.FLOAT)
_hold(DataType.INT32, DataType.INT64, DataType.DOUBLE)
_hold(DataType.UINT32, DataType.INT64, DataType.UINT64, DataType.DOUBLE)
_hold(DataType.INT16, DataType.INT32, DataType.FLOAT)
_hold(DataType.UINT16, DataType.INT32, DataType.UINT32, DataType.FLOAT)
_hold(DataType.INT8, DataType.INT16, DataType.FLOAT16)
_hold(DataType.UINT8, DataType.INT16, DataType.UINT16, DataType.FLOAT16)
_hold(DataType.BOOL, DataType.UINT8, DataType.INT8)


@_rule("Cast")
def _cast(node: Node) -> Value | None:
    value, target = node.operand(0), DataType(node.attr_int("to"))
    if value.dtype is target:
        return value
    inner = value.producer
    if inner is None or inner.op != "Cast" or inner.domain or inner.graph is not node.graph:
        return None
    origin = inner.operand(0)
    return origin if origin.dtype is target and value.dtype in _WIDER.get(origin.dtype, frozenset()) else None


def _merge_casts(graph: Graph, node: Node) -> bool:
    """Let a Cast of a lossless Cast start from the first operand, which holds the same numbers."""
    value, target = node.operand(0), DataType(node.attr_int("to"))
    inner = value.producer
    if inner is None or inner.op != "Cast" or inner.domain or inner.graph is not graph or target is DataType.STRING:
        return False
    origin = inner.operand(0)
    wider = _WIDER.get(origin.dtype, frozenset())
    if value.dtype not in wider or (value.dtype.is_float and target.is_integer and target not in wider):
        return False  # numbers out of range wrap between integers, but not between floats and integers
    node.set_input(0, origin)
    remove_dead(graph, inner)
    return True


@_rule("Reshape")
def _reshape(node: Node) -> Value | None:
    value, wanted = node.operand(0), integers_of(node.input(1))
    if wanted and value.shape is not None and len(wanted) == len(value.shape) and not node.attr_int("allowzero", 0):
        kept = sum(dim == 0 or dim == own for dim, own in zip(wanted, value.shape))
        if kept == len(wanted) or (kept == len(wanted) - 1 and wanted.count(-1) == 1):
            return value
    return _unchanged(node)


@_rule("Transpose")
def _transpose(node: Node) -> Value | None:
    perm = node.attributes.get("perm")
    if perm is not None:
        return node.operand(0) if list(perm) == list(range(len(perm))) else None
    shape = node.operand(0).shape
    return node.operand(0) if shape is not None and len(shape) < 2 else None


@_rule("Pad")
def _pad(node: Node) -> Value | None:
    return node.operand(0) if uniform_of(node.input(1)) == 0 else None


@_rule("Tile")
def _tile(node: Node) -> Value | None:
    return node.operand(0) if uniform_of(node.input(1)) == 1 else None


@_rule("Slice")
def _slice(node: Node) -> Value | None:
    steps = node.input(4)
    return _unchanged(node) if steps is None or uniform_of(steps) == 1 else None


for _op in ("Flatten", "Squeeze", "Unsqueeze", "Expand"):
    _RULES[_op] = _unchanged


@_rule("Concat", "Sum", "Mean", "Max", "Min")
def _alone(node: Node) -> Value | None:
    operands = [value for value in node.inputs if value is not None]
    return operands[0] if len(operands) == 1 else None


@_rule("Split")
def _split(node: Node) -> Value | None:
    return node.operand(0) if len(node.outputs) == 1 else None


@_rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "GlobalAveragePool", "GlobalMaxPool")
def _reduce(node: Node) -> Value | None:
    """Same shape before and after means that only extents of one were reduced, or none."""
    return _unchanged(node)


@_rule("DepthToSpace", "SpaceToDepth")
def _block(node: Node) -> Value | None:
    return node.operand(0) if node.attr_int("blocksize") == 1 else None


@_rule("MaxPool", "AveragePool")
def _pool(node: Node) -> Value | None:
    ones = all(size == 1 for size in (*node.attr_ints("kernel_shape"), *node.attr_ints("strides", ())))
    return _unchanged(node) if ones and not any(node.attr_ints("pads", ())) else None


@_rule("Resize")
def _resize(node: Node) -> Value | None:
    if node.attr_str("coordinate_transformation_mode", "half_pixel").startswith("tf_"):
        return None
    scales = node.input(2)
    given = scales is not None and scales.shape != (0,)
    return _unchanged(node) if not given or uniform_of(scales) == 1 else None


def _neutral(node: Node, element: int, *, either: bool) -> Value | None:
    for position in (1, 0) if either else (1,):
        other = node.operand(1 - position)
        found = uniform_of(node.operand(position))
        if found is not None and found == element and other.const is None and other.dtype is node.output.dtype:
            small = node.operand(position).const
            if other.shape == node.output.shape and other.is_static:
                return other
            if (
                small is not None
                and small.size == 1
                and other.shape is not None
                and len(small.shape) <= len(other.shape)
            ):
                return other
    return None


@_rule("Add")
def _add(node: Node) -> Value | None:
    return _neutral(node, 0, either=True)


@_rule("Sub")
def _sub(node: Node) -> Value | None:
    return _neutral(node, 0, either=False)


@_rule("Mul")
def _mul(node: Node) -> Value | None:
    return _neutral(node, 1, either=True)


@_rule("Div", "Pow")
def _div(node: Node) -> Value | None:
    return _neutral(node, 1, either=False)


@_rule("Where")
def _where(node: Node) -> Value | None:
    chosen = uniform_of(node.operand(0))
    if chosen is None:
        return None
    value = node.operand(1 if chosen else 2)
    return value if same_type(value, node.output) else None


@_rule("Clip")
def _clip(node: Node) -> Value | None:
    if not node.operand(0).dtype.is_float:
        return node.operand(0) if node.input(1) is None and node.input(2) is None else None
    low, high = node.input(1), node.input(2)
    open_below = low is None or scalar_of(low) == float("-inf")
    open_above = high is None or scalar_of(high) == float("inf")
    return node.operand(0) if open_below and open_above else None


def _inner(node: Node) -> Node | None:
    inner = node.operand(0).producer
    return inner if inner is not None and inner.op == node.op and not inner.domain else None


@_rule("Not", "Neg")
def _twice(node: Node) -> Value | None:
    inner = _inner(node)
    return inner.operand(0) if inner is not None else None


@_rule("Relu", "Abs", "Ceil", "Floor", "Round", "Sign")
def _idempotent(node: Node) -> Value | None:
    return node.operand(0) if _inner(node) is not None else None
