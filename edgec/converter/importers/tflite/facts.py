"""What a ``.tflite`` file holds, for ``edgec inspect`` and for reports."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from edgec.converter.importers.tflite.contents import FlatModel, FlatTensor
from edgec.converter.importers.tflite.flatbuffer import read_flatbuffer
from edgec.converter.importers.tflite.importer import interface_names
from edgec.converter.source import SourceNode, SourceNodes

BITS = {
    "BFLOAT16": 16,
    "BOOL": 8,
    "FLOAT16": 16,
    "FLOAT32": 32,
    "FLOAT64": 64,
    "INT4": 4,
    "INT8": 8,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "UINT8": 8,
    "UINT16": 16,
    "UINT32": 32,
    "UINT64": 64,
}


def inspect_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Facts about a LiteRT flatbuffer; weights are not read.

    Returns:
        ``size`` in bytes, ``version`` of the schema, ``description``, ``subgraphs``, ``signatures`` (names),
        ``inputs`` and ``outputs`` (name, tensor, dtype, shape with null for unknown extents, quantization),
        ``dynamic_dims``, ``operators`` (name to count, all subgraphs), ``operator_count``, ``quantization`` (tensors
        per kind: ``per_tensor``, ``per_axis``, by dtype), ``parameters`` (elements), ``parameter_bytes`` and
        ``by_dtype``, ``metadata`` (names).

    Raises:
        ModelError: EDG101, EDG102, EDG109, EDG112, EDG114.
    """
    source = read_flatbuffer(path)
    input_names, output_names = interface_names(source)
    flat = source.graphs[0]
    operators = Counter(op.title for graph in source.graphs for op in graph.operators)
    inputs = [_interface(name, flat.tensors[index]) for name, index in zip(input_names, flat.inputs)]
    outputs = [_interface(name, flat.tensors[index]) for name, index in zip(output_names, flat.outputs)]
    by_dtype = _parameters(source)
    return {
        "size": source.size,
        "version": source.version,
        "description": source.description,
        "subgraphs": len(source.graphs),
        "signatures": [item.key for item in source.signatures],
        "inputs": inputs,
        "outputs": outputs,
        "dynamic_dims": {
            item["name"]: [axis for axis, dim in enumerate(item["shape"]) if dim is None]
            for item in inputs
            if None in item["shape"]
        },
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        "operator_count": sum(operators.values()),
        "quantization": _quantization(source),
        "parameters": sum(entry["elements"] for entry in by_dtype.values()),
        "parameter_bytes": sum(entry["bytes"] for entry in by_dtype.values()),
        "by_dtype": dict(sorted(by_dtype.items())),
        "metadata": list(source.metadata),
    }


def source_nodes(path: Path) -> SourceNodes:
    """The operators of the first graph, in its order, under the names that refusals use."""
    found = SourceNodes()
    flat = read_flatbuffer(path).graphs[0]
    for op in flat.operators:
        found.nodes.append(SourceNode(op.index, op.name, op.title))
        found.by_name.setdefault(op.name, []).append(op.index)
        for index in op.inputs:
            if index >= 0:
                found.by_input.setdefault(flat.tensors[index].name, []).append(op.index)
    return found


def _interface(name: str, tensor: FlatTensor) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "tensor": tensor.name,
        "dtype": tensor.kind.lower(),
        "shape": [None if extent < 0 else extent for extent in tensor.signature],
    }
    quantization = tensor.quantization
    if quantization is not None and quantization.per_tensor:
        entry["quantization"] = {
            "scale": float(quantization.scales[0]),
            "zero_point": int(quantization.zero_points[0]),
        }
    return entry


def _quantization(source: FlatModel) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for graph in source.graphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                kind = "per_tensor" if tensor.quantization.per_tensor else "per_axis"
                counts[f"{tensor.kind.lower()} {kind}"] += 1
    return dict(sorted(counts.items()))


def _parameters(source: FlatModel) -> dict[str, dict[str, int]]:
    by_dtype: dict[str, dict[str, int]] = {}
    for graph in source.graphs:
        for tensor in graph.tensors:
            if tensor.load is None:
                continue
            elements = math.prod(tensor.shape)
            entry = by_dtype.setdefault(tensor.kind.lower(), {"elements": 0, "bytes": 0})
            entry["elements"] += elements
            entry["bytes"] += (elements * BITS.get(tensor.kind, 8) + 7) // 8
    return by_dtype
