"""Types and shapes of node outputs.

Elementwise operators, which are most of a graph, are inferred here in Python; all others by onnx's own C++ inference,
one node at a time with the constants at hand, so that one forward sweep over a graph settles everything.
"""

from __future__ import annotations

import math
from functools import lru_cache

import onnx
from onnx import TensorProto, TypeProto

from edgec.errors import ModelError
from edgec.ir.graph import Graph, Node, Value
from edgec.ir.proto import node_to_proto, set_type, tensor_to_proto, type_of
from edgec.ir.types import DataType, Dim, Shape

CANONICAL_OPSET = 26
"""The version of the default domain that the IR follows after import (the newest that ONNX Runtime reads)."""

DATA_LIMIT = 4096
"""Constants up to this many elements are shown to shape inference."""

_SAME = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu HardSigmoid HardSwish Sigmoid Tanh Softplus Softsign Mish Gelu "
    "Swish Erf Exp Log Sqrt Reciprocal Neg Abs Floor Ceil Round Sign Not Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh "
    "Acosh Atanh Softmax LogSoftmax Hardmax Clip Identity BitwiseNot CumSum LpNormalization "
    "InstanceNormalization GroupNormalization LRN".split()
)
_BROADCAST = frozenset("Add Sub Mul Div Pow Min Max Sum Mean Mod PRelu BitwiseAnd BitwiseOr BitwiseXor".split())
_COMPARE = frozenset("Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor".split())


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """NumPy broadcasting over partly known extents; None where the extents contradict each other."""
    rank = max(len(shape) for shape in shapes)
    result: list[Dim] = []
    for position in range(rank):
        dims = [shape[position - rank + len(shape)] for shape in shapes if position - rank + len(shape) >= 0]
        known = [dim for dim in dims if isinstance(dim, int) and dim != 1]
        if known:
            if any(dim != known[0] for dim in known):
                return None
            result.append(known[0])
        else:
            unknown = [dim for dim in dims if not isinstance(dim, int)]
            if not unknown:
                result.append(1)
            elif all(dim == unknown[0] and dim is not None for dim in unknown):
                result.append(unknown[0])
            else:
                result.append(None)
    return tuple(result)


