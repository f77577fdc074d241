"""The lowest opset at which a graph of the canonical opset still means the same, so that older runtimes read it.

The IR follows one opset, the newest (:data:`edgec.ir.inference.CANONICAL_OPSET`).  Most nodes have had their form for
years: a Relu of opset 26 is a Relu of opset 14, and in float32 of opset 6.  :func:`lowest_opset` walks each operator's
schema history downwards, as far as nothing that the node says has changed, and takes the maximum over the nodes.

A step from a version of an operator to the one before is taken when

* every attribute and operand that the node has is defined there, with the same type, default and option, and what is
  defined there but not in the newer version is nothing;
* attributes and operands that only the newer version has are left out on the node (by the rules of ONNX versioning
  their defaults mean what the older version did; that this holds was read for each in the changelog);
* the element types of its operands and results are allowed there;
* :data:`CHANGED` does not name the step: the operators whose meaning changed under an unchanged form.

Source: onnx.defs (schemas with history); onnx, docs/Changelog.md, every change from opset 14 to 26.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import onnx

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.inference import CANONICAL_OPSET, schema_of
from edgec.ir.types import DataType

FLOOR: Final = 13
"""Never below: at 13 axes became operands and Softmax got today's meaning; ONNX Runtime reads it since 1.6 (2020)."""

Condition = Callable[[Node], bool]


def _always(node: Node) -> bool:
    return True


def _ceil(node: Node) -> bool:
    return node.attr_int("ceil_mode", 0) != 0


def _ceil_or_automatic(node: Node) -> bool:
    return _ceil(node) or node.attr_str("auto_pad", "NOTSET") not in ("NOTSET", "VALID")


def _attribute_is(name: str, *values: str) -> Condition:
    return lambda node: node.has(name) and node.attr_str(name) in values


CHANGED: Final[dict[tuple[str, int], Condition]] = {
    # The causal mask of rectangular products, and what qk_matmul_output holds.
    ("Attention", 24): _always,
    # Windows that begin in the padding on the right are left out since 22; sizes under auto_pad were corrected in 19.
    ("AveragePool", 19): _ceil_or_automatic,
    ("AveragePool", 22): _ceil,
    ("MaxPool", 22): _ceil,
    ("LpPool", 18): _always,
    # Without an output: 14 renamed operands, and gave training a mode of its own.
    ("BatchNormalization", 14): _always,
    # One scale per group before, one per channel since.
    ("GroupNormalization", 21): _always,
    # "wrap" came in 19, within an attribute that had been there.
    ("Pad", 19): _attribute_is("mode", "wrap"),
    # Coordinates and sizes were corrected together with the new modes.
    ("Resize", 18): _always,
    ("Resize", 19): _always,
    # The default of the new attribute is another meaning than before.
    ("RoiAlign", 16): _always,
    # "max" and "min" came in 18.
    ("ScatterElements", 18): _attribute_is("reduction", "max", "min"),
    ("ScatterND", 18): _attribute_is("reduction", "max", "min"),
    # Before, no operand and no attribute meant equal parts.
    ("Split", 18): lambda node: node.input(1) is None,
}
"""(operator, version) to when the step below that version must not be taken, though the signatures agree."""

_IR_VERSIONS: Final = {
    DataType.FLOAT8E4M3FN: 9,
    DataType.FLOAT8E4M3FNUZ: 9,
    DataType.FLOAT8E5M2: 9,
    DataType.FLOAT8E5M2FNUZ: 9,
    DataType.UINT4: 10,
    DataType.INT4: 10,
    DataType.FLOAT4E2M1: 11,
    DataType.FLOAT8E8M0: 12,
    DataType.UINT2: 13,
    DataType.INT2: 13,
}
"""The IR version that introduced an element type (onnx.proto)."""
_OLDEST_IR: Final = 7


def lowest_opset(model: Model) -> int:
    """The lowest opset, at least :data:`FLOOR`, at which every node (bodies included) means what it does in the IR."""
    return max((FLOOR, *_versions(model.graph)))


def lowest_ir_version(model: Model, opset: int) -> int:
    """The lowest IR version, at least 7, of a file at an opset that holds the model's element types."""
    types = {value.dtype for value in _values(model.graph)}
    needed: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True)
    return max(_OLDEST_IR, needed, *(_IR_VERSIONS.get(dtype, 0) for dtype in types))


