"""Checks that the IR is sound, and that it has the canonical form which targets expect.

Structure is checked after every pass with ``--check-ir`` and in tests; the canonical form at the end of a pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from edgec.errors import EdgecError
from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.inference import CANONICAL_OPSET, infer_node, schema_of
from edgec.ir.passes.base import graphs_of
from edgec.ir.types import DataType, Shape


def check_model(model: Model, *, canonical: bool = False, static: bool = False) -> None:
    """Raise unless the model is sound.

    Always checked: operands are defined before they are used, producers and uses agree in both directions, outputs of
    the model have names, inputs are no constants, operators exist at the canonical opset, declared types are those
    that inference finds, and every node names the source nodes that it came from.

    Args:
        canonical: also require that no Constant, Identity, BatchNormalization with constant statistics, or Shape and
            Size of static values is left, and that every value has an element type.
        static: also require that every extent is known.

    Raises:
        EdgecError: EDG601 with the first finding; ``details["findings"]`` holds up to 20.
    """
    findings = []
    for finding in _findings(model, canonical, static):
        findings.append(finding)
        if len(findings) == 20:
            break
    if findings:
        raise EdgecError(
            "EDG601", findings[0], help="report this with the output of --debug", details={"findings": findings}
        )


def _findings(model: Model, canonical: bool, static: bool) -> Iterator[str]:
    if model.opset != CANONICAL_OPSET:
        yield f"the model follows opset {model.opset}, not {CANONICAL_OPSET}"
    uses: Counter[tuple[Node, Value]] = Counter()
    handed: Counter[Value] = Counter()
    values: dict[Value, None] = {}
    for graph in graphs_of(model.graph):
        for node in graph.nodes:
            uses.update((node, value) for value in node.inputs if value is not None)
            values.update(dict.fromkeys(value for value in node.inputs if value is not None))
            values.update(dict.fromkeys(node.outputs))
        handed.update(graph.outputs)
    yield from _uses_agree(values, uses, handed)
    yield from _scopes(model.graph, set())
    for graph in graphs_of(model.graph):
        if len(graph.output_names) != len(graph.outputs):
            yield f"the graph '{graph.name}' has {len(graph.outputs)} outputs and {len(graph.output_names)} names"
        for node in graph.nodes:
            yield from _node(node, canonical)
            yield from _types(node)
            if static or canonical:
                yield from _typed(node, static)


def _uses_agree(values: dict[Value, None], uses: Counter[tuple[Node, Value]], handed: Counter[Value]) -> Iterator[str]:
    counts: dict[Value, int] = {}
    for (_, value), count in uses.items():
        counts[value] = counts.get(value, 0) + count
    for value in values:
        expected = counts.get(value, 0) + handed[value]
        if value.use_count != expected:
            yield f"'{value.name}' counts {value.use_count} uses and has {expected}"
        if value.const is not None and value.producer is not None:
            yield f"'{value.name}' is a constant and has a producer"
        if value.producer is not None and value.producer.outputs[value.index : value.index + 1] != [value]:
            yield f"'{value.name}' is not output {value.index} of its producer"


def _scopes(graph: Graph, outer: set[Value]) -> Iterator[str]:
    known = set(outer) | set(graph.inputs)
    for value in graph.inputs:
        if value.const is not None or value.producer is not None:
            yield f"the input '{value.name}' is no input: it is constant or produced by a node"
    for node in graph.nodes:
        if node.graph is not graph:
            yield f"'{node.name}' does not know the graph that it is in"
        for operand in node.inputs:
            if operand is not None and operand.const is None and operand not in known:
                yield f"'{node.name}' ({node.op}) uses '{operand.name}' before it is defined"
        for body in node.subgraphs:
            yield from _scopes(body, known)
        known.update(node.outputs)
    for value in graph.outputs:
        if value.const is None and value not in known:
            yield f"the output value '{value.name}' of '{graph.name}' is defined nowhere"


def _node(node: Node, canonical: bool) -> Iterator[str]:
    where = f"'{node.name}' ({node.op})"
    if not node.sources:
        yield f"{where} names no source node"
    if not node.domain and schema_of(node.op, "", CANONICAL_OPSET) is None:
        yield f"{where} is no operator of opset {CANONICAL_OPSET}"
    if canonical and not node.domain:
        first = node.input(0)
        if node.op in ("Constant", "Identity"):
            yield f"{where} is not canonical"
        elif node.op in ("Shape", "Size") and first is not None and first.is_static:
            yield f"{where} asks for a shape that is known"
        elif node.op == "BatchNormalization" and not node.attr_int("training_mode", 0) and _all_constant(node, 1):
            yield f"{where} has constant statistics and is not fused"


def _all_constant(node: Node, first: int) -> bool:
    return all(value is None or value.const is not None for value in node.inputs[first:])


def _types(node: Node) -> Iterator[str]:
    """Whether inference agrees with what is declared; what is declared stays."""
    if not node.domain and schema_of(node.op, "", CANONICAL_OPSET) is None:
        return
    before: list[tuple[DataType, Shape | None]] = [(value.dtype, value.shape) for value in node.outputs]
    try:
        for value in node.outputs:
            value.shape = None
        infer_node(node)
        for value, (dtype, shape) in zip(node.outputs, before):
            if dtype is not DataType.UNDEFINED and value.dtype is not dtype:
                yield f"'{value.name}' is declared {dtype.name} and is {value.dtype.name}"
            if _contradict(shape, value.shape):
                yield f"'{value.name}' is declared {shape} and is {value.shape}"
    except EdgecError as error:
        yield f"'{node.name}' ({node.op}) cannot be typed: {error.why or error.message}"
    finally:
        for value, (dtype, shape) in zip(node.outputs, before):
            value.dtype, value.shape = dtype, shape


def _contradict(declared: Shape | None, found: Shape | None) -> bool:
    if declared is None or found is None:
        return False
    if len(declared) != len(found):
        return True
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(declared, found))


def _typed(node: Node, static: bool) -> Iterator[str]:
    for value in node.outputs:
        if value.type_proto is not None or not value.use_count:
            continue
        if value.dtype is DataType.UNDEFINED:
            yield f"'{value.name}' has no element type"
        elif static and not value.is_static:
            yield f"'{value.name}' has no static shape: {value.shape}"