@lru_cache(maxsize=4096)
def schema_of(op: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """The operator's schema at an opset, or None if the domain does not define it."""
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


def infer_node(node: Node, opset: int = CANONICAL_OPSET) -> None:
    """Type the outputs of a node from the types and constants of its operands.

    Raises:
        ModelError: EDG111 when the operands do not fit the operator or each other.
    """
    if not node.domain and _infer_simple(node):
        return
    schema = schema_of(node.op, node.domain, opset)
    if schema is None:
        from edgec.ir.contrib import infer_contrib

        infer_contrib(node)
        return
    if _infer_structural(node):
        return
    _infer_by_schema(node, schema, opset)


def infer_body_inputs(node: Node) -> None:
    """Type the inputs of the bodies of Loop and Scan, which files may leave untyped, from the node's operands.

    Source: ONNX operator specification, Loop-1 and Scan-9: a carried value keeps its element type.
    """
    body = node.attributes.get("body")
    if not isinstance(body, Graph) or node.op not in ("Loop", "Scan"):
        return
    inputs = body.inputs
    if node.op == "Loop":
        for value, dtype in zip(inputs, (DataType.INT64, DataType.BOOL)):
            if value.dtype is DataType.UNDEFINED:
                value.dtype, value.shape = dtype, ()
        inputs = inputs[2:]
    operands = node.inputs[2:] if node.op == "Loop" else node.inputs
    for inner, operand in zip(inputs, operands):
        if operand is not None and inner.dtype is DataType.UNDEFINED and inner.type_proto is None:
            inner.dtype, inner.type_proto = operand.dtype, operand.type_proto


def _infer_simple(node: Node) -> bool:
    """Elementwise operators; returns False where the general way is needed."""
    operands = [value for value in node.inputs if value is not None]
    if not operands or len(node.outputs) != 1:
        return False
    first, result = operands[0], node.outputs[0]
    if first.dtype is DataType.UNDEFINED or first.shape is None or first.type_proto is not None:
        return False
    if node.op in _SAME and node.op != "PRelu":
        _refine(result, first.dtype, first.shape)
        return True
    if node.op.startswith("Reduce") and len(operands) == 2 and operands[1].const is None:
        return _infer_reduction(node, first.shape, operands[1])
    if node.op == "Range" and all(value.const is None or value.const.size == 1 for value in operands):
        # onnx refuses operands of shape [1], which exporters (and onnx's own AffineGrid) write and runtimes take
        if len(operands) == 3 and all(value.const is not None for value in operands):
            start, limit, delta = (value.numpy().item() for value in operands)
            _refine(result, first.dtype, (max(math.ceil((limit - start) / delta), 0),) if delta else (None,))
        else:
            _refine(result, first.dtype, (None,))
        return True
    if node.op in _BROADCAST or node.op in _COMPARE:
        shapes = [value.shape for value in operands if value.shape is not None]
        if len(shapes) != len(operands) or any(value.dtype is DataType.UNDEFINED for value in operands):
            return False
        shape = broadcast_shapes(*shapes)
        if shape is None:
            raise _mismatch(node, "the shapes do not broadcast: " + ", ".join(str(list(s)) for s in shapes))
        if node.op not in ("Pow",) and any(value.dtype is not first.dtype for value in operands):
            raise _mismatch(node, "element types differ: " + ", ".join(value.dtype.name for value in operands))
        _refine(result, DataType.BOOL if node.op in _COMPARE else first.dtype, shape)
        return True
    return False


def _infer_reduction(node: Node, shape: Shape, axes: Value) -> bool:
    """Axes computed at run time: how many there are still tells the rank."""
    if axes.shape is None or len(axes.shape) != 1 or not isinstance(axes.shape[0], int):
        return False
    rank, count = len(shape), axes.shape[0]
    if count == 0:
        count = 0 if node.attr_int("noop_with_empty_axes", 0) else rank
    kept = bool(node.attr_int("keepdims", 1))
    result: Shape
    if count == 0:
        result = shape
    elif count == rank:
        result = (1,) * rank if kept else ()
    else:
        result = tuple(1 if dim == 1 else None for dim in shape) if kept else (None,) * (rank - count)
    _refine(node.outputs[0], node.operand(0).dtype, result)
    return True


def _infer_structural(node: Node) -> bool:
    """Operators that onnx's inference handles only with more context than one node."""
    if node.op in ("If", "Loop", "Scan"):
        return all(v.dtype is not DataType.UNDEFINED or v.type_proto is not None for v in node.outputs)
    return False


def _refine(value: Value, dtype: DataType, shape: Shape) -> None:
    old = value.shape
    if old is not None and len(old) == len(shape):
        shape = tuple(n if isinstance(n, int) else (o if isinstance(o, int) else n or o) for n, o in zip(shape, old))
    value.dtype = dtype
    value.shape = shape


def _mismatch(node: Node, why: str) -> ModelError:
    operands = ", ".join("-" if v is None else repr(v) for v in node.inputs)
    return ModelError(
        "EDG111",
        f"shapes or types do not agree at '{node.name}' ({node.op})",
        where=f"node '{node.name}', operands {operands}",
        why=why,
        help="check --input-shape; `edgec inspect` shows the declared shapes",
    )


def _infer_by_schema(node: Node, schema: onnx.defs.OpSchema, opset: int) -> None:
    types: dict[str, TypeProto] = {}
    data: dict[str, TensorProto] = {}
    names: dict[Value, str] = {}

    def note(value: Value) -> None:
        name = names.setdefault(value, f"v{len(names)}")
        if name in types:
            return
        if value.dtype is DataType.UNDEFINED and value.type_proto is None:
            raise _Untyped
        types[name] = type_of(value)
        if value.const is not None and value.const.size <= DATA_LIMIT and value.dtype is not DataType.STRING:
            data[name] = tensor_to_proto(value.const, name)

    try:
        for value in node.inputs:
            if value is not None:
                note(value)
        for body in node.subgraphs:
            for value in captured(body):
                note(value)
    except _Untyped:
        return
    for position, value in enumerate(node.outputs):
        names[value] = f"o{position}"
    proto = node_to_proto(node, names)
    if node.op == "STFT" and not node.has("onesided"):
        proto.attribute.append(onnx.helper.make_attribute("onesided", 1))  # the default, which onnx's inference forgets
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise _mismatch(node, str(error).strip().splitlines()[-1]) from error
    for position, value in enumerate(node.outputs):
        found = inferred.get(f"o{position}")
        if found is not None:
            set_type(value, found)


class _Untyped(Exception):
    """An operand has no type yet."""


def captured(graph: object) -> list[Value]:
    """Values of enclosing graphs that a control-flow body uses."""
    from edgec.ir.graph import Graph

    assert isinstance(graph, Graph)
    inside: set[Value] = set(graph.inputs)
    outside: dict[Value, None] = {}

    def walk(body: Graph) -> None:
        inside.update(body.inputs)
        for node in body.nodes:
            for value in node.inputs:
                if value is not None and value not in inside:
                    outside.setdefault(value)
            for nested in node.subgraphs:
                walk(nested)
            inside.update(node.outputs)
        for value in body.outputs:
            if value not in inside:
                outside.setdefault(value)

    walk(graph)
    return [value for value in outside if value.const is None or value.const.size <= DATA_LIMIT]
