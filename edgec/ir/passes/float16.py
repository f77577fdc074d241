"""Compute in float16 what a graph computes in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.half import unfit_array
from edgec.ir.inference import CANONICAL_OPSET, schema_of
from edgec.ir.passes.base import Pass, graphs_of, register
from edgec.ir.types import DataType

STAYING: Final = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial EyeLike ConstantOfShape "
    "HannWindow HammingWindow BlackmanWindow MelWeightMatrix Range CumSum CastLike BitCast "
    "MeanVarianceNormalization".split()
)
"""Operators that stay float32: they quantize, name their result's type, count positions, or (the last) have float32
constants in the body that runtimes expand them to."""


@register
@dataclass(frozen=True)
class Float16(Pass):
    """Turn float32 values, constants included, into float16, with Casts where the two meet.

    Inputs and outputs stay float32 unless ``io``, and where ``keep`` names them.  A node stays float32 when ``keep``
    names it or its operator, when its operator takes no float16 or has a body, and when a constant of it does not fit
    into float16 (it overflows, or rounding loses more than 0.1 % of its size).  Whether the values computed at run time
    fit is for the caller to know: the converter keeps the nodes that do not, by the ranges of their values.

    Source: ONNX operator schemas (type constraints); edgec.ir.half for what fits.
    """

    name: ClassVar[str] = "float16"
    keep: tuple[str, ...] = ()
    io: bool = False

    def apply(self, model: Model) -> bool:
        return _Rewrite(model.graph, self.chosen(model.graph), frozenset(self.keep)).run(self.io)

    def chosen(self, graph: Graph) -> set[Node]:
        """The nodes that will compute in float16."""
        keep = frozenset(self.keep)
        found: set[Node] = set()
        for node in graph.nodes:
            if node.name in keep or node.op in keep or not halvable(node) or unfit_constant(node):
                continue
            if any(_float(node.outputs, _kinds(node.op)[1])):
                found.add(node)
            elif all(value.producer in found for value in node.inputs if value is not None and _computed(value)):
                found.add(node)  # it only reads floats (ArgMax, Greater): a cast in front of it would save nothing
        return found


def halvable(node: Node) -> bool:
    """Whether the operator computes with float32 here and could compute with float16."""
    if node.domain or node.op in STAYING or node.subgraphs or schema_of(node.op, "", CANONICAL_OPSET) is None:
        return False
    if any(value is not None and value.type_proto is not None for value in (*node.outputs, *node.inputs)):
        return False
    if node.has("reduction") and node.op.startswith("Scatter") and node.attr_str("reduction") != "none":
        return False  # ONNX Runtime has no kernel
    takes, gives = _kinds(node.op)
    return any(_float(node.inputs, takes)) or any(_float(node.outputs, gives))


def unfit_constant(node: Node) -> str:
    """Why a constant of the node does not fit into float16; empty when all do."""
    for value, takes in zip(node.inputs, _float(node.inputs, _kinds(node.op)[0])):
        if takes and value is not None and value.const is not None:
            problem = unfit_array(value.const.numpy())
            if problem:
                return f"of the constant '{value.name}': {problem}"
    return ""


def _computed(value: Value) -> bool:
    return value.const is None and value.dtype is DataType.FLOAT


@cache
def _kinds(op: str) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Per formal operand and result of an operator whether it may be float16."""
    schema = schema_of(op, "", CANONICAL_OPSET)
    if schema is None:
        return (), ()
    allowed = {item.type_param_str: "tensor(float16)" in item.allowed_type_strs for item in schema.type_constraints}
    return (
        tuple(allowed.get(formal.type_str, False) for formal in schema.inputs),
        tuple(allowed.get(formal.type_str, False) for formal in schema.outputs),
    )


def _float(values: Sequence[Value | None], kinds: tuple[bool, ...]) -> list[bool]:
    """Per value whether it is float32 and may be float16; the last formal stands for all that follow it."""
    return [
        value is not None and bool(kinds) and kinds[min(position, len(kinds) - 1)] and value.dtype is DataType.FLOAT
        for position, value in enumerate(values)
    ]


