"""Facts about a LiteRT flatbuffer for a manifest, read from its bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgec.targets.tflite.graph import FlatTensor, read_mapped


def inspect(path: Path) -> dict[str, Any]:
    """Inputs, outputs, operator counts and file size of a ``.tflite``.

    Raises:
        ModelError: see :func:`edgec.targets.tflite.graph.read`.
    """
    model = read_mapped(path)
    operators = Counter(operator.title for graph in model.graphs for operator in graph.operators)
    return {
        "size": model.size,
        "subgraphs": len(model.graphs),
        "inputs": [_entry(tensor) for tensor in model.main.inputs],
        "outputs": [_entry(tensor) for tensor in model.main.outputs],
        "operators": dict(sorted(operators.items())),
        "operator_count": sum(operators.values()),
    }


def _entry(tensor: FlatTensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.made_with)}
