"""Write a matrix product followed by the addition of a bias as one Gemm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgec.ir.graph import Graph, Model, Node, Tensor
from edgec.ir.passes.base import Pass, register, replace_node, rewrite_each


@register
@dataclass(frozen=True)
class FuseGemm(Pass):
    """``MatMul(A, B) + c`` becomes ``Gemm(A, B, c)`` where A and B have rank 2, B is constant, and c is a constant with
    one element, or one per column.

    Source: ONNX operator specification, Gemm.
    """

    name: ClassVar[str] = "fuse-gemm"

    def apply(self, model: Model) -> bool:
        return rewrite_each(model, "Add", _fuse)


def _fuse(graph: Graph, node: Node) -> bool:
    for position in (0, 1):
        base, bias = node.operand(position), node.operand(1 - position).const
        product = base.producer
        if bias is None or product is None or product.op != "MatMul" or product.domain or product.graph is not graph:
            continue
        left, right = product.operand(0), product.operand(1)
        if base.use_count != 1 or left.shape is None or len(left.shape) != 2 or right.const is None:
            continue
        shape = right.const.shape
        if len(shape) != 2 or not base.dtype.is_float or len(bias.shape) > 2:
            continue
        columns = shape[1]
        if bias.size not in (1, columns) or bias.shape[-1:] not in ((), (1,), (columns,)):
            continue
        flat = Tensor(bias.dtype, (bias.size,), lambda held=bias: held.numpy().reshape(-1))  # type: ignore[misc]
        made = graph.build(
            node,
            "Gemm",
            [left, right, graph.constant(flat, f"{node.name}_bias")],
            hint=product.name,
            sources=product.sources,
        )
        replace_node(graph, node, made.output)
        return True
    return False
