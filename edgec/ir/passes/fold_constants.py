"""One forward sweep that types every value, computes what is constant and removes constant control flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgec.errors import ModelError
from edgec.ir.evaluate import evaluate
from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.inference import infer_body_inputs, infer_node
from edgec.ir.passes.base import Pass, register, remove_dead
from edgec.ir.passes.control_flow import inline_if, unroll_loop, unroll_scan
from edgec.ir.proto import all_nodes
from edgec.ir.types import DataType

RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial".split())
GROWING = frozenset("Range ConstantOfShape NonZero Unique Expand Tile Compress Reshape".split())
"""Operators whose result may have an extent that inference does not tell although all operands are constant."""


@register
@dataclass(frozen=True)
class FoldConstants(Pass):
    """Infer types, fold constants, eliminate shape arithmetic, inline constant If, unroll constant Loop and Scan.

    A node is folded when all its operands are constant and its result has at most ``limit`` elements, or no more than
    its operands have (so folding never blows a model up).  Shape, Size and the like fold as soon as shapes are static.
    A ConstantOfShape of any size that is the weight of a linear operator becomes a constant that takes no memory.
    Random operators are never folded.  Loops are unrolled while the total stays under ``unroll`` nodes.
    """

    name: ClassVar[str] = "fold-constants"
    limit: int = 16384
    unroll: int = 20000

    def apply(self, model: Model) -> bool:
        sweep = Sweep(self)
        sweep.run(model.graph)
        return sweep.changed


class Sweep:
    """The state of one forward walk; other passes use it to type and fold the nodes that they have made."""

    def __init__(self, options: FoldConstants):
        self.options = options
        self.changed = False
        self.budget = options.unroll

    def run(self, graph: Graph) -> None:
        for node in graph.nodes:
            self.visit(graph, node)

    def visit(self, graph: Graph, node: Node) -> None:
        """Type one node; remove it if its result is known."""
        if node.op == "Constant" and not node.domain:
            self._replace(graph, node, [constant_of(node)])
            return
        if node.subgraphs:
            inlined = self._control_flow(graph, node)
            if inlined is not None:
                self.changed = True
                for inner in inlined:
                    if inner.graph is graph:
                        self.visit(graph, inner)
                return
        if node.op == "CastLike" and not node.domain and node.operand(1).dtype is not DataType.UNDEFINED:
            node.attributes = {"to": int(node.operand(1).dtype)} | {
                key: item for key, item in node.attributes.items() if key in ("saturate", "round_mode")
            }
            node.op = "Cast"
            node.set_inputs([node.input(0)])
            self.changed = True
        infer_node(node)
        if node.op in RANDOM or node.subgraphs or not any(value.use_count for value in node.outputs):
            return
        shape = self._shape_query(node)
        if shape is not None:
            self._replace(graph, node, [shape])
        elif all(value is None or value.const is not None for value in node.inputs):
            if self._small(node):
                self._replace(graph, node, evaluate(node))
            elif node.op == "ConstantOfShape" and _is_parameter(node.output):
                self._replace(graph, node, [_filled(node)])

    def _control_flow(self, graph: Graph, node: Node) -> list[Node] | None:
        if node.op == "If":
            made = inline_if(graph, node)
        elif node.op == "Loop":
            made = unroll_loop(graph, node, self.budget)
        elif node.op == "Scan":
            made = unroll_scan(graph, node, self.budget)
        else:
            made = None
        if made is None:
            infer_body_inputs(node)
            for body in node.subgraphs:
                self.run(body)
            return None
        self.budget -= len(made)
        return made

    def _shape_query(self, node: Node) -> Tensor | None:
        if node.domain or node.op not in ("Shape", "Size"):
            return None
        value = node.operand(0)
        if not value.is_static:
            if (
                node.op == "Shape"
                and value.shape is not None
                and ("start" in node.attributes or "end" in node.attributes)
            ):
                part = value.shape[node.attr_int("start", 0) : node.attr_int("end", len(value.shape))]
                if all(isinstance(dim, int) for dim in part):
                    return Tensor.of(np.array(part, np.int64))
            return None
        if node.op == "Size":
            return Tensor.of(np.array(int(np.prod(value.dims, dtype=np.int64)), np.int64))
        dims = value.dims[node.attr_int("start", 0) : node.attr_int("end", value.rank)]
        return Tensor.of(np.array(dims, np.int64))

    def _small(self, node: Node) -> bool:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            return False
        if any(value.dtype is DataType.STRING or value.type_proto is not None for value in node.outputs):
            return False
        operands = sum(value.const.size for value in node.inputs if value is not None and value.const is not None)
        elements = 0
        for value in node.outputs:
            if not value.is_static:
                return node.op in GROWING and operands <= self.options.limit
            elements += int(np.prod(value.dims, dtype=np.int64))
        return elements <= max(self.options.limit, operands)

    def _replace(self, graph: Graph, node: Node, tensors: list[Tensor]) -> None:
        for value, tensor in zip(node.outputs, tensors):
            made = Value(value.name, tensor.dtype, tensor.shape, const=tensor)
            graph.replace(value, made)
        remove_dead(graph, node)
        self.changed = True


PARAMETER_LIMIT = 1 << 26
"""Most elements of a weight that is given as ConstantOfShape."""


def _is_parameter(value: Value) -> bool:
    """Whether a large value is the weight of a linear operator, which every target wants constant."""
    if not value.is_static or int(np.prod(value.dims, dtype=np.int64)) > PARAMETER_LIMIT:
        return False
    return any(
        user.op in ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN") and value in user.inputs[1:]
        for user in value.users
    )


def _filled(node: Node) -> Tensor:
    """The result of a ConstantOfShape without keeping its elements in memory."""
    shape, given = node.output.dims, node.attributes.get("value")
    element = given.numpy().reshape(()) if isinstance(given, Tensor) else np.zeros((), np.float32)
    dtype = given.dtype if isinstance(given, Tensor) else DataType.FLOAT
    return Tensor(dtype, shape, lambda: np.broadcast_to(element, shape))


def constant_of(node: Node) -> Tensor:
    """The tensor of a Constant node, whichever of its attributes holds it.

    Raises:
        ModelError: EDG109 when none does.
    """
    for key, attribute in node.attributes.items():
        if isinstance(attribute, Tensor):
            return attribute
        if key in ("value_float", "value_floats"):
            return Tensor.of(np.array(attribute, np.float32))
        if key in ("value_int", "value_ints"):
            return Tensor.of(np.array(attribute, np.int64))
        if key in ("value_string", "value_strings"):
            return Tensor.of(np.array(attribute, dtype=object))
    raise ModelError("EDG109", f"the Constant '{node.name}' has no readable value", where=f"node '{node.name}'")


__all__ = ["FoldConstants", "Sweep", "all_nodes", "constant_of"]
