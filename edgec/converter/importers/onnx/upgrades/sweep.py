"""One pass over the nodes in order: check, upgrade and, where an upgrade needs types, infer."""

from __future__ import annotations

import numpy as np

from edgec.converter.importers.onnx.check import check_node
from edgec.converter.importers.onnx.upgrades.table import TABLE
from edgec.errors import ModelError
from edgec.ir.contrib import DOMAIN, is_standard_extension, rewrite_contrib, rewrite_extension
from edgec.ir.evaluate import evaluate, is_cheap
from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.inference import CANONICAL_OPSET, infer_body_inputs, infer_node
from edgec.ir.proto import all_nodes
from edgec.ir.types import DataType

SMALL = 1024
"""Values of at most this many elements are computed ahead, so that shapes made by arithmetic are known."""


def upgrade_model(model: Model) -> None:
    """Bring every node to :data:`CANONICAL_OPSET`, control-flow bodies included, and rewrite com.microsoft operators.

    Raises:
        UnsupportedError: EDG201 for operators and domains that are unknown or have no newer form.
        ModelError: EDG109 for nodes that break their operator's rules, EDG111 for shapes that do not fit.
    """
    opset = model.opset
    sweep = _Sweep(opset, model.domains, _needs_types(model.graph, opset))
    try:
        sweep.run(model.graph)
    finally:
        for value in sweep.computed:
            value.const = None
    model.opset = CANONICAL_OPSET
    used = {node.domain for node in all_nodes(model.graph)}
    model.domains = {domain: version for domain, version in model.domains.items() if domain in used}


def _needs_types(graph: Graph, opset: int) -> bool:
    for node in all_nodes(graph):
        if node.domain == DOMAIN:
            return True
        if not node.domain and any(step.typed and opset < step.before for step in TABLE.get(node.op, ())):
            return True
    return False


class _Sweep:
    def __init__(self, opset: int, domains: dict[str, int], typed: bool):
        self.opset = opset
        self.domains = domains
        self.typed = typed
        self.computed: list[Value] = []

    def run(self, graph: Graph) -> None:
        for node in graph.nodes:
            check_node(node, self.opset, self.domains)
            infer_body_inputs(node)
            for body in node.subgraphs:
                self.run(body)
            if node.domain:
                rewrite_contrib(graph, node)
            elif is_standard_extension(node.op):
                rewrite_extension(graph, node)
            else:
                self._upgrade(graph, node)
            if self.typed and node.graph is graph:
                infer_node(node)
                self._compute(node)

    def _upgrade(self, graph: Graph, node: Node) -> None:
        for step in TABLE.get(node.op, ()):
            if self.opset < step.before:
                step.rewrite(graph, node)
                if node.graph is not graph:
                    return

    def _compute(self, node: Node) -> None:
        """Note the result of shape arithmetic on the value, for the inference of what follows."""
        result = node.outputs[0] if len(node.outputs) == 1 else None
        if result is None or node.subgraphs or node.domain or not _small(result):
            return
        tensor = self._value(node)
        if tensor is not None and tensor.size <= SMALL:
            result.const = tensor
            if tensor.dtype is DataType.UNDEFINED or result.dtype is DataType.UNDEFINED:
                result.dtype = tensor.dtype
            result.shape = tensor.shape
            self.computed.append(result)

    def _value(self, node: Node) -> Tensor | None:
        if node.op == "Constant":
            from edgec.ir.passes.fold_constants import constant_of

            return constant_of(node)
        if node.op == "Shape":
            shape = node.operand(0).shape
            part = () if shape is None else shape[node.attr_int("start", 0) : node.attr_int("end", len(shape))]
            if shape is None or not all(isinstance(dim, int) for dim in part):
                return None
            return Tensor.of(np.array(part, np.int64))
        if not is_cheap(node) or any(
            value is not None and (value.const is None or value.const.size > SMALL) for value in node.inputs
        ):
            return None
        try:
            return evaluate(node)[0]
        except ModelError:
            return None  # folding will say what is wrong, if it is on the way to an output


def _small(value: Value) -> bool:
    if value.type_proto is not None:
        return False
    if value.shape is None:
        return True
    count = 1
    for dim in value.shape:
        count *= dim if isinstance(dim, int) else 1
    return count <= SMALL
