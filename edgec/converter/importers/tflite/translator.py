"""Walks a LiteRT graph and writes the same function as ONNX operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgec.converter.importers.tflite.contents import FlatGraph, FlatModel, FlatOperator, FlatTensor, Quantization
from edgec.converter.importers.tflite.graph import Emitter, channels_first, channels_last
from edgec.converter.importers.tflite.reading import Call, is_quantized, load_table, unsupported
from edgec.converter.importers.tflite.states import STATEFUL, States
from edgec.errors import UnsupportedError
from edgec.ir.graph import Graph, Tensor, Value
from edgec.ir.types import DataType


class Stored:
    """A tensor in the graph, quantized elements as they are stored, in one layout or both.

    Attributes:
        first, last: channels-first and as LiteRT has it.
        made_first: whether it was made channels-first.
        real: the same after DequantizeLinear, by layout.
    """

    __slots__ = ("first", "last", "made_first", "real")

    def __init__(self, value: Value, first: bool):
        self.first = value if first else None
        self.last = None if first else value
        self.made_first = first
        self.real: dict[bool, Value] = {}


class Translator:
    """The state of one import.

    Args:
        inputs: tensor index to the graph's input.
    """

    def __init__(self, model: FlatModel, source: FlatGraph, graph: Graph, inputs: Mapping[int, Value]):
        self.model = model
        self.source = source
        self.tensors = source.tensors
        self.emitter = Emitter(graph)
        self.values: dict[int, Stored] = {index: Stored(value, False) for index, value in inputs.items()}
        self.states = States(self)
        self.table = load_table()
        self._named: set[Value] = set(inputs.values())

    def run(self) -> None:
        """Translate all operators.

        Raises:
            UnsupportedError: EDG201, with the names of all operators that are not known.
        """
        self._require_known()
        for op in self.source.operators:
            self.emitter.source = op.name
            if op.code in STATEFUL:
                self.states.read(op)
                continue
            self.table[op.code].read(Call(self, op, self.table[op.code]))
        self.emitter.source = ""

    def _require_known(self) -> None:
        unknown = [op for op in self.source.operators if op.code not in self.table and op.code not in STATEFUL]
        if not unknown:
            return
        names = sorted({op.title for op in unknown})
        raise UnsupportedError(
            "EDG201",
            f"edgec does not read the operator{'s' if len(names) > 1 else ''} {', '.join(names)}",
            where=f"operator {unknown[0].index}, '{unknown[0].name}'",
            why=_reason(unknown[0]),
            details={
                "operator": unknown[0].title,
                "index": unknown[0].index,
                "nodes": [op.name for op in unknown],
            },
        )

    # values

    def is_first(self, index: int) -> bool:
        """Whether a tensor was made channels-first."""
        stored = self.values.get(index)
        return stored is not None and stored.made_first

    def raw(self, index: int, first: bool) -> Value:
        """A tensor in a layout, quantized elements as they are stored.

        Raises:
            ValueError: no operator has made it yet.
        """
        stored = self.values.get(index)
        if stored is None:
            stored = self.values[index] = Stored(self._constant(self.tensors[index]), False)
        name = self.tensors[index].name
        if first and stored.first is None:
            assert stored.last is not None
            rank = len(self.tensors[index].shape)
            stored.first = self.emitter.transpose(stored.last, channels_first(rank), f"{name}_nchw")
        elif not first and stored.last is None:
            assert stored.first is not None
            rank = len(self.tensors[index].shape)
            stored.last = self.emitter.transpose(stored.first, channels_last(rank), f"{name}_nhwc")
        found = stored.first if first else stored.last
        assert found is not None
        return found

    def real(self, index: int, first: bool) -> Value:
        """A tensor in a layout as real numbers."""
        tensor = self.tensors[index]
        value = self.raw(index, first)
        if not is_quantized(tensor):
            return value
        quantization = tensor.quantization
        assert quantization is not None
        stored = self.values[index]
        if first not in stored.real:
            rank = len(tensor.shape)
            axis = channels_first(rank).index(quantization.axis) if first else quantization.axis
            stored.real[first] = self.dequantize(value, quantization, axis)
        return stored.real[first]

    def put_raw(self, index: int, value: Value, first: bool) -> None:
        """Define a tensor, quantized elements as they are stored."""
        if index in self.values:
            raise ValueError(f"tensor {index} is defined twice")
        name = self.tensors[index].name
        if name and value.producer is not None and value not in self._named:
            value.name = self.emitter.graph.unique(name)
            self._named.add(value)
        self.values[index] = Stored(value, first)

    def put_real(self, index: int, value: Value, first: bool) -> None:
        """Define a tensor by real numbers, which are quantized where the tensor is."""
        tensor = self.tensors[index]
        quantization = tensor.quantization
        if not is_quantized(tensor) or quantization is None:
            self.put_raw(index, value, first)
            return
        if not quantization.per_tensor:
            raise ValueError(f"the activation '{tensor.name}' is quantized per axis")
        scale, zero = self._parameters(value, tensor, quantization)
        self.put_raw(index, self.emitter.one("QuantizeLinear", value, scale, zero), first)

    def dequantize(self, value: Value, quantization: Quantization, axis: int) -> Value:
        """Real numbers for stored ones; ``axis`` is where the scales belong in the value's own layout."""
        shape = () if quantization.per_tensor else (quantization.scales.size,)
        scale = self.emitter.constant(quantization.scales.reshape(shape), "scale")
        zero = self.emitter.constant(quantization.zero_points.astype(value.dtype.numpy).reshape(shape), "zero_point")
        attributes: dict[str, Any] = {} if quantization.per_tensor else {"axis": axis}
        if value.dtype is DataType.INT32:
            return self.emitter.one("DequantizeLinear", value, scale, **attributes)
        return self.emitter.one("DequantizeLinear", value, scale, zero, **attributes)

    def _parameters(self, value: Value, tensor: FlatTensor, quantization: Quantization) -> tuple[Value, Value]:
        assert tensor.dtype is not None
        scale = self.emitter.constant(quantization.scales.reshape(()), "scale")
        zero = self.emitter.constant(quantization.zero_points.astype(tensor.dtype.numpy).reshape(()), "zero_point")
        return scale, zero

    def _constant(self, tensor: FlatTensor) -> Value:
        if tensor.dtype is None:
            raise ValueError(f"the tensor '{tensor.name}' is of the type {tensor.kind}")
        load = tensor.load
        if load is None and 0 in tensor.shape:
            dtype, shape = tensor.dtype, tensor.shape
            load = lambda: np.zeros(shape, dtype.numpy)  # noqa: E731
        if load is None:
            raise ValueError(f"the tensor '{tensor.name}' is used before it is computed")
        return self.emitter.graph.constant(Tensor(tensor.dtype, tensor.shape, load), tensor.name or "const")


def _reason(op: FlatOperator) -> str:
    if op.code == "CUSTOM":
        return f"'{op.custom}' is no builtin operator of LiteRT: only whoever wrote it knows what it computes"
    if op.code in ("IF", "WHILE"):
        return "control flow between subgraphs is not imported"
    return str(unsupported(op, "there is no ONNX form for it in edgec").why)
