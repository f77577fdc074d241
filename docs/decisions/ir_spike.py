"""What the ways of holding a graph cost: `python docs/decisions/ir_spike.py KIND FILE`.

KIND is `protobuf`, `onnx-ir`, `onnx-ir-without-sympy` or `edgec`; one process per measurement.  Prints one line.
"""

from __future__ import annotations

import resource
import sys
import time
import types
from collections.abc import Iterator
from typing import Any


class _Empty(types.ModuleType):
    """Stands for sympy: every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Import, load, walk and rewrite; CPU seconds and peak memory of each."""
    kind, path = sys.argv[1], sys.argv[2]
    import onnx

    figures = [f"{kind}: with onnx {_megabytes():.0f} MB"]
    clock = time.process_time()

    def note(what: str) -> None:
        nonlocal clock
        figures.append(f"{what} {time.process_time() - clock:.3f} s, {_megabytes():.0f} MB")
        clock = time.process_time()

    if kind == "onnx-ir-without-sympy":
        sys.modules["sympy"] = _Empty("sympy")
    if kind.startswith("onnx-ir"):
        import onnx_ir

        note("import")
        graph: Any = onnx_ir.load(path).graph
    elif kind == "edgec":
        from edgec.converter.importers.onnx import import_model

        note("import")
        graph = import_model(path).model.graph
    else:
        graph = onnx.load(path).graph
    note("load")
    for _ in range(10):
        _producers(kind, graph)
    note("10 walks")
    _replace(kind, graph)
    note("replacements")
    print("; ".join(figures))


def _producers(kind: str, graph: Any) -> int:
    def found() -> Iterator[Any]:
        if kind.startswith("onnx-ir"):
            yield from (value.producer() for node in graph for value in node.inputs if value is not None)
        elif kind == "edgec":
            yield from (value.producer for node in graph.nodes for value in node.inputs if value is not None)

    return sum(1 for producer in found() if producer is not None)


def _replace(kind: str, graph: Any) -> None:
    """Put Abs in the place of every Relu."""
    if kind.startswith("onnx-ir"):
        import onnx_ir

        for node in list(graph):
            if node.op_type == "Relu":
                made = onnx_ir.Node("", "Abs", inputs=list(node.inputs))
                onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], [made], node.outputs, made.outputs)
    elif kind == "edgec":
        from edgec.ir.passes.base import replace_node

        for node in graph.nodes:
            if node.op == "Relu":
                replace_node(graph, node, graph.build(node, "Abs", [node.input(0)]).output)


if __name__ == "__main__":
    main()
