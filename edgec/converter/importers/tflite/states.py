"""Variables that a LiteRT model keeps between calls: they become inputs and outputs.

A call reads the state from an input ``NAME`` and hands the next one out as ``NAME_next``; who runs the model feeds it
back.  The values that CALL_ONCE assigns are what the inputs have to be at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.contents import FlatOperator, FlatTensor
from edgec.converter.importers.tflite.flatbuffer import text
from edgec.converter.importers.tflite.reading import is_quantized, unsupported
from edgec.ir.graph import Value
from edgec.ir.types import Array

if TYPE_CHECKING:
    from edgec.converter.importers.tflite.translator import Stored, Translator

STATEFUL = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})

Key = tuple[str, str]


@dataclass
class State:
    """One variable.

    Attributes:
        name: of the input.
        tensor: what the file says of its contents.
        current: its value at this point of the graph.
        assigned: whether the graph changes it.
    """

    name: str
    tensor: FlatTensor
    input: Value
    current: Stored
    assigned: bool = False


class States:
    """All variables of a model."""

    def __init__(self, translator: Translator):
        self._translator = translator
        self._handles: dict[int, Key] = {}
        self._pending: dict[Key, tuple[FlatTensor, Stored]] = {}
        self.states: dict[Key, State] = {}
        self.initial: dict[Key, Array] = {}

    def read(self, op: FlatOperator) -> None:
        """Translate one operator that handles variables.

        Raises:
            UnsupportedError: EDG201, a form that is not known.
        """
        match op.code:
            case "VAR_HANDLE":
                self._handles[op.outputs[0]] = _key(op)
            case "CALL_ONCE":
                self._initialise(op)
            case "READ_VARIABLE":
                self._read(op)
            case _:
                self._assign(op)

    def _read(self, op: FlatOperator) -> None:
        from edgec.converter.importers.tflite.translator import Stored

        translator = self._translator
        key = self._key_of(op)
        tensor = translator.tensors[op.outputs[0]]
        if key in self._pending:  # assigned earlier in this call
            source, stored = self._pending[key]
            _require_same(op, source, tensor)
            translator.values[tensor.index] = stored
            return
        if key not in self.states:
            if tensor.dtype is None or any(extent < 0 for extent in tensor.signature):
                raise unsupported(op, f"the variable is of the type {tensor.kind} and the shape {tensor.signature}")
            graph = translator.emitter.graph
            value = graph.value(key[1] or op.name, tensor.dtype, tensor.shape)
            graph.inputs.append(value)
            self.states[key] = State(value.name, tensor, value, Stored(value, False))
        state = self.states[key]
        _require_same(op, state.tensor, tensor)
        translator.values[tensor.index] = state.current

    def _assign(self, op: FlatOperator) -> None:
        translator = self._translator
        key, tensor = self._key_of(op), translator.tensors[op.inputs[1]]
        translator.raw(tensor.index, False)
        if key in self.states:
            state = self.states[key]
            _require_same(op, state.tensor, tensor)
            state.current, state.assigned = translator.values[tensor.index], True
        else:
            self._pending[key] = (tensor, translator.values[tensor.index])

    def _initialise(self, op: FlatOperator) -> None:
        """The constants that the subgraph of a CALL_ONCE assigns."""
        graphs = self._translator.model.graphs
        index = op.options(schema.CallOnceOptions).InitSubgraphIndex()
        if not 0 < index < len(graphs):
            raise ValueError(f"CALL_ONCE of subgraph {index} of {len(graphs)}")
        handles: dict[int, Key] = {}
        for inner in graphs[index].operators:
            if inner.code == "VAR_HANDLE":
                handles[inner.outputs[0]] = _key(inner)
            elif inner.code == "ASSIGN_VARIABLE":
                load = graphs[index].tensors[inner.inputs[1]].load
                if load is None or inner.inputs[0] not in handles:
                    raise unsupported(inner, "the initial value of a variable is computed")
                self.initial[handles[inner.inputs[0]]] = load()
            else:
                raise unsupported(inner, "an operator other than ASSIGN_VARIABLE initialises variables")

    def finish(self) -> list[dict[str, Any]]:
        """Add the graph's outputs; returns a description of every state."""
        translator = self._translator
        graph = translator.emitter.graph
        described = []
        for key, state in self.states.items():
            stored = state.current
            value = stored.last
            if value is None:
                assert stored.first is not None
                from edgec.converter.importers.tflite.graph import channels_last

                value = stored.last = translator.emitter.transpose(stored.first, channels_last(len(state.tensor.shape)))
            name = graph.unique(f"{state.name}_next")
            graph.add_output(name, value)
            entry: dict[str, Any] = {"input": state.name, "output": name}
            initial = self.initial.get(key)
            if initial is not None:
                if initial.shape != state.tensor.shape:
                    raise ValueError(f"the variable '{state.name}' is initialised with the shape {initial.shape}")
                uniform = initial.size and (initial == initial.reshape(-1)[0]).all()
                entry["initial"] = initial.reshape(-1)[0].item() if uniform else initial.tolist()
            described.append(entry)
        return described

    def _key_of(self, op: FlatOperator) -> Key:
        key = self._handles.get(op.inputs[0]) if op.inputs else None
        if key is None:
            raise unsupported(op, "its variable is not that of a VAR_HANDLE in the same graph")
        return key


def _key(op: FlatOperator) -> Key:
    options = op.options(schema.VarHandleOptions)
    return text(options.Container()), text(options.SharedName())


def _require_same(op: FlatOperator, one: FlatTensor, other: FlatTensor) -> None:
    """A variable must be read as what was assigned to it."""
    same = one.shape == other.shape and one.dtype is other.dtype
    if same and is_quantized(one) and one.quantization is not None:
        same = one.quantization.equals(other.quantization)
    if not same:
        raise unsupported(op, "the variable is read as another type or shape than it was assigned")
