"""The way of a LiteRT flatbuffer into the IR."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.converter.importers.imported import ImportedModel, Original, SourceOptions, Way
from edgec.converter.importers.onnx.shapes import bind_shapes
from edgec.converter.importers.tflite.contents import FlatGraph, FlatModel, FlatTensor
from edgec.converter.importers.tflite.flatbuffer import read_flatbuffer
from edgec.converter.importers.tflite.graph import as_shape
from edgec.converter.importers.tflite.translator import Translator
from edgec.errors import UnsupportedError
from edgec.ir.graph import Graph, Model, Value
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.untrusted import malformed_as_error
from edgec.targets.base import SessionSpec
from edgec.targets.tflite.graph import Signature
from edgec.targets.tflite.integer.exactness import LITERT, ORIGIN

FACTORY = "edgec.converter.importers.tflite.session:open_session"
SIGNATURE = "serving_default"
HYBRID = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"})
"""Operators with kernels for float data and integer weights."""

STATES = "edgec.states"
"""Key of the model's metadata under which states are described."""


def import_model(path: str | os.PathLike[str], options: SourceOptions | None = None) -> ImportedModel:
    """Read a ``.tflite`` file.  Weights stay in the file until they are used.

    Inputs and outputs go by the names of the signature where the file has one, else by those of the tensors; order,
    element types and layout are those of the file.  Quantized models become QuantizeLinear and DequantizeLinear around
    operators on float32.  Variables become inputs and outputs, see :mod:`edgec.converter.importers.tflite.states`.

    Raises:
        ModelError: EDG101, EDG102, EDG109, EDG111, EDG112, EDG114.
        UnsupportedError: EDG201 for an operator that is not known, by its name and place.
        UsageError: EDG001 and EDG002 for shapes that do not name an input or contradict each other.
    """
    source = read_flatbuffer(path)
    file = Path(path)
    with malformed_as_error(file):
        return _import(source, file, options or SourceOptions())


def _import(source: FlatModel, file: Path, options: SourceOptions) -> ImportedModel:
    flat = source.graphs[0]
    input_names, output_names = interface_names(source)
    graph = Graph(flat.name or "graph")
    for name in output_names:
        graph.unique(name)
    values: dict[int, Value] = {}
    for index, name in zip(flat.inputs, input_names):
        if index in values:
            raise ValueError(f"the tensor '{flat.tensors[index].name}' is an input twice")
        value = _input(flat.tensors[index], name)
        graph.unique(name)
        values[index] = value
        graph.inputs.append(value)
    model = Model(graph, CANONICAL_OPSET, ir_version=10, producer="edgec", doc=source.description)
    if any(tensor.quantization is not None for tensor in flat.tensors):
        model.metadata[ORIGIN] = LITERT
    overrides, bound = bind_shapes(model, options)
    notes = [*_notes(source), *bound]
    translator = Translator(source, flat, graph, values)
    translator.run()
    for index, name in zip(flat.outputs, output_names):
        if flat.tensors[index].dtype is None:
            raise _untyped(flat.tensors[index], "output")
        graph.add_output(name, translator.raw(index, False))
    states = translator.states.finish()
    if states:
        model.metadata[STATES] = json.dumps(states)
        notes.extend(_state_notes(states))
    _remove_unused(graph)
    original = _original(file, input_names, output_names, states)
    return ImportedModel(model, file, CANONICAL_OPSET, original, overrides, notes)


def _original(
    file: Path, input_names: Sequence[str], output_names: Sequence[str], states: Sequence[dict[str, Any]]
) -> Original:
    """LiteRT as it runs by default, with XNNPACK; its built-in kernels are the other way of computing the same."""
    options: dict[str, Any] = {
        "inputs": [*input_names, *(state["input"] for state in states)],
        "outputs": [*output_names, *(state["output"] for state in states)],
        "states": bool(states),
    }
    note = "LiteRT runs the original with its variables turned into inputs and outputs" if states else ""
    way = Way(SessionSpec(FACTORY, options), SessionSpec(FACTORY, {**options, "xnnpack": False}), note)
    return Original(file, "LiteRT", "ai-edge-litert", (way,), steps=1)


def interface_names(source: FlatModel) -> tuple[list[str], list[str]]:
    """The names of inputs and outputs, in the order of the graph, each different."""
    flat = source.graphs[0]
    signature = primary_signature(source)
    inputs = _names(flat, flat.inputs, signature.inputs if signature else (), "input", ())
    return inputs, _names(flat, flat.outputs, signature.outputs if signature else (), "output", inputs)


def primary_signature(source: FlatModel) -> Signature | None:
    """The signature that names the inputs and outputs of the first graph."""
    candidates = [item for item in source.signatures if item.graph == 0]
    preferred = [item for item in candidates if item.key == SIGNATURE]
    return (preferred or candidates or [None])[0]  # type: ignore[list-item]


def _names(
    flat: FlatGraph, indices: Sequence[int], named: Sequence[tuple[str, int]], kind: str, taken: Sequence[str]
) -> list[str]:
    waiting: dict[int, list[str]] = {}
    for name, index in named:
        waiting.setdefault(index, []).append(name)
    names: list[str] = []
    used = set(taken)
    for position, index in enumerate(indices):
        candidates = waiting.get(index)
        name = (candidates.pop(0) if candidates else flat.tensors[index].name) or f"{kind}_{position}"
        unique, count = name, 1
        while unique in used:
            unique, count = f"{name}_{count}", count + 1
        used.add(unique)
        names.append(unique)
    return names


def _input(tensor: FlatTensor, name: str) -> Value:
    if tensor.dtype is None:
        raise _untyped(tensor, "input")
    dims = [f"{name}_{axis}" if axis else "batch" for axis in range(len(tensor.shape))]
    return Value(name, tensor.dtype, as_shape(tensor.signature, dims))


def _untyped(tensor: FlatTensor, kind: str) -> UnsupportedError:
    return UnsupportedError(
        "EDG204",
        f"the {kind} '{tensor.name}' is of the type {tensor.kind}, which ONNX has no tensor of",
        where=f"tensor {tensor.index}, '{tensor.name}'",
    )


def _notes(source: FlatModel) -> list[str]:
    others = [item.key for item in source.signatures if item is not primary_signature(source)]
    notes = [f"only the first graph is read, not the signatures {', '.join(others)}"] if others else []
    count = _dynamic(source.graphs[0])
    if count:
        notes.append(
            f"{count} operators have integer weights beside float data, which LiteRT rounds as it runs; the imported "
            "model does not round (--precision dynamic-int8 gives them back for the target tflite)"
        )
    return notes


def _dynamic(flat: FlatGraph) -> int:
    """The number of operators that LiteRT computes with data quantized at run time."""
    count = 0
    for op in flat.operators:
        if op.code not in HYBRID or len(op.inputs) < 2 or min(op.inputs[:2]) < 0:
            continue
        data, weights = (flat.tensors[index] for index in op.inputs[:2])
        count += data.kind == "FLOAT32" and weights.kind in ("INT4", "INT8", "UINT8")
    return count


def _state_notes(states: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    for state in states:
        initial = state.get("initial")
        first = "" if isinstance(initial, list) or initial is None else f", at first all {initial}"
        notes.append(f"the variable '{state['input']}' is an input{first}; feed it with '{state['output']}'")
    return notes


def _remove_unused(graph: Graph) -> None:
    """Drop nodes that nothing uses, such as transpositions that were made in vain."""
    for node in reversed(list(graph.nodes)):
        if not any(value.use_count for value in node.outputs):
            graph.remove(node)
