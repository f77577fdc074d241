"""Tiny .tflite files, written with LiteRT's own generated schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def unary(
    path: Path,
    operator: str,
    inputs: Sequence[tuple[str, Sequence[int]]],
    outputs: Sequence[str],
    *,
    element: int = schema.TensorType.FLOAT32,
    signature: str = "serving_default",
) -> Path:
    """Write one `operator` per input; a dimension of -1 is dynamic.  Tensor names differ from signature names."""
    tensors, operators, ins, outs = [], [], [], []
    for (name, shape), result in zip(inputs, outputs, strict=True):
        pair = []
        for label in (name, result):
            tensor = schema.TensorT()
            tensor.name, tensor.type, tensor.buffer = f"tensor_{label}", element, 0
            tensor.shape = [max(dim, 1) for dim in shape]
            if min(shape, default=0) < 0:
                tensor.shapeSignature = list(shape)
            tensors.append(tensor)
            pair.append(len(tensors) - 1)
        ins.append(pair[0])
        outs.append(pair[1])
        node = schema.OperatorT()
        node.opcodeIndex, node.inputs, node.outputs = 0, [pair[0]], [pair[1]]
        operators.append(node)
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, operators, ins, outs

    def maps(names: Sequence[str], indices: Sequence[int]) -> list[schema.TensorMapT]:
        made = []
        for name, index in zip(names, indices, strict=True):
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name, index
            made.append(item)
        return made

    entry = schema.SignatureDefT()
    entry.signatureKey, entry.subgraphIndex = signature, 0
    entry.inputs, entry.outputs = maps([name for name, _ in inputs], ins), maps(outputs, outs)
    model = schema.ModelT()
    model.version, model.description = 3, "test"
    model.operatorCodes, model.subgraphs = [code], [graph]
    model.buffers, model.signatureDefs = [schema.BufferT()], [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
