"""Which values an input may take, found by following it to the operators that read it.

:func:`find_domains` walks from every graph input through operators that hand values on unchanged (Cast, Reshape,
Concat, ...) or shift and scale them by a constant, and asks :data:`DEMANDS` at every other operator.  Operands whose
values depend on each other or on the output's shape (the shape of a Reshape, the starts and ends of a Slice) are the
business of :mod:`edgec.converter.verification.parameters`.

Source: the operators' specifications in https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import DataType

MAX_STEPS = 400
"""How many operators are visited for one input."""


@dataclass(frozen=True)
class Domain:
    """Values that an input may take.

    Attributes:
        low, high: inclusive bounds, None where there is none.
        gap: values closer to zero than this are not taken (divisors).
        values: values that should occur, e.g. those that the model compares with.
        only: take nothing but ``values``.
        whole: take whole numbers although the type is float, so that comparisons find equal elements.
        special: let NaN and infinities occur.
        negative_too: indices that may count from the end as well; ``low`` is 0 and ``high`` the last index.
        why: the operator that demands it.
    """

    low: float | None = None
    high: float | None = None
    gap: float = 0.0
    values: tuple[float, ...] = ()
    only: bool = False
    whole: bool = False
    special: bool = False
    negative_too: bool = False
    why: str = ""

    def meet(self, other: Domain) -> Domain:
        """Values that suit both; the first one's bounds win where they exclude each other."""
        lows = [bound for bound in (self.low, other.low) if bound is not None]
        highs = [bound for bound in (self.high, other.high) if bound is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            low, high = self.low, self.high
        return Domain(
            low,
            high,
            max(self.gap, other.gap),
            tuple(dict.fromkeys(self.values + other.values)),
            self.only or other.only,
            self.whole or other.whole,
            self.special and other.special,
            (self.negative_too or not self.why) and (other.negative_too or not other.why),
            ", ".join(dict.fromkeys(item for item in (self.why, other.why) if item)),
        )

    def describe(self) -> str:
        """The domain in words."""
        if self.only:
            return "one of " + ", ".join(f"{value:g}" for value in self.values)
        parts = []
        if self.low is not None or self.high is not None:
            low = "-inf" if self.low is None else f"{self.low:g}"
            high = "inf" if self.high is None else f"{self.high:g}"
            parts.append(f"{low}..{high}")
        if self.gap:
            parts.append("not zero")
        if self.values:
            parts.append("with " + ", ".join(f"{value:g}" for value in self.values))
        if self.whole:
            parts.append("whole numbers")
        if self.special:
            parts.append("with NaN and infinities")
        return ", ".join(parts) or "any"


Demand = Callable[[Node, int], "Domain | None"]

DEMANDS: dict[tuple[str, int], Demand] = {}
"""(operator, operand) to what it demands; operators of com.microsoft are looked up by the same name."""


def demands(*keys: tuple[str, int]) -> Callable[[Demand], Demand]:
    """Decorator: enter a demand into the table."""

    def enter(function: Demand) -> Demand:
        for key in keys:
            DEMANDS[key] = function
        return function

    return enter


def _fixed(domain: Domain, *keys: tuple[str, int]) -> None:
    demands(*keys)(lambda node, position: domain)


_fixed(Domain(0.01, 8.0), ("Log", 0), ("Sqrt", 0), ("ReduceLogSum", 0))
_fixed(Domain(gap=0.1), ("Reciprocal", 0), ("Div", 1), ("Mod", 1))
_fixed(Domain(-0.99, 0.99), ("Asin", 0), ("Acos", 0), ("Atanh", 0))
_fixed(Domain(1.0, 20.0), ("Acosh", 0))
_fixed(Domain(-1.4, 1.4), ("Tan", 0))
_fixed(Domain(-8.0, 8.0), ("Exp", 0), ("Sinh", 0), ("Cosh", 0))
_fixed(Domain(special=True), ("IsNaN", 0), ("IsInf", 0))
_fixed(Domain(-1.1, 1.1), ("GridSample", 1))
_fixed(Domain(0.1, 2.0), ("BatchNormalization", 4))
_fixed(Domain(-0.5, 0.5), *((op, position) for op in ("LSTM", "GRU", "RNN") for position in (1, 2, 3)))
_fixed(Domain(0.1, 1.0), ("NegativeLogLikelihoodLoss", 2), ("SoftmaxCrossEntropyLoss", 2))
_fixed(Domain(0.0, 1.0), ("Bernoulli", 0), ("NonMaxSuppression", 1), ("RotaryEmbedding", 1), ("RotaryEmbedding", 2))
_fixed(Domain(0.3, 0.7), ("NonMaxSuppression", 3))
_fixed(Domain(0.1, 0.5), ("NonMaxSuppression", 4))
_fixed(Domain(2, 8), ("NonMaxSuppression", 2))
_fixed(Domain(0.1, 0.9), ("Dropout", 1))
_fixed(Domain(values=(0,), only=True), ("Dropout", 2))
_fixed(Domain(1, 4), ("Loop", 0))
_fixed(Domain(values=(1,), only=True), ("Loop", 1))
_fixed(
    Domain(0.005, 0.05),
    ("QuantizeLinear", 1),
    ("DequantizeLinear", 1),
    *((op, position) for op in ("QLinearConv", "QLinearMatMul") for position in (1, 4, 6)),
)


def _extent(value: Value | None, axis: int) -> int | None:
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    extent = value.shape[axis]
    return extent if isinstance(extent, int) and extent > 0 else None


def _index(extent: int | None, negative_too: bool = True) -> Domain:
    return Domain(0, 0 if extent is None else extent - 1, negative_too=negative_too)


@demands(("Gather", 1), ("GatherElements", 1), ("ScatterElements", 1))
def _gather(node: Node, position: int) -> Domain:
    return _index(_extent(node.input(0), node.attr_int("axis", 0)))


@demands(("GatherND", 1), ("ScatterND", 1))
def _gather_nd(node: Node, position: int) -> Domain:
    data = node.input(0)
    if data is None or data.shape is None:
        return Domain(0, 0)
    known = [dim for dim in data.shape[node.attr_int("batch_dims", 0) :] if isinstance(dim, int)]
    return _index(min(known, default=1))


@demands(("OneHot", 0))
def _one_hot(node: Node, position: int) -> Domain:
    depth = node.input(1)
    if depth is not None and depth.const is not None:
        return _index(int(depth.numpy().ravel()[0]))
    return _index(_extent(node.output, node.attr_int("axis", -1)) or 2)


@demands(("TopK", 1))
def _top_k(node: Node, position: int) -> Domain:
    axis = node.attr_int("axis", -1)
    wanted = _extent(node.output, axis)
    if wanted is not None:
        return Domain(values=(wanted,), only=True)
    return Domain(1, _extent(node.input(0), axis) or 1)


@demands(("Trilu", 1))
def _trilu(node: Node, position: int) -> Domain:
    extent = _extent(node.input(0), -1) or 2
    return Domain(-extent, extent)


@demands(("CumSum", 1))
def _cumsum(node: Node, position: int) -> Domain:
    data = node.input(0)
    return _index(len(data.shape) if data is not None and data.shape else 1)


@demands(("LSTM", 4), ("GRU", 4), ("RNN", 4))
def _sequence_lengths(node: Node, position: int) -> Domain:
    return Domain(1, _extent(node.input(0), 1 if node.attr_int("layout", 0) else 0) or 1)


@demands(("ReverseSequence", 1))
def _reverse(node: Node, position: int) -> Domain:
    return Domain(1, _extent(node.input(0), node.attr_int("time_axis", 0)) or 1)


@demands(("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 1))
def _classes(node: Node, position: int) -> Domain:
    ignored = (float(node.attr_int("ignore_index")),) if node.has("ignore_index") else ()
    return Domain(0, (_extent(node.input(0), 1) or 1) - 1, values=ignored)


@demands(("ArrayFeatureExtractor", 1))
def _feature(node: Node, position: int) -> Domain:
    return _index(_extent(node.input(0), -1), negative_too=False)


@demands(("RoiAlign", 2))
def _batch_index(node: Node, position: int) -> Domain:
    return _index(_extent(node.input(0), 0), negative_too=False)


@demands(("RotaryEmbedding", 3))
def _position_ids(node: Node, position: int) -> Domain:
    return _index(_extent(node.input(1), 0), negative_too=False)


@demands(("Attention", 6))
def _key_lengths(node: Node, position: int) -> Domain:
    return Domain(1, _extent(node.input(1), -2) or 1)


@demands(("TensorScatter", 2))
def _write_indices(node: Node, position: int) -> Domain:
    axis = node.attr_int("axis", -2)
    return Domain(0, max((_extent(node.input(0), axis) or 1) - (_extent(node.input(1), axis) or 1), 0))


@demands(("EmbedLayerNormalization", 0), ("EmbedLayerNormalization", 1))
def _tokens(node: Node, position: int) -> Domain:
    return _index(_extent(node.input(2 if position == 0 else 4), 0), negative_too=False)


@demands(("Clip", 1), ("Clip", 2))
def _clip(node: Node, position: int) -> Domain:
    whole = node.operand(0).dtype.is_integer
    unsigned = node.operand(0).dtype.name.startswith("U")
    if position == 1:
        return Domain(0 if unsigned else -5, 5 if unsigned else 0) if whole else Domain(-1.0, 0.0)
    return Domain(6, 20) if whole else Domain(0.5, 1.5)


@demands(("BitShift", 1))
def _shift(node: Node, position: int) -> Domain:
    return Domain(0, node.operand(0).dtype.bits - 1)


@demands(("Pow", 0), ("Pow", 1))
def _power(node: Node, position: int) -> Domain | None:
    base, exponent = node.operand(0), node.operand(1)
    if exponent.const is not None:
        given = exponent.numpy()
        if np.all(given == np.round(given.astype(np.float64))):
            return Domain(gap=0.1) if np.any(given < 0) else Domain(-3, 3)
        return Domain(0.1, 4.0)
    if position == 0:
        return Domain(1, 4) if base.dtype.is_integer else Domain(0.1, 3.0)
    return Domain(0, 3) if base.dtype.is_integer or exponent.dtype.is_integer else Domain(-2.0, 2.0)


@demands(("DequantizeLinear", 2), ("QuantizeLinear", 2))
def _zero_point(node: Node, position: int) -> Domain | None:
    zero = node.operand(position)
    return Domain(values=(0,), only=True) if zero.dtype is DataType.INT32 else None


@demands(("Equal", 0), ("Equal", 1))
def _equal(node: Node, position: int) -> Domain:
    other = node.operand(1 - position)
    if other.const is not None and other.const.size <= 8 and other.dtype is not DataType.STRING:
        return Domain(values=tuple(float(item) for item in other.numpy().ravel()), whole=True)
    return Domain(-2, 2, whole=True)


@demands(("Sign", 0), ("Floor", 0), ("Ceil", 0), ("Round", 0))
def _steps(node: Node, position: int) -> Domain:
    return Domain(-10.0, 10.0)


# the walk

_HANDS_ON: dict[str, tuple[int, ...] | None] = dict.fromkeys(
    ("Identity", "Cast", "Transpose", "Flatten", "DepthToSpace", "SpaceToDepth", "Dropout", "Reshape", "Squeeze"), (0,)
)
_HANDS_ON |= dict.fromkeys(("Unsqueeze", "Expand", "Tile", "Slice", "Split", "Gather", "GatherElements"), (0,))
_HANDS_ON |= dict.fromkeys(
    ("GatherND", "Pad", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool"), (0,)
)
_HANDS_ON |= {"Concat": None, "Where": (1, 2), "Max": None, "Min": None}


def find_domains(graph: Graph) -> dict[str, Domain]:
    """Input name to its domain; inputs that nothing restricts have ``Domain()``."""
    return {value.name: domain_of(value) for value in graph.inputs}


def domain_of(source: Value) -> Domain:
    """The domain of one value."""
    found: Domain | None = None
    pending: list[tuple[Value, float, float]] = [(source, 1.0, 0.0)]
    seen: set[tuple[Value, float, float]] = set()
    steps = 0
    while pending and steps < MAX_STEPS:
        state = pending.pop()
        if state in seen:
            continue
        seen.add(state)
        value, scale, offset = state
        for node in value.users:
            steps += 1
            for position, operand in enumerate(node.inputs):
                if operand is not value:
                    continue
                if node.op in _HANDS_ON:
                    positions = _HANDS_ON[node.op]
                    if positions is None or position in positions:
                        pending.extend((output, scale, offset) for output in node.outputs)
                        continue
                shifted = _shifted(node, position, scale, offset)
                if shifted is not None:
                    pending.append((node.output, *shifted))
                demand = DEMANDS.get((node.op, position))
                if demand is None or shifted is not None:
                    continue
                domain = demand(node, position)
                if domain is not None:
                    domain = _transformed(replace(domain, why=node.op), scale, offset, source.dtype)
                    found = domain if found is None else found.meet(domain)
    return found or Domain()


def _shifted(node: Node, position: int, scale: float, offset: float) -> tuple[float, float] | None:
    """Scale and offset of the output in terms of the source, for arithmetic with one constant."""
    if node.op == "Neg":
        return -scale, -offset
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    other = node.operand(1 - position)
    if other.const is None or other.const.size != 1 or not (other.dtype.is_float or other.dtype.is_integer):
        return None
    constant = float(other.numpy().ravel()[0])
    if not math.isfinite(constant):
        return None
    match node.op:
        case "Add":
            return scale, offset + constant
        case "Sub":
            return (scale, offset - constant) if position == 0 else (-scale, constant - offset)
        case "Mul" if constant:
            return scale * constant, offset * constant
        case "Div" if position == 0 and constant:
            return scale / constant, offset / constant
    return None


def _transformed(domain: Domain, scale: float, offset: float, dtype: DataType) -> Domain:
    """The domain of ``x`` when ``scale * x + offset`` has to lie in ``domain``."""
    if scale == 1 and offset == 0:
        return domain

    def back(bound: float | None) -> float | None:
        return None if bound is None else (bound - offset) / scale

    low, high = back(domain.low), back(domain.high)
    if scale < 0:
        low, high = high, low
    if dtype.is_integer:
        low = None if low is None else math.ceil(low)
        high = None if high is None else math.floor(high)
    values = tuple((value - offset) / scale for value in domain.values)
    gap = domain.gap / abs(scale) if offset == 0 else 0.0
    return replace(domain, low=low, high=high, gap=gap, values=values, negative_too=False)
