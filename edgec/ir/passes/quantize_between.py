"""Give the numbers between two quantized ones scales of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.base import Pass, register
from edgec.ir.quantization import Affine, Range, affine
from edgec.ir.types import Array, DataType

NOTED = "edgec.inner_scales"
"""Key of the model's metadata: a JSON list of ``{"node", "steps", "equal"}`` for what was given inner scales."""

BYTES = (DataType.INT8, DataType.UINT8)


def _clip(node: Node, operands: list[Array]) -> Array:
    clipped = operands[0]
    for bound, limit in zip(operands[1:], (np.maximum, np.minimum)):
        clipped = limit(clipped, bound)
    return clipped


FUNCTIONS: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Add": lambda node, x: x[0] + x[1],
    "Sub": lambda node, x: x[0] - x[1],
    "Mul": lambda node, x: x[0] * x[1],
    "Div": lambda node, x: x[0] / x[1],
    "Max": lambda node, x: np.maximum.reduce(x),
    "Min": lambda node, x: np.minimum.reduce(x),
    "Clip": _clip,
    "Relu": lambda node, x: np.maximum(x[0], np.float32(0)),
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x[0])),
    "Tanh": lambda node, x: np.tanh(x[0]),
}
"""Element-wise operators that have integer kernels (a division by a constant is a product), on float32."""

FIXED = {"Sigmoid": (1 / 256, 0), "Tanh": (1 / 128, 128)}
"""Scale and zero point, as uint8, that the kernels of some operators prescribe."""

PLAIN = {"Clip": (1, 2), "Div": (1,)}
"""Operands that stay numbers."""

CLAMPED = frozenset({"Add", "Sub", "Mul"})
"""Operators that limit their result to its range by themselves, so that Relu and Clip behind them need no tensor."""

SHARED = frozenset({"Max", "Min"})
"""Operators whose operands have the scale of their result."""


@register
@dataclass(frozen=True)
class QuantizeBetween(Pass):
    """Where an element-wise function of one quantized tensor takes several nodes until it is quantized again, every
    number between gets QuantizeLinear and DequantizeLinear of its own, so that each node can run on integers.

    A tensor of 8 bits holds 256 numbers: the function is computed for all of them, the ranges between are exactly those
    that occur, and the inner scales are taken only if no result moves by more than ``steps``.  The model's own scales
    stay as they are.  For accelerators, on which a float operator would end what runs there.

    Source: LiteRT 8-bit quantization specification; ONNX QuantizeLinear-25, DequantizeLinear-25.
    """

    name: ClassVar[str] = "quantize-between"
    steps: int = 1

    def apply(self, model: Model) -> bool:
        noted: list[dict[str, Any]] = []
        for node in list(model.graph.nodes):
            if node.op != "QuantizeLinear" or node.domain:
                continue
            region = _Region.before(model.graph, node)
            if region is None:
                continue
            found = region.error()
            if found[0] <= self.steps:
                names = [name for item in region.nodes for name in item.sources] or [node.name]
                noted.append({"node": names[0], "steps": found[0], "equal": found[1]})
                region.rewrite()
        if noted:
            model.metadata[NOTED] = json.dumps(noted)
        return bool(noted)


def inner_steps(model: Model) -> int:
    """By how many steps the result of an activation moves at most through its inner scales."""
    return max((int(item["steps"]) for item in json.loads(model.metadata.get(NOTED, "[]"))), default=0)


def inner_scale_notes(model: Model) -> list[str]:
    """What to tell the user of inner scales."""
    noted = json.loads(model.metadata.get(NOTED, "[]"))
    if not noted:
        return []
    exact = sum(not item["steps"] for item in noted)
    most = inner_steps(model)
    listed = ", ".join(f"'{item['node']}'" for item in noted[:3]) + (", ..." if len(noted) > 3 else "")
    return [
        f"{len(noted)} quantized activations run as several integer operators with scales derived from the 256 numbers "
        f"that go in: {exact} give the same integers, the others are at most {most} step away ({listed})"
        + ("; what that changes at the outputs is measured, and allowed on top of the usual limit" if most else "")
    ]


