"""Replace an operator by the body that the ONNX standard defines for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.inference import CANONICAL_OPSET, schema_of
from edgec.ir.passes.base import Pass, graphs_of, register
from edgec.ir.passes.control_flow import copy_nodes
from edgec.ir.passes.fold_constants import FoldConstants, Sweep
from edgec.ir.proto import graph_from_proto, node_to_proto, type_of
from edgec.ir.types import DataType

COMPOSITE = (
    "AffineGrid",
    "Attention",
    "BlackmanWindow",
    "CenterCropPad",
    "DynamicQuantizeLinear",
    "GroupNormalization",
    "HammingWindow",
    "HannWindow",
    "MeanVarianceNormalization",
    "NegativeLogLikelihoodLoss",
    "RMSNormalization",
    "RotaryEmbedding",
    "SoftmaxCrossEntropyLoss",
)
"""Operators that are compositions in every runtime: what is expanded unless ``ops`` says otherwise."""

NEVER = frozenset({"Bernoulli", "Range", "SequenceMap"})
"""Random, or defined by a body that holds a Loop with a trip count known only at run time."""


@register
@dataclass(frozen=True)
class ExpandFunctions(Pass):
    """Expand operators that the ONNX standard defines as functions of simpler ones.

    ``ops`` names the operators to expand, ``keep`` those to leave alone nevertheless.  The body comes from the
    operator's schema (``function_body``, or the context-dependent builder, which sees operand types, attributes and
    which optional operands and outputs are used), its inner operators are brought to the canonical opset, typed,
    and folded where they are constant.  Operators in ``ops`` that appear inside a body are expanded too.
    Bernoulli (random), Range and SequenceMap (loops) are never expanded.

    Source: onnx.defs, ONNX operator specification, section "Functions".
    """

    name: ClassVar[str] = "expand-functions"
    ops: tuple[str, ...] = COMPOSITE
    keep: tuple[str, ...] = ()

    def apply(self, model: Model) -> bool:
        wanted = frozenset(self.ops) - frozenset(self.keep) - NEVER
        changed = False
        for graph in list(graphs_of(model.graph)):
            while True:
                found = [node for node in graph.nodes if node.op in wanted and not node.domain]
                made = [inner for node in found for inner in expand_node(graph, node) or ()]
                if not made:
                    break
                changed = True
                sweep = Sweep(FoldConstants())
                for inner in made:
                    if inner.graph is graph:
                        sweep.visit(graph, inner)
        return changed


def is_function(op: str, domain: str = "") -> bool:
    """Whether the standard defines the operator by a body."""
    schema: Any = schema_of(op, domain, CANONICAL_OPSET)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def expand_node(graph: Graph, node: Node) -> list[Node] | None:
    """Put the body of a function operator in its place; None if the standard defines none.

    Returns the new nodes, typed, in order.  Nothing is folded yet.
    """
    body = _body(node)
    if body is None:
        return None
    formal, results = list(body.input), list(body.output)
    absent = {name for position, name in enumerate(formal) if node.input(position) is None}
    given = {key: value for key, value in _attributes_of(node).items() if value is not None}
    holder = GraphProto(name=node.op)
    holder.input.extend(onnx.ValueInfoProto(name=name) for name in formal if name not in absent)
    for inner in body.node:
        fixed = NodeProto()
        fixed.CopyFrom(inner)
        _bind(fixed, given, absent)
        holder.node.append(fixed)
    produced = {name for inner in holder.node for name in inner.output}
    used = [(position, name) for position, name in enumerate(results) if name in produced or name in formal]
    holder.output.extend(onnx.ValueInfoProto(name=name) for _, name in used)
    inside = graph_from_proto(holder)
    _modernise(inside, node.op)
    actual = [value for value in node.inputs[: len(formal)] if value is not None]
    mapping: dict[Value, Value] = dict(zip(inside.inputs, actual))
    made = copy_nodes(inside, graph, node, mapping, f"{node.name}/")
    for inner_node in made:
        inner_node.sources = node.sources
    for (position, _), value in zip(used, inside.outputs):
        if position < len(node.outputs):
            old, new = node.outputs[position], mapping[value]
            if new.producer is not None and old.dtype is not DataType.UNDEFINED:
                new.dtype, new.shape = old.dtype, old.shape if old.is_static else new.shape
            graph.replace(old, new)
    graph.remove(node)
    inside.clear()
    return made


def _body(node: Node) -> FunctionProto | None:
    schema: Any = schema_of(node.op, node.domain, CANONICAL_OPSET)  # onnx's type stubs lag behind its OpSchema
    if schema is None:
        return None
    if schema.has_context_dependent_function:
        names = {value: f"v{position}" for position, value in enumerate(node.inputs) if value is not None}
        names.update((value, f"o{position}" if value.use_count else "") for position, value in enumerate(node.outputs))
        types = [(TypeProto() if value is None else type_of(value)).SerializeToString() for value in node.inputs]
        version = max(schema.context_dependent_function_opset_versions)
        data = node_to_proto(node, names).SerializeToString()
        return _parse(schema.get_context_dependent_function_with_opset_version(version, data, types))
    if schema.has_function:
        version = max(schema.function_opset_versions)
        return _parse(schema.get_function_with_opset_version(version))
    return None


def _parse(data: bytes) -> FunctionProto:
    proto = FunctionProto()
    proto.ParseFromString(data)
    return proto


def _attributes_of(node: Node) -> dict[str, AttributeProto | None]:
    """The node's attributes as messages, with the schema's defaults for those left out (None where it has none)."""
    found: dict[str, AttributeProto | None] = {}
    schema = schema_of(node.op, node.domain, CANONICAL_OPSET)
    if schema is not None:
        for name, attribute in schema.attributes.items():
            default = attribute.default_value
            found[name] = default if default is not None and default.name else None
    for attribute in node_to_proto(node).attribute:
        found[attribute.name] = attribute
    return found


def _bind(proto: NodeProto, given: dict[str, AttributeProto], absent: set[str]) -> None:
    """Replace references to the function's attributes by their values and operands left out by empty names."""
    for position, name in enumerate(proto.input):
        if name in absent:
            proto.input[position] = ""
    kept = []
    for attribute in proto.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in given:
                continue
            fixed = AttributeProto()
            fixed.CopyFrom(given[attribute.ref_attr_name])
            fixed.name = attribute.name
            kept.append(fixed)
            continue
        for body in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
            for inner in body.node:
                _bind(inner, given, absent)
        kept.append(attribute)
    del proto.attribute[:]
    proto.attribute.extend(kept)


_AXES_TO_INPUT = {
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare", "Squeeze", "Unsqueeze",
}  # fmt: skip


def _modernise(graph: Graph, function: str) -> None:
    """Bring body nodes of older opsets (11 and later occur in onnx's functions) to the canonical opset.

    The body of AffineGrid squeezes all axes of extent one where it means the second, which breaks it for one sample.
    """
    for node in graph.nodes:
        if node.op in _AXES_TO_INPUT and node.has("axes"):
            axes = node.attributes.pop("axes")
            node.set_input(1, graph.constant(np.array(axes, np.int64), "axes"))
        elif node.op == "Squeeze" and function == "AffineGrid" and node.input(1) is None:
            node.set_input(1, graph.constant(np.array([1], np.int64), "axes"))
        elif node.op == "Split" and node.has("split"):
            node.set_input(1, graph.constant(np.array(node.attributes.pop("split"), np.int64), "split"))
        elif node.op == "Split" and node.input(1) is None and not node.has("num_outputs"):
            node.attributes["num_outputs"] = len(node.outputs)
        for body in node.subgraphs:
            _modernise(body, function)