class _Rewrite:
    def __init__(self, graph: Graph, half: set[Node], keep: frozenset[str]):
        self.graph, self.half, self.keep = graph, half, keep
        self.takes = {node: _float(node.inputs, _kinds(node.op)[0]) for node in half}
        self.made = [
            value
            for node in graph.nodes
            if node in half
            for value, gives in zip(node.outputs, _float(node.outputs, _kinds(node.op)[1]))
            if gives
        ]
        self.constants: dict[Value, Value] = {}
        self.narrowed: dict[Value, Value] = {}

    def run(self, io: bool) -> bool:
        changed = self._inputs() if io else False
        made = set(self.made)
        for node in list(self.graph.nodes):
            for position, takes in enumerate(self.takes.get(node, ())):
                value = node.operand(position) if takes else None
                if value is not None and value not in made:
                    node.set_input(position, self._narrow(value))
        for value in self.made:
            value.dtype = DataType.FLOAT16
            producer = value.producer
            if producer is not None and producer.op == "Cast":
                producer.attributes["to"] = int(DataType.FLOAT16)
        for value in self.made:
            self._widen(value)
        changed = (self._outputs() if io else False) or changed
        for node in list(self.graph.nodes):
            if node.op == "Cast" and not node.output.use_count:
                self.graph.remove(node)
        return changed or bool(self.half)

    def _narrow(self, value: Value) -> Value:
        """A float32 value as float16: a constant of its own, or one Cast behind its producer."""
        if value not in self.narrowed:
            held = value.const
            if held is not None:
                tensor = Tensor(DataType.FLOAT16, held.shape, lambda: held.numpy().astype(np.float16))
                self.narrowed[value] = self.graph.constant(tensor, f"{value.name}_float16")
            else:
                self.narrowed[value] = self._cast(value, DataType.FLOAT16)
        return self.narrowed[value]

    def _widen(self, value: Value) -> None:
        """Give float32 back to the nodes, bodies and outputs that read a float16 value as float32."""
        users = [
            (user, position)
            for user in value.users
            for position, item in enumerate(user.inputs)
            if item is value and not (user in self.half and self.takes[user][position])
        ]
        places = [
            (graph, position)
            for graph in (graphs_of(self.graph) if value.is_output else ())
            for position, item in enumerate(graph.outputs)
            if item is value
        ]
        if users or places:
            wide = self._cast(value, DataType.FLOAT)
            for user, position in users:
                user.set_input(position, wide)
            for graph, position in places:
                graph.set_output(position, wide)

    def _cast(self, value: Value, dtype: DataType, users: Sequence[Node] = ()) -> Value:
        """The value as ``dtype``, cast behind its producer; ``users`` will read it, where it has none."""
        made = self.graph.value(f"{value.name}_{dtype.label}", dtype, value.shape)
        producer = value.producer
        beside = producer if producer is not None else next(iter((*value.users, *users)), None)
        sources = beside.sources if beside is not None else (value.name,)
        node = Node("Cast", [value], [made], {"to": int(dtype)}, name=made.name, sources=sources)
        first = next(iter(self.graph.nodes), None)
        if producer is not None:
            self.graph.insert_after(producer, node)
        elif first is not None:
            self.graph.insert_before(first, node)
        else:
            self.graph.append(node)
        return made

    # inputs and outputs

    def _inputs(self) -> bool:
        """Make float32 inputs float16, and cast them back for whoever reads float32."""
        changed = False
        for position, value in enumerate(self.graph.inputs):
            if value.dtype is not DataType.FLOAT or value.name in self.keep:
                continue
            changed = True
            fresh = Value(value.name, DataType.FLOAT16, value.shape)
            self.graph.inputs[position] = fresh
            wide = self._cast(fresh, DataType.FLOAT, value.users)
            self.graph.replace(value, wide)
            self.narrowed[wide] = fresh
        return changed

    def _outputs(self) -> bool:
        """Make float32 outputs float16; what is float16 inside is handed out as it is."""
        changed = False
        for position, value in enumerate(self.graph.outputs):
            if value.dtype is not DataType.FLOAT or self.graph.output_names[position] in self.keep:
                continue
            changed = True
            producer = value.producer
            source = producer.operand(0) if producer is not None and producer.op == "Cast" else None
            if source is not None and source.dtype is DataType.FLOAT16:
                self.graph.set_output(position, source)
            elif value.const is not None:
                self.graph.set_output(position, self._narrow(value))
            else:
                self.graph.set_output(position, self._cast(value, DataType.FLOAT16))
        return changed
