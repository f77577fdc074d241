"""Which part of a value's range its users can tell apart.

``HardSwish`` gives 0 for everything below -3; a value that goes nowhere else needs no integers for numbers below.  Such
a value often reaches far to the negative side, so that its step halves, at no cost, when its range ends where its users
stop to distinguish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Final

from edgec.converter.calibration.statistics import Statistics
from edgec.ir.graph import Graph, Node, Value

Bounds = tuple[float, float]
EVERYTHING: Final[Bounds] = (-inf, inf)

EXACT: Final[Mapping[str, Bounds]] = {"HardSwish": (-3.0, inf), "Relu": (0.0, inf)}
"""Activations that are constant, or go on as before, outside."""
WITHIN_HALF_A_STEP: Final[Mapping[str, Bounds]] = {"Sigmoid": (-7.0, 7.0), "Tanh": (-4.0, 4.0)}
"""Activations that change by less than half a step of their own 8-bit result, 1/256 and 1/128, outside."""
COMMUTING: Final = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Expand Tile DepthToSpace SpaceToDepth "
    "Concat Pad MaxPool GlobalMaxPool ReduceMax ReduceMin Max Min".split()
)
"""Operators that give the same whether their operands or their result is limited to a range."""


def distinguished(graph: Graph, *, eight_bits: bool) -> dict[Value, Bounds]:
    """The values of the main graph whose users give the same result for everything beyond a bound, and the bounds.

    Args:
        eight_bits: whether results are 8-bit integers, so that an error of less than half their step counts as none.
    """
    found: dict[Value, Bounds] = {}
    nodes = list(graph.nodes)
    for node in reversed(nodes):
        for value in node.outputs:
            _judge(value, found, eight_bits)
    for value in graph.inputs:
        _judge(value, found, eight_bits)
    return found


def limited(found: Statistics, bounds: Bounds) -> Statistics:
    """Statistics of the same numbers, limited to ``bounds``; the counts are shared."""
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (found.low, found.high))
    return replace(found, low=low, high=high)


def _judge(value: Value, found: dict[Value, Bounds], eight_bits: bool) -> None:
    if value.is_output or not value.use_count:
        return
    gate = _gate(value)
    needs = [gate] if gate is not None else [_need(user, value, found, eight_bits) for user in value.users]
    low, high = min(need[0] for need in needs), max(need[1] for need in needs)
    if (low, high) != EVERYTHING:
        found[value] = (low, high)


def _gate(value: Value) -> Bounds | None:
    """Where ``x Clip(a x + b, 0, c)``, the parts of a HardSwish, is 0: below ``-b / a``, the lowest of all channels."""
    users = value.users
    if len(users) != 2 or any(user.domain for user in users):
        return None
    product = next((user for user in users if user.op == "Mul"), None)
    linear = next((user for user in users if user is not product), None)
    if product is None or linear is None or linear.operand(0) is not value:
        return None
    found = _zero_below(linear)
    current = linear.output
    clipped = False
    while found is not None and current.use_count == 1 and not current.is_output:
        (user,) = current.users
        if user is product:
            return (found, inf) if clipped else None
        number = _scalar(user.input(1)) if user.op == "Mul" and current is user.operand(0) else None
        if user.op == "Clip" and not clipped and (_ends(user) or EVERYTHING)[0] == 0:
            clipped = True
        elif number is None or number <= 0:
            return None
        current = user.output
    return None


def _zero_below(node: Node) -> float | None:
    """The number below which the node's result is negative in every channel; None where it is not that simple."""
    if node.op == "Add":
        number = _scalar(node.input(1))
        return None if number is None else -number
    weights, bias = node.input(1), node.input(2)
    if node.op != "Conv" or weights is None or weights.const is None or bias is None or bias.const is None:
        return None
    taps = weights.numpy().reshape(-1)
    if node.attr_int("group", 1) != taps.size or not (taps > 0).all() or bias.numpy().size != taps.size:
        return None
    return float((-bias.numpy() / taps).min())


def _need(user: Node, value: Value, found: Mapping[Value, Bounds], eight_bits: bool) -> Bounds:
    """Outside of which numbers of its operand the node's result, as far as it is used, stays the same."""
    if user.domain or user.subgraphs:
        return EVERYTHING
    if user.op in WITHIN_HALF_A_STEP:
        return WITHIN_HALF_A_STEP[user.op] if eight_bits else EVERYTHING
    if user.op == "HardSwish":
        return EXACT["HardSwish"]
    after = [found.get(result, EVERYTHING) for result in user.outputs if result.use_count or result.is_output]
    wanted = (min(item[0] for item in after), max(item[1] for item in after)) if after else EVERYTHING
    if user.op == "Relu":
        return _common(EXACT["Relu"], wanted)
    if user.op == "Clip":
        ends = _ends(user)
        return EVERYTHING if ends is None else _common(ends, wanted)
    if user.op in COMMUTING or (user.op == "Resize" and user.attr_str("mode", "nearest") == "nearest"):
        return wanted
    change = _SHIFTS.get(user.op)
    if change is None or value is not user.operand(0):
        return EVERYTHING
    number = _scalar(user.input(1))
    return EVERYTHING if number is None else change(wanted, number)


def _common(one: Bounds, other: Bounds) -> Bounds:
    """Limits applied one after the other: the second one to what the first one left."""
    low, high = (min(max(end, one[0]), one[1]) for end in other)
    return low, high


def _ends(node: Node) -> Bounds | None:
    low, high = node.input(1), node.input(2)
    ends = (-inf if low is None else _scalar(low), inf if high is None else _scalar(high))
    if ends[0] is None or ends[1] is None or ends[0] > ends[1]:
        return None
    return ends[0], ends[1]


def _scalar(value: Value | None) -> float | None:
    if value is None or value.const is None or value.numpy().size != 1:
        return None
    return float(value.numpy().reshape(-1)[0])


def _before_sum(bounds: Bounds, number: float) -> Bounds:
    return bounds[0] - number, bounds[1] - number


def _before_product(bounds: Bounds, number: float) -> Bounds:
    if number == 0:
        return EVERYTHING
    low, high = sorted((bounds[0] / number, bounds[1] / number))
    return low, high


_SHIFTS: Final[Mapping[str, Callable[[Bounds, float], Bounds]]] = {
    "Add": _before_sum,
    "Sub": lambda bounds, number: _before_sum(bounds, -number),
    "Mul": _before_product,
    "Div": lambda bounds, number: (bounds[0] * number, bounds[1] * number) if number > 0 else EVERYTHING,
}
