"""What a model file holds, without reading its weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto

from edgec.converter.importers.onnx.importer import parsing
from edgec.converter.importers.onnx.reader import ModelFile, open_model, tensor_type
from edgec.errors import ModelError
from edgec.ir.proto import NAMELESS
from edgec.ir.types import DataType, Dim

CONTROL_FLOW = ("If", "Loop", "Scan")


def inspect_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Facts about an ONNX file as the JSON document of ``edgec inspect`` holds them.

    Returns:
        ``ir_version``, ``opset``, ``domains`` (name to version), ``producer``, ``inputs`` and ``outputs`` (name, dtype,
        shape with names or null for unknown extents), ``dynamic_dims`` (input to unknown extents), ``nodes``,
        ``operators`` (name to count, those of control-flow bodies and functions included), ``control_flow``,
        ``functions``, ``parameters`` (elements) and ``parameter_bytes``, both also ``by_dtype``; ``size`` of the file
        in bytes, ``external_data`` (file to bytes, null where it is missing), ``metadata``.

    Raises:
        ModelError: EDG101 to EDG105 and EDG112 for what is no readable model, EDG109 for a malformed one.
    """
    file = open_model(path)
    with parsing(file.path):
        return _facts(file)


def _facts(file: ModelFile) -> dict[str, Any]:
    proto = file.proto
    domains = {entry.domain or "ai.onnx": int(entry.version) for entry in proto.opset_import}
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    nodes = [node for body in bodies for node in _walk(body)]
    operators = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in nodes
    )
    tensors = [*_tensors(proto.graph), *(tensor for f in proto.functions for tensor in _attribute_tensors(f.node))]
    by_dtype: dict[str, dict[str, int]] = {}
    external: dict[str, int | None] = {}
    for tensor in tensors:
        _count(file, tensor, by_dtype, external)
    constants = {item.name for item in proto.graph.initializer}
    inputs = [_interface(entry) for entry in proto.graph.input if entry.name not in constants]
    return {
        "ir_version": int(proto.ir_version),
        "opset": domains.get("ai.onnx", 1),
        "domains": domains,
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "inputs": inputs,
        "outputs": [_interface(entry) for entry in proto.graph.output],
        "dynamic_dims": {
            item["name"]: [dim for dim in item["shape"] if not isinstance(dim, int)]
            for item in inputs
            if item["shape"] is not None and any(not isinstance(dim, int) for dim in item["shape"])
        },
        "nodes": len(proto.graph.node),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        "control_flow": {op: operators[op] for op in CONTROL_FLOW if operators[op]},
        "functions": [f"{item.domain}.{item.name}" for item in proto.functions],
        "parameters": sum(entry["elements"] for entry in by_dtype.values()),
        "parameter_bytes": sum(entry["bytes"] for entry in by_dtype.values()),
        "by_dtype": dict(sorted(by_dtype.items())),
        "size": file.size,
        "external_data": dict(sorted(external.items())),
        "metadata": {item.key: item.value for item in proto.metadata_props},
    }


def _count(
    file: ModelFile, proto: TensorProto, by_dtype: dict[str, dict[str, int]], external: dict[str, int | None]
) -> None:
    if proto.data_type == TensorProto.STRING:
        dtype, shape = DataType.STRING, tuple(proto.dims)
    else:
        dtype, shape = tensor_type(proto)
    elements = 1
    for dim in shape:
        elements *= dim
    entry = by_dtype.setdefault(dtype.label, {"elements": 0, "bytes": 0})
    entry["elements"] += elements
    entry["bytes"] += (elements * dtype.bits + 7) // 8
    location = next((item.value for item in proto.external_data if item.key == "location"), "")
    if proto.data_location == TensorProto.EXTERNAL and location and location not in external:
        try:
            file.external.load(proto)
        except ModelError as error:
            if error.code != "EDG107":
                raise
        external[location] = file.external.files.get(location)


def _interface(entry: ValueInfoProto) -> dict[str, Any]:
    kind = entry.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": entry.name, "dtype": _type_name(entry.type), "shape": None}
    tensor = entry.type.tensor_type
    shape: list[Dim] | None = None
    if tensor.HasField("shape"):
        shape = [_dim(dim) for dim in tensor.shape.dim]
    return {"name": entry.name, "dtype": DataType(tensor.elem_type).label, "shape": shape}


def _dim(proto: TensorShapeProto.Dimension) -> Dim:
    if proto.HasField("dim_value"):
        return int(proto.dim_value) if proto.dim_value >= 0 else None
    return None if proto.dim_param in NAMELESS else proto.dim_param


def _type_name(proto: TypeProto) -> str:
    kind = str(proto.WhichOneof("value") or "undefined_type")
    return kind.removesuffix("_type")


def _walk(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for body in _bodies(node):
            yield from _walk(body.node)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Initializers and tensor attributes, those of control-flow bodies included."""
    yield from graph.initializer
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for body in _bodies(node):
            yield from _tensors(body)
