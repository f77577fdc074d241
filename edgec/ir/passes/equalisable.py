"""Find the stretches of a graph through which every channel may be multiplied by a number of its own.

A stretch begins at the result of a linear operator, which takes the numbers into its weights, and ends at the operands
of others, which divide by them.  In between stand operators that commute with a positive factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgec.ir.graph import Node, Value
from edgec.ir.passes.affine import LINEAR, channels_of, per_channel, scale_inputs
from edgec.ir.types import Array

HOMOGENEOUS: Final = frozenset(
    "Relu LeakyRelu PRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool Identity".split()
)
"""``f(s x) = s f(x)`` for every s > 0, channel by channel."""
RESHAPING: Final = frozenset({"Flatten", "Reshape", "Squeeze"})
SIX: Final = 6.0
"""``6 HardSwish(x) = x Clip(x + 3, 0, 6)``."""


@dataclass
class Stretch:
    """What has to change so that the channels of ``producer``'s result can be multiplied.

    Attributes:
        channels: extent of the channel axis, which is axis 1 of every value of the stretch.
        scaled: value to the constant by which it is multiplied besides the number of its channel.
        constants: operands of Add and Sub to multiply, with the value that they are added to.
        gates: HardSwish nodes, to be written as ``x Clip(x + 3, 0, 6)``.
        restored: nodes that need their first operand as it was.
        readers: linear operators at the end, with the value that they read.
    """

    producer: Node
    channels: int
    scaled: dict[Value, float] = field(default_factory=dict)
    constants: list[tuple[Node, int, Value]] = field(default_factory=list)
    gates: list[Node] = field(default_factory=list)
    restored: list[Node] = field(default_factory=list)
    readers: list[tuple[Node, Value]] = field(default_factory=list)

    @property
    def added(self) -> int:
        """How many operators a rewrite adds."""
        return 2 * len(self.gates) + len(self.restored)


def stretch_from(node: Node) -> Stretch | None:
    """The stretch that begins at a node's result; None where it cannot be multiplied."""
    if node.op not in LINEAR or node.op == "MatMul" or node.domain or node.operand(1).const is None:
        return None
    bias = node.input(2)
    if (bias is not None and bias.const is None) or not node.operand(1).dtype.is_float or not node.operand(1).dims:
        return None
    found = Stretch(node, channels_of(node))
    pending: list[tuple[Value, float]] = [(node.output, 1.0)]
    others: list[Value] = []
    while pending:
        value, factor = pending.pop()
        if value in found.scaled:
            return None
        if value.is_output or not value.use_count or not _has_channels(value, found.channels):
            return None
        found.scaled[value] = factor
        for user in value.users:
            after = _step(found, user, value, factor, others)
            if after is None:
                return None
            pending.extend(after)
    if any(other in found.scaled for other in others) or not found.readers:
        return None
    return found


def _has_channels(value: Value, channels: int) -> bool:
    return value.shape is not None and len(value.shape) >= 2 and value.shape[1] == channels


def _step(
    found: Stretch, user: Node, value: Value, factor: float, others: list[Value]
) -> list[tuple[Value, float]] | None:
    """The values that a user multiplies in turn; None where it does not fit into a stretch."""
    places = [place for place, item in enumerate(user.inputs) if item is value]
    if user.domain or user.graph is not found.producer.graph or len(places) != 1 or len(user.outputs) != 1:
        return None
    (place,) = places
    if place == 0 and _reads(user, found.channels):
        found.readers.append((user, value))
        return []
    if place == 0 and (user.op in HOMOGENEOUS or _keeps_zero(user)):
        return [(user.output, factor)]
    if user.op in RESHAPING and place == 0:
        return [(user.output, factor)] if _one_pixel(value, user.output) else None
    if user.op in ("Add", "Sub"):
        return _sum(found, user, value, factor, place)
    if user.op == "Mul":
        other = user.operand(1 - place)
        if user.output.shape is None or len(user.output.shape) != value.rank:
            return None
        if other.const is None:
            others.append(other)
        elif per_channel(other, value, 1, found.channels) is None:
            return None
        return [(user.output, factor)]
    if value.rank != 4 or place != 0:
        return None
    if user.op == "HardSwish":
        found.gates.append(user)
        return [(user.output, factor * SIX)]
    if user.op == "Sigmoid":
        found.restored.append(user)
        return []
    return None


def _sum(found: Stretch, user: Node, value: Value, factor: float, place: int) -> list[tuple[Value, float]] | None:
    constant = user.operand(1 - place)
    if constant.const is None or per_channel(constant, value, 1, found.channels) is None:
        return None
    if user.output.shape != value.shape:
        return None
    if user.op == "Add" and value.rank == 4 and _begins_a_gate(user):
        found.restored.append(user)
        return []
    found.constants.append((user, 1 - place, value))
    return [(user.output, factor)]


def _begins_a_gate(node: Node) -> bool:
    """Whether the result goes nowhere but into a Clip, as in ``x Clip(x + 3, 0, 6)``."""
    value = node.output
    return value.use_count == 1 and not value.is_output and value.users[0].op == "Clip"


def _reads(node: Node, channels: int) -> bool:
    if node.op not in ("Conv", "Gemm") or (node.op == "Gemm" and node.attr_int("transA", 0)):
        return False
    assert node.graph is not None
    return scale_inputs(node.graph, node, np.ones(channels), None, apply=False)


def _keeps_zero(node: Node) -> bool:
    """Pad with zeros, and Resize by interpolation within a channel."""
    if node.op == "Pad":
        filling = node.input(2)
        return (
            node.attr_str("mode", "constant") == "constant"
            and (filling is None or (filling.const is not None and not np.any(filling.numpy())))
            and _channels_unpadded(node)
        )
    return node.op == "Resize" and node.attr_str("coordinate_transformation_mode", "") != "tf_crop_and_resize"


def _channels_unpadded(node: Node) -> bool:
    before, after = node.operand(0).shape, node.output.shape
    return before is not None and after is not None and before[:2] == after[:2]


def _one_pixel(before: Value, after: Value) -> bool:
    """Whether ``[N, C, 1, 1]`` becomes ``[N, C]``."""
    if before.shape is None or after.shape is None:
        return False
    return tuple(before.shape[:2]) == tuple(after.shape) and all(extent == 1 for extent in before.shape[2:])


def column(numbers: Array, value: Value) -> Array:
    """One number per channel in a shape that broadcasts against a value."""
    return numbers.reshape(-1, *(1,) * (value.rank - 2))