def lowest_version(node: Node) -> int:
    """The oldest version of the node's operator that it can be an instance of; 0 where the standard defines none."""
    schema = None if node.domain else schema_of(node.op, "", CANONICAL_OPSET)
    if schema is None:
        return 0
    while schema.since_version > FLOOR:
        older = schema_of(node.op, "", schema.since_version - 1)
        if older is None or older.deprecated or _changed(node, schema.since_version):
            break
        if not _same_form(node, schema, older) or not _types_allowed(node, older):
            break
        schema = older
    return int(schema.since_version)


def _versions(graph: Graph) -> set[int]:
    found = set()
    for node in graph.nodes:
        found.add(lowest_version(node))
        for body in node.subgraphs:
            found |= _versions(body)
    return found


def _values(graph: Graph) -> set[Value]:
    found = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        found.update(value for value in node.inputs if value is not None)
        found.update(node.outputs)
        for body in node.subgraphs:
            found |= _values(body)
    return found


def _changed(node: Node, version: int) -> bool:
    condition = CHANGED.get((node.op, version))
    return condition is not None and condition(node)


def _same_form(node: Node, newer: onnx.defs.OpSchema, older: onnx.defs.OpSchema) -> bool:
    now, then = _signature(newer), _signature(older)
    if any(now.attributes.get(name) != form for name, form in then.attributes.items()):
        return False
    if any(name not in then.attributes for name in node.attributes):
        return False
    return _prefix(now.inputs, then.inputs, len(node.inputs)) and _prefix(now.outputs, then.outputs, len(node.outputs))


def _prefix(now: tuple[object, ...], then: tuple[object, ...], used: int) -> bool:
    """Whether the older formals begin the newer ones, and cover those in use (a variadic one covers all)."""
    return now[: len(then)] == then and (len(then) == len(now) or used <= len(then))


class _Signature:
    """What two versions of an operator must agree on, in comparable form."""

    def __init__(self, schema: onnx.defs.OpSchema):
        self.attributes = {name: _attribute(form) for name, form in schema.attributes.items()}
        self.inputs = tuple(_formal(form) for form in schema.inputs)
        self.outputs = tuple(_formal(form) for form in schema.outputs)


def _attribute(form: Any) -> tuple[object, ...]:
    default = form.default_value
    return str(form.type), form.required, None if default is None else default.SerializeToString(deterministic=True)


def _formal(form: Any) -> tuple[object, ...]:
    return form.name, str(form.option), form.is_homogeneous, form.min_arity


def _signature(schema: onnx.defs.OpSchema) -> _Signature:
    return _signature_of(schema.name, schema.since_version)


@cache
def _signature_of(op: str, version: int) -> _Signature:
    return _Signature(onnx.defs.get_schema(op, version, ""))


def _types_allowed(node: Node, schema: onnx.defs.OpSchema) -> bool:
    allowed = _allowed(schema.name, schema.since_version)
    operands = _fits(node.inputs, [form.type_str for form in schema.inputs], allowed)
    return operands and _fits(node.outputs, [form.type_str for form in schema.outputs], allowed)


def _fits(values: Sequence[Value | None], types: list[str], allowed: dict[str, frozenset[str]]) -> bool:
    for position, value in enumerate(values):
        if value is None or not types:
            continue
        formal = types[min(position, len(types) - 1)]
        found = _type_text(value)
        if found is None:
            if value.use_count:
                return False
        elif found not in allowed.get(formal, frozenset((formal,))):
            return False
    return True


@cache
def _allowed(op: str, version: int) -> dict[str, frozenset[str]]:
    schema = onnx.defs.get_schema(op, version, "")
    return {item.type_param_str: frozenset(item.allowed_type_strs) for item in schema.type_constraints}


def _type_text(value: Value) -> str | None:
    """The type as schemas write it, for example ``seq(tensor(float))``; None while it is unknown."""
    if value.type_proto is not None:
        return _proto_text(value.type_proto)
    return None if value.dtype is DataType.UNDEFINED else f"tensor({value.dtype.name.lower()})"


def _proto_text(proto: onnx.TypeProto) -> str | None:
    kind = proto.WhichOneof("value")
    if kind == "tensor_type" and proto.tensor_type.elem_type:
        return f"tensor({DataType(proto.tensor_type.elem_type).name.lower()})"
    if kind == "sequence_type":
        inner, name = _proto_text(proto.sequence_type.elem_type), "seq"
    elif kind == "optional_type":
        inner, name = _proto_text(proto.optional_type.elem_type), "optional"
    else:
        return None
    return None if inner is None else f"{name}({inner})"
