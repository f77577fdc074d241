"""A LiteRT model whose variables are inputs and outputs, for reference.

The operators that handle variables are taken out of the flatbuffer; everything else, weights and quantization included,
stays as it is, so that LiteRT computes one step from any state.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

VARIABLE_CODES = {
    schema.BuiltinOperator.VAR_HANDLE: "handle",
    schema.BuiltinOperator.READ_VARIABLE: "read",
    schema.BuiltinOperator.ASSIGN_VARIABLE: "assign",
    schema.BuiltinOperator.CALL_ONCE: "once",
}


def with_explicit_states(content: bytes) -> bytes:
    """The flatbuffer without variables: their contents are further inputs, in the order in which they are first read,
    and what they become further outputs, in the same order.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    handles: dict[int, Any] = {}
    current: dict[Any, int] = {}
    renamed: dict[int, int] = {}
    first: dict[Any, int] = {}
    kept = []
    for op in graph.operators:
        op.inputs = [renamed.get(int(index), int(index)) for index in _list(op.inputs)]
        code = model.operatorCodes[op.opcodeIndex]
        kind = VARIABLE_CODES.get(max(code.builtinCode, code.deprecatedBuiltinCode))
        if kind == "handle":
            handles[int(op.outputs[0])] = (op.builtinOptions.container, op.builtinOptions.sharedName)
        elif kind == "read":
            key, result = handles[op.inputs[0]], int(op.outputs[0])
            if key in current:
                renamed[result] = current[key]
            else:
                current[key] = first[key] = result
        elif kind == "assign":
            key = handles[op.inputs[0]]
            current[key] = op.inputs[1]
        elif kind is None:
            kept.append(op)
    graph.operators = kept
    graph.inputs = [*_list(graph.inputs), *first.values()]
    graph.outputs = [*(renamed.get(index, index) for index in _list(graph.outputs)), *(current[key] for key in first)]
    model.subgraphs = [graph]
    model.signatureDefs = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _list(vector: Any) -> list[int]:
    return [] if vector is None else [int(item) for item in vector]
