"""The cases: every ONNX backend test with its model, its stored inputs and outputs, and what the tables need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from . import binding

SETS: Final = ("node", "pytorch-converted", "pytorch-operator", "simple")

#: Element types of graph inputs and outputs that an edge runtime can hold; the others are out of scope.
IN_SCOPE: Final = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
)

RANDOM_OPERATORS: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


@dataclass(frozen=True)
class DataSet:
    """Stored inputs (by name) and outputs (by name, in graph order) of one run."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One backend test, raw (as stored) or bound (parameters as initializers)."""

    set: str
    name: str
    folder: Path
    bound: bool = False
    base: Path | None = field(default=None, repr=False)  # the unexpanded twin of an `_expanded` test

    @property
    def key(self) -> str:
        return f"{self.set}/{self.name}" + ("/bound" if self.bound else "")

    @cached_property
    def stored(self) -> onnx.ModelProto:
        """The model as stored in the test data."""
        return onnx.load(self.folder / "model.onnx", load_external_data=False)

    @cached_property
    def parameters(self) -> list[str]:
        """Inputs that become initializers in the bound variant.  An expanded function follows its unexpanded twin."""
        if self.base is None:
            return binding.parameter_names(self.stored)
        twin = onnx.load(self.base / "model.onnx", load_external_data=False)
        present = {value.name for value in self.stored.graph.input}
        return [name for name in binding.parameter_names(twin) if name in present]

    @cached_property
    def model(self) -> onnx.ModelProto:
        if not self.bound or not self.parameters:
            return self.stored
        return binding.bind(self.stored, self.parameters, self._stored_sets[0].inputs)

    @cached_property
    def out_of_scope(self) -> str | None:
        """Why the case is out of scope (an input or output type), or None when it is in scope."""
        for value in (*self.stored.graph.input, *self.stored.graph.output):
            kind: str | None = value.type.WhichOneof("value")
            if kind != "tensor_type":
                return (kind or "untyped").removesuffix("_type")
            element = value.type.tensor_type.elem_type
            if element not in IN_SCOPE:
                return str(TensorProto.DataType.Name(element)).lower()
        return None

    @property
    def expanded(self) -> bool:
        return "_expanded" in self.name

    @property
    def core(self) -> bool:
        """Rank <= 4 everywhere, and no attention, _expanded or training_dropout test."""
        special = self.expanded or "training_dropout" in self.name or self.name.startswith("test_attention")
        return not special and self.rank <= 4

    @cached_property
    def rank(self) -> int:
        """The highest rank of any input, output, initializer or inferred intermediate value."""
        ranks = [len(tensor.dims) for tensor in self.stored.graph.initializer]
        try:
            graph = onnx.shape_inference.infer_shapes(self.stored).graph
        except onnx.shape_inference.InferenceError:
            graph = self.stored.graph
        for value in (*graph.input, *graph.output, *graph.value_info):
            ranks.append(len(value.type.tensor_type.shape.dim))
        return max(ranks, default=0)

    @property
    def random(self) -> bool:
        """The stored outputs cannot be reproduced by anyone: a generator, or Dropout in training mode."""
        return "training_dropout" in self.name or any(n.op_type in RANDOM_OPERATORS for n in self.stored.graph.node)

    @cached_property
    def operator(self) -> str:
        """The operator that the case is about: of its unexpanded twin, or of its own nodes."""
        nodes = onnx.load(self.base / "model.onnx").graph.node if self.base else self.stored.graph.node
        names = dict.fromkeys(node.op_type for node in nodes if node.op_type != "Constant") or {"Constant": None}
        return " + ".join(names) if len(names) <= 3 else f"{next(iter(names))} + {len(names) - 1} others"

    @cached_property
    def dynamic_inputs(self) -> list[str]:
        """Graph inputs with a symbolic, unnamed or missing dimension; a user gives their shape."""
        held = {tensor.name for tensor in self.model.graph.initializer}
        return [
            value.name
            for value in self.model.graph.input
            if value.name not in held
            and (
                not value.type.tensor_type.HasField("shape")
                or any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
            )
        ]

    @cached_property
    def _stored_sets(self) -> list[DataSet]:
        held = {tensor.name for tensor in self.stored.graph.initializer}
        inputs = [value.name for value in self.stored.graph.input]
        fed = [name for name in inputs if name not in held]
        outputs = [value.name for value in self.stored.graph.output]
        sets = []
        for folder in sorted(self.folder.glob("test_data_set_*"), key=_number):
            stored = [_array(path) for path in sorted(folder.glob("input_*.pb"), key=_number)]
            names = inputs if len(stored) == len(inputs) else fed
            given = {name: array for name, array in zip(names, stored, strict=True) if name in fed}
            expected = [_array(path) for path in sorted(folder.glob("output_*.pb"), key=_number)]
            sets.append(DataSet(given, dict(zip(outputs, expected, strict=True))))
        return sets

    @cached_property
    def data(self) -> list[DataSet]:
        """Stored data sets, inputs in graph order, less those that the variant holds as initializers."""
        hidden = set(self.parameters) if self.bound else set()
        return [DataSet({k: v for k, v in s.inputs.items() if k not in hidden}, s.outputs) for s in self._stored_sets]


def _number(path: Path) -> int:
    found = re.search(r"_(\d+)(?:\.pb)?$", path.name)
    return int(found.group(1)) if found else 0


def _array(path: Path) -> np.ndarray:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def enumerate_cases(data: Path, set_name: str, pattern: str = "") -> Iterator[Case]:
    """The raw cases of one set under the backend test data folder `data`, sorted by name, filtered by a regex."""
    folder = data / set_name
    for path in sorted(folder.iterdir()):
        if not (path / "model.onnx").is_file() or not re.search(pattern, path.name):
            continue
        base = folder / path.name.split("_expanded")[0]
        yield Case(set_name, path.name, path, base=base if "_expanded" in path.name and base.is_dir() else None)


def bound_variant(case: Case) -> Case | None:
    """The case with its parameters bound, or None where that changes nothing (the raw result then holds)."""
    if not case.parameters:
        return None
    return Case(case.set, case.name, case.folder, bound=True, base=case.base)
