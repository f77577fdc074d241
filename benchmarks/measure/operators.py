"""Operators of a .tflite file, counted from its bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int) and name.isupper()
}


def count_operators(path: Path) -> dict[str, int]:
    """Operator name (or CUSTOM:name) to its number over all subgraphs."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = NAMES.get(builtin, str(builtin))
        codes.append(f"CUSTOM:{code.CustomCode().decode()}" if name == "CUSTOM" else name)
    counts: Counter[str] = Counter()
    for number in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(number)
        counts.update(codes[subgraph.Operators(index).OpcodeIndex()] for index in range(subgraph.OperatorsLength()))
    return dict(sorted(counts.items()))


def count_inner_transposes(path: Path) -> int:
    """TRANSPOSE operators that neither read a graph input nor write a graph output."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    inner = 0
    for number in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(number)
        edges = {subgraph.Inputs(index) for index in range(subgraph.InputsLength())}
        edges |= {subgraph.Outputs(index) for index in range(subgraph.OutputsLength())}
        for index in range(subgraph.OperatorsLength()):
            operator = subgraph.Operators(index)
            code = model.OperatorCodes(operator.OpcodeIndex())
            if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) != schema.BuiltinOperator.TRANSPOSE:
                continue
            if operator.Inputs(0) not in edges and operator.Outputs(0) not in edges:
                inner += 1
    return inner
