"""Model-local functions are inlined before anything else looks at the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from edgec.errors import ModelError, UnsupportedError

MAX_NODES = 2_000_000
"""Most nodes that inlining may make."""

Key = tuple[str, str]


def inline_functions(proto: ModelProto) -> ModelProto:
    """The model without local functions.

    Source: ONNX IR specification, "Model Local Functions"; the work is done by ``onnx.inliner``.

    Raises:
        ModelError: EDG109 for a recursive function, EDG112 when inlining would make too many nodes.
        UnsupportedError: EDG201 for a call that cannot be inlined.
    """
    if not proto.functions:
        return proto
    functions = {(item.domain, item.name): item for item in proto.functions}
    total = _cost(proto.graph.node, functions, {}, ())
    if total > MAX_NODES:
        raise ModelError("EDG112", f"inlining the model's functions would make {total} nodes, the limit is {MAX_NODES}")
    import onnx.inliner

    try:
        inlined = onnx.inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError) as error:
        raise ModelError("EDG109", "the model's local functions cannot be inlined", why=str(error)) from error
    for node in _walk(inlined.graph):
        if (node.domain, node.op_type) in functions:
            raise UnsupportedError(
                "EDG201",
                f"the function '{node.op_type}' of domain '{node.domain}' cannot be inlined at '{node.name}'",
                where=f"node '{node.name}'",
                why="the function follows another version of an operator set than the model",
                help="inline it when exporting, or export model and functions at one opset",
            )
    del inlined.functions[:]
    _drop_function_domains(inlined, functions)
    return inlined


def _drop_function_domains(proto: ModelProto, functions: dict[Key, FunctionProto]) -> None:
    domains = {domain for domain, _ in functions} - {node.domain for node in _walk(proto.graph)} - {"", "ai.onnx"}
    kept = [entry for entry in proto.opset_import if entry.domain not in domains]
    copies = [(entry.domain, entry.version) for entry in kept]
    del proto.opset_import[:]
    for domain, version in copies:
        proto.opset_import.add(domain=domain, version=version)


def _walk(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _walk(attribute.g)
            for body in attribute.graphs:
                yield from _walk(body)


def _nested(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _cost(
    nodes: Iterable[NodeProto], functions: dict[Key, FunctionProto], known: dict[Key, int], path: tuple[Key, ...]
) -> int:
    """How many nodes these nodes become."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type)
        if key in functions:
            if key in path or len(path) > 64:
                raise ModelError(
                    "EDG109",
                    f"the function '{key[1]}' of domain '{key[0]}' calls itself",
                    why=" -> ".join(name for _, name in (*path, key)),
                )
            if key not in known:
                known[key] = _cost(functions[key].node, functions, known, (*path, key))
            total += known[key]
        else:
            total += 1
        for body in _nested(node):
            total += _cost(body.node, functions, known, path)
    return total