class _Region:
    """Element-wise nodes between one dequantized tensor and a QuantizeLinear.

    Attributes:
        nodes: in order; the last one's result is quantized.
        source: how the integers that go in stand for numbers.
        goal: how those that come out do.
        forms: how the numbers between shall be held.
    """

    def __init__(self, graph: Graph, nodes: list[Node], inputs: set[Value], source: Affine, goal: Affine):
        self.graph, self.nodes, self.inputs = graph, nodes, inputs
        self.source, self.goal = source, goal
        self.exact = self._values({})
        self.forms = self._forms()

    @classmethod
    def before(cls, graph: Graph, quantize: Node) -> _Region | None:
        """The region that ends at a node, or None where there is nothing to do."""
        goal = parameters(quantize)
        if goal is None:
            return None
        found: set[Node] = set()
        origins: dict[Value, Affine] = {}
        wholes: set[Value] = set()
        pending = [quantize.operand(0)]
        while pending:
            value = pending.pop()
            if value.const is not None:
                if value.const.size != 1 or value.dtype is not DataType.FLOAT:
                    return None
                continue
            producer = value.producer
            if producer is None or producer.domain or producer.graph is not graph:
                return None
            if producer.op == "DequantizeLinear":
                held = parameters(producer)
                if held is None or producer.operand(0).const is not None:
                    return None
                origins[value] = held
                wholes.add(producer.operand(0))
                continue
            if producer.op not in FUNCTIONS or value.is_output:
                return None
            if any(item is not None and item.const is None for item in map(producer.input, PLAIN.get(producer.op, ()))):
                return None
            if producer not in found:
                found.add(producer)
                pending.extend(item for item in producer.inputs if item is not None)
        inside = all(user in found or user is quantize for node in found for user in node.output.users)
        if len(found) < 2 or len(wholes) != 1 or not inside or len(set(origins.values())) != 1:
            return None
        (source,) = set(origins.values())
        if source.dtype is not goal.dtype:
            return None
        ordered = [node for node in graph.nodes if node in found]
        return cls(graph, ordered, set(origins), source, goal)

    def _values(self, forms: dict[Value, Affine]) -> dict[Value, Array]:
        """Every number of the region for each of the 256 integers, float32; those of ``forms`` rounded."""
        limits = np.iinfo(self.source.dtype.numpy)
        real = self.source.real(np.arange(limits.min, limits.max + 1))
        values: dict[Value, Array] = {value: real for value in self.inputs}
        for node in self.nodes:
            operands: list[Array] = []
            for item in node.inputs:
                if item is None:
                    operands.append(np.array(-np.inf if len(operands) == 1 else np.inf, np.float32))
                    continue
                array = item.numpy().astype(np.float32).reshape(()) if item.const is not None else values[item]
                if node.op in SHARED and forms:
                    array = _rounded(array, forms.get(node.output, self.goal))
                operands.append(array)
            result = np.asarray(FUNCTIONS[node.op](node, operands), np.float32)
            held = forms.get(node.output)
            values[node.output] = result if held is None else _rounded(result, held)
        return values

    def _forms(self) -> dict[Value, Affine]:
        forms: dict[Value, Affine] = {}
        for node in reversed(self.nodes[:-1]):
            value = node.output
            users = value.users
            only = users[0] if len(users) == 1 else None
            if only is not None and only.op in ("Relu", "Clip") and node.op in CLAMPED:
                continue
            if only is not None and only.op in SHARED:
                forms[value] = forms.get(only.output, self.goal)
            elif node.op in FIXED:
                scale, zero = FIXED[node.op]
                forms[value] = Affine(self.source.dtype, scale, zero - (128 if self._signed else 0))
            else:
                forms[value] = self._covering(self.exact[value])
        return forms

    @property
    def _signed(self) -> bool:
        return self.source.dtype is DataType.INT8

    def _covering(self, array: Array) -> Affine:
        scale, zero = affine(Range(float(array.min()), float(array.max())), DataType.INT8, False)
        return Affine(self.source.dtype, scale, zero if self._signed else zero + 128)

    def error(self) -> tuple[int, float]:
        """By how many steps results move at most, and the share of the 256 that do not."""
        last = self.nodes[-1].output
        wanted = self.goal.quantized(self.exact[last]).astype(np.int64)
        found = self.goal.quantized(self._values(self.forms)[last]).astype(np.int64)
        apart = np.abs(wanted - found)
        return int(apart.max()), float((apart == 0).mean())

    def rewrite(self) -> None:
        """Write the inner scales into the graph."""
        for node in self.nodes:
            for position, value in enumerate(node.inputs):
                if value is not None and value.const is not None and position not in PLAIN.get(node.op, ()):
                    number = value.numpy().astype(np.float32).reshape(-1)
                    held = self._covering(number)
                    whole = self.graph.constant(held.quantized(value.numpy()), f"{value.name}_quantized")
                    node.set_input(position, self._dequantized(node, whole, held))
            held_as = self.forms.get(node.output)
            if held_as is None:
                continue
            value, after = node.output, node._next
            assert after is not None
            users = value.users
            scale, zero = self._constants(held_as)
            whole = self.graph.build(after, "QuantizeLinear", [value, scale, zero], sources=node.sources).output
            real = self._dequantized(after, whole, held_as)
            for user in users:
                for position, item in enumerate(user.inputs):
                    if item is value:
                        user.set_input(position, real)

    def _constants(self, held: Affine) -> tuple[Value, Value]:
        return (
            self.graph.constant(np.array(held.scale, np.float32), "scale"),
            self.graph.constant(np.array(held.zero_point, held.dtype.numpy), "zero_point"),
        )

    def _dequantized(self, before: Node, whole: Value, held: Affine) -> Value:
        return self.graph.build(before, "DequantizeLinear", [whole, *self._constants(held)]).output


def _rounded(array: Array, held: Affine) -> Array:
    return held.real(held.quantized(np.asarray(array)))


def parameters(node: Node) -> Affine | None:
    """One scale and zero point of 8 bits, known beforehand; None for anything else."""
    scale, zero = node.operand(1), node.input(2)
    if scale.const is None or scale.const.size != 1 or node.attr_int("block_size", 0):
        return None
    whole = node.operand(0) if node.op == "DequantizeLinear" else node.output
    if whole.dtype not in BYTES or (zero is not None and (zero.const is None or zero.const.size != 1)):
        return None
    number = float(scale.numpy().astype(np.float32).reshape(()))
    return Affine(whole.dtype, number, 0 if zero is None else int(zero.numpy().reshape(()))) if number > 0 else None
