"""In which order of axes images come in and go out."""

from __future__ import annotations

from edgec.ir.graph import Node, Value

ALIKE = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
"""Operators behind and in front of which the axes are the same."""

FROM_LAST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def is_last_already(value: Value) -> bool:
    """Whether a 4-D input or output is channels-last in the model itself, as models of TensorFlow are.

    The model says so by what it does first with every input, or last with every output: it moves the channels.
    """
    if value.producer is None:
        users = value.users
        return bool(users) and not value.is_output and all(_reads_last(user) for user in users)
    return _makes_last(value.producer)


def _reads_last(node: Node) -> bool:
    if node.op in ALIKE and not node.domain:
        users = node.output.users
        return bool(users) and all(_reads_last(user) for user in users)
    return _moves(node, FROM_LAST)


def _makes_last(node: Node) -> bool:
    if node.op in ALIKE and not node.domain:
        source = node.input(0)
        return source is not None and source.producer is not None and _makes_last(source.producer)
    return _moves(node, TO_LAST)


def _moves(node: Node, order: tuple[int, ...]) -> bool:
    """Whether a node transposes so, or reshapes to the same where there is nothing to move but axes of extent 1."""
    if node.domain:
        return False
    if node.op == "Transpose":
        return node.has("perm") and tuple(node.attr_ints("perm")) == order
    source, result = node.operand(0) if node.inputs else None, node.output
    if node.op != "Reshape" or source is None or not source.is_static or not result.is_static or len(source.dims) != 4:
        return False
    kept = [axis for axis in order if source.dims[axis] != 1]
    return result.dims == tuple(source.dims[axis] for axis in order) and kept == sorted(kept)
