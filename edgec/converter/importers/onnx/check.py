"""Whether a node follows the rules of its operator at the model's opset.  Source: onnx's operator schemas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import onnx
from onnx.defs import OpSchema

from edgec.errors import ModelError, UnsupportedError
from edgec.ir.contrib import DOMAIN, is_known, is_standard_extension
from edgec.ir.graph import Graph, Node, Tensor
from edgec.ir.inference import schema_of
from edgec.ir.types import DataType

_KINDS: dict[OpSchema.AttrType, type | tuple[type, ...]] = {
    OpSchema.AttrType.FLOAT: (float, int),
    OpSchema.AttrType.INT: int,
    OpSchema.AttrType.STRING: str,
    OpSchema.AttrType.TENSOR: Tensor,
    OpSchema.AttrType.GRAPH: Graph,
}


REPLACED = frozenset({"GroupNormalization"})
"""Operators one of whose versions (18 to 20) was deprecated in favour of a corrected one; files hold the old one."""


@dataclass(frozen=True)
class _Rules:
    """A schema in plain Python (reading one through its bindings is slow).

    Attributes:
        attributes: name to accepted Python types.
        types: per operand position (the last one repeats) the accepted element types, or None for any, and the name
            of the type variable that operands share.
    """

    attributes: dict[str, type | tuple[type, ...]]
    required: frozenset[str]
    least: int
    most: int
    outputs: int
    types: tuple[tuple[frozenset[str] | None, str], ...]
    last_mixed: bool
    deprecated: bool


@lru_cache(maxsize=4096)
def _rules(op: str, domain: str, opset: int) -> _Rules | None:
    schema = schema_of(op, domain, opset)
    if schema is None:
        return None
    constraints = {item.type_param_str: frozenset(item.allowed_type_strs) for item in schema.type_constraints}
    attributes = schema.attributes
    formal = schema.inputs
    variadic = bool(formal) and formal[-1].option == OpSchema.FormalParameterOption.Variadic
    return _Rules(
        {name: _KINDS.get(item.type, (list, object)) for name, item in attributes.items()},
        frozenset(name for name, item in attributes.items() if item.required),
        schema.min_input,
        schema.max_input,
        schema.max_output,
        tuple((constraints.get(item.type_str, frozenset({item.type_str})), item.type_str) for item in formal),
        variadic and not formal[-1].is_homogeneous,
        schema.deprecated,
    )


def check_node(node: Node, opset: int, domains: dict[str, int]) -> None:
    """Check one node against its operator.

    Raises:
        UnsupportedError: EDG201 when the domain or the operator is unknown at this opset.
        ModelError: EDG109 when operands, attributes or element types break the operator's rules.
    """
    if node.domain == DOMAIN:
        if not is_known(node.op):
            raise _unknown(node, f"edgec does not read '{node.op}' of the domain '{DOMAIN}'")
        return
    version = domains.get(node.domain, 0) if node.domain else opset
    rules = _rules(node.op, node.domain, version) if version else None
    if rules is None or (rules.deprecated and node.op not in REPLACED):
        if not node.domain and is_standard_extension(node.op):
            return
        raise _unknown(node, _why_unknown(node, version, rules is not None))
    count = len(node.inputs)
    if not rules.least <= count <= rules.most:
        raise _broken(node, f"it has {count} operands, the operator takes {rules.least} to {rules.most}")
    if len(node.outputs) > rules.outputs:
        raise _broken(node, f"it has {len(node.outputs)} outputs, the operator gives {rules.outputs}")
    for name, value in node.attributes.items():
        kind = rules.attributes.get(name)
        if kind is None:
            raise _broken(node, f"the operator has no attribute '{name}' at opset {version}")
        if not isinstance(value, kind):
            raise _broken(node, f"the attribute '{name}' is of the wrong type")
    for name in rules.required:
        if name not in node.attributes:
            raise _broken(node, f"the attribute '{name}' is missing")
    _check_types(node, rules)


def _check_types(node: Node, rules: _Rules) -> None:
    bound: dict[str, str] = {}
    for position, value in enumerate(node.inputs):
        if value is None or value.dtype is DataType.UNDEFINED or value.type_proto is not None or not rules.types:
            continue
        allowed, variable = rules.types[min(position, len(rules.types) - 1)]
        found = _TYPE_NAMES[value.dtype]
        if allowed is not None and found not in allowed:
            raise _broken(node, f"the operand '{value.name}' has the type {found}, which the operator does not take")
        if rules.last_mixed and position >= len(rules.types) - 1:
            continue
        if bound.setdefault(variable, found) != found:
            raise _broken(node, f"the operand '{value.name}' has the type {found}, another one {bound[variable]}")


_TYPE_NAMES = {dtype: f"tensor({dtype.name.lower()})" for dtype in DataType}


def _why_unknown(node: Node, version: int, removed: bool) -> str:
    if node.domain:
        if not version:
            return f"the model does not import the domain '{node.domain}', and edgec does not know it"
        return f"the domain '{node.domain}' is neither ONNX's nor one that edgec knows"
    if removed:
        return f"the operator does not exist any more at opset {version}"
    newest = schema_of(node.op, "", onnx.defs.onnx_opset_version())
    if newest is not None:
        return f"the operator is not defined at the model's opset {version} (it came later)"
    return "the ONNX standard does not define it"


def _unknown(node: Node, why: str) -> UnsupportedError:
    domain = node.domain or "ai.onnx"
    return UnsupportedError(
        "EDG201",
        f"unknown operator '{node.op}' of domain '{domain}' at '{node.name}'",
        where=f"node '{node.name}'",
        why=why,
        help="export the model with standard ONNX operators",
        details={"operator": node.op, "domain": domain, "node": node.name},
    )


def _broken(node: Node, why: str) -> ModelError:
    return ModelError("EDG109", f"'{node.name}' ({node.op}) is malformed", where=f"node '{node.name}'", why=why)
