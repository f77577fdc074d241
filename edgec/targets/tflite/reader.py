"""Facts about a LiteRT flatbuffer, read from its bytes."""

from __future__ import annotations

import mmap
from collections import Counter
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_TYPES = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def inspect(path: Path) -> dict[str, Any]:
    """Inputs, outputs, operator counts, parameter bytes and file size of a ``.tflite``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no LiteRT flatbuffer.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] != b"TFL3":
            raise ValueError(f"{path.name} is no LiteRT flatbuffer")
        model = schema.Model.GetRootAsModel(data, 0)
        graphs = [_graph(model, model.Subgraphs(index)) for index in range(model.SubgraphsLength())]
        size = len(data)
        del model
    operators: Counter[str] = Counter()
    for graph in graphs:
        operators.update(graph.pop("operators"))
    return {
        "size": size,
        "subgraphs": len(graphs),
        "inputs": graphs[0]["inputs"],
        "outputs": graphs[0]["outputs"],
        "operators": dict(sorted(operators.items())),
        "operator_count": sum(operators.values()),
    }


def _graph(model: Any, graph: Any) -> dict[str, Any]:
    def tensor(index: int) -> dict[str, Any]:
        entry = graph.Tensors(index)
        shape = [entry.Shape(axis) for axis in range(entry.ShapeLength())]
        return {"name": entry.Name().decode(), "dtype": _TYPES[entry.Type()].lower(), "shape": shape}

    operators: Counter[str] = Counter()
    for index in range(graph.OperatorsLength()):
        code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _OPERATORS.get(number, str(number))
        operators[f"CUSTOM:{code.CustomCode().decode()}" if name == "CUSTOM" else name] += 1
    return {
        "inputs": [tensor(graph.Inputs(index)) for index in range(graph.InputsLength())],
        "outputs": [tensor(graph.Outputs(index)) for index in range(graph.OutputsLength())],
        "operators": operators,
    }
