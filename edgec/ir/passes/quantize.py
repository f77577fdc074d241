"""Write a calibrated graph with QuantizeLinear and DequantizeLinear around everything that is to run on integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.passes.base import Pass
from edgec.ir.quantization import QuantizationRules, Range, affine
from edgec.ir.types import Array, DataType

WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Operators with weights as their second operand, and the axis of result channels (Gemm: 0 when transB)."""

BIAS_LIMIT = 2**30
"""Biases are kept below this, so that the sums of products that are added to them fit into 32 bits."""

DATA: dict[str, tuple[int, ...]] = {
    **dict.fromkeys("Add Sub Mul Div Max Min MatMul PRelu".split(), (0, 1)),
}
"""Operands that are data; the first one by default, all of a Concat."""


@dataclass(frozen=True)
class Quantize(Pass):
    """Insert QDQ pairs under a target's rules.

    Every value that an integer operator takes or gives is followed by one QuantizeLinear and one DequantizeLinear, so
    the target sees one stored tensor per value.  All users read it behind the pair where an integer operator gives it;
    where it is computed in float, only the integer operators do, and the others keep the float.  Weights become int8
    constants, symmetric, per channel where the rules say so: ``scale = max |w| / 127``; biases int32 at scale
    ``input x weight``.  Values tied together by operators that need one scale (Concat, pooling, reshapes) get the union
    of their ranges.

    Rounding weights shifts the mean of a result by the weights' error times the mean of the operand; where the means of
    the operand's channels are known, the bias takes that shift back.

    Source: Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019, section 4.2.

    Built by the converter, which has the ranges; not available in a pipeline string.

    Attributes:
        ranges: of values, by name.
        keep: names of nodes that stay in float.
        means: of the channels of values, by name.
        integer_io: whether the graph will take integers, so that float operators too read inputs behind their pair.
    """

    name: ClassVar[str] = "quantize"
    rules: QuantizationRules = field(default=None)  # type: ignore[assignment]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()
    means: Mapping[str, Array] = field(default_factory=dict)
    integer_io: bool = False

    def apply(self, model: Model) -> bool:
        work = _Work(self, model.graph)
        work.run()
        return work.changed

    def chosen(self, graph: Graph) -> list[Node]:
        """The nodes that will run on integers."""
        return _Work(self, graph).nodes

    def units(self, graph: Graph) -> list[tuple[Node, ...]]:
        """The same nodes, each with the activation that its kernel applies."""
        work = _Work(self, graph)
        behind = {node.output.users[0] for node in work.fused}
        return [
            (node, node.output.users[0]) if node in work.fused else (node,) for node in work.nodes if node not in behind
        ]

    def pairs(self, graph: Graph) -> dict[Value, tuple[float, int]]:
        """Scale and zero point of every value that gets a QDQ pair."""
        work = _Work(self, graph)
        return {value: work.parameters(value, found) for value, found in work.united_ranges().items()}

    def observed(self, graph: Graph) -> tuple[list[str], dict[str, str]]:
        """The names of the values whose ranges the pass needs, and of those that take another's range.

        The second are results that go to an activation only, which their producer applies itself: they get the range of
        the activation's result.
        """
        work = _Work(self, graph, known=True)
        names: dict[str, None] = {}
        taken: dict[str, str] = {}
        for node in work.nodes:
            for value in (*work.operands(node), *node.outputs):
                if value.const is not None or not value.use_count:
                    continue
                if value.producer in work.fused:
                    taken[value.name] = value.users[0].output.name
                else:
                    names.setdefault(value.name)
        return list(names), taken


class _Work:
    def __init__(self, options: Quantize, graph: Graph, *, known: bool = False):
        self.rules, self.ranges, self.graph = options.rules, options.ranges, graph
        self.known = known
        self.means = options.means
        self.originals: dict[Value, str] = {}
        self.changed = False
        self.integer_io = options.integer_io
        self.nodes = [node for node in graph.nodes if node.name not in options.keep and self._fits(node)]
        self.chosen = set(self.nodes)
        self.fused = {node for node in self.nodes if self._is_fused(node)}

    # which nodes

    def _fits(self, node: Node) -> bool:
        if node.domain or node.op not in self.rules.quantizable:
            return False
        for value in (*self.operands(node), *node.outputs[:1]):
            if value.dtype is not DataType.FLOAT or not self._has_range(value):
                return False
        if node.op in ("Conv", "ConvTranspose", "Gemm"):
            bias = node.input(2)
            return node.operand(1).const is not None and (bias is None or bias.const is not None)
        return any(value.const is None for value in self.operands(node))

    def _has_range(self, value: Value) -> bool:
        return self.known or value.const is not None or value.name in self.ranges

    def operands(self, node: Node) -> list[Value]:
        if node.op == "Concat":
            return [value for value in node.inputs if value is not None]
        return [value for position in DATA.get(node.op, (0,)) if (value := node.input(position)) is not None]

    def _is_fused(self, node: Node) -> bool:
        """Whether the node's result goes to nothing but an activation that the node applies itself."""
        value = node.output
        if node.op not in self.rules.fuses or value.use_count != 1 or value.is_output:
            return False
        user = value.users[0]
        return user.op in self.rules.fused and not user.domain and user in self.chosen

    # ranges

    def united_ranges(self) -> dict[Value, Range]:
        """The range of every value to quantize, united over values that must share a scale."""
        parent: dict[Value, Value] = {}

        def find(value: Value) -> Value:
            parent.setdefault(value, value)
            while parent[value] is not value:
                parent[value] = parent[parent[value]]
                value = parent[value]
            return value

        values: dict[Value, None] = {}
        for node in self.nodes:
            data = [value for value in self.operands(node) if value.const is None]
            results = [] if node in self.fused else [value for value in node.outputs if value.use_count]
            for value in (*data, *results):
                if not self._inside_fusion(value):
                    values.setdefault(value)
            if node.op in self.rules.same:
                tied = [value for value in (*data, *results) if not self._is_fixed(value)]
                for value in tied[1:]:
                    parent[find(value)] = find(tied[0])
        united: dict[Value, Range] = {}
        for value in values:
            root, found = find(value), self.ranges.get(value.name)
            if found is not None:
                united[root] = united[root].united(found) if root in united else found
        return {value: united[find(value)] for value in values if find(value) in united}

    def _inside_fusion(self, value: Value) -> bool:
        return value.producer is not None and value.producer in self.fused

    def _is_fixed(self, value: Value) -> bool:
        producer = value.producer
        return producer is not None and not producer.domain and producer.op in self.rules.fixed

    def parameters(self, value: Value, found: Range) -> tuple[float, int]:
        """Scale and zero point of a value: those that its kernel prescribes, else those that cover its range."""
        producer = value.producer
        fixed = self.rules.fixed.get(producer.op) if producer is not None and producer in self.chosen else None
        if fixed is not None:
            return fixed.scale, fixed.zero_point
        return affine(found, self.rules.activation, self.rules.symmetric)

    # rewriting

    def run(self) -> None:
        scales: dict[Value, float] = {}
        for value, found in self.united_ranges().items():
            scale, zero = self.parameters(value, found)
            real = self._wrap(value, scale, zero)
            scales[real] = scale
            self.originals[real] = value.name
            self.changed = True
        for node in self.nodes:
            if node.op in WEIGHTED and node.operand(1).const is not None:
                self._weights(node, scales)
            else:
                self._constants(node)

    def _wrap(self, value: Value, scale: float, zero: int) -> Value:
        """Put a QDQ pair behind a value; returns what its users, or those among them on integers, read now."""
        graph = self.graph
        given = value.producer in self.chosen or (value.producer is None and self.integer_io)
        users = [
            (user, position)
            for user in value.users
            for position, item in enumerate(user.inputs)
            if item is value and (given or user in self.chosen)
        ]
        outputs = [position for position, item in enumerate(graph.outputs) if item is value and given]
        parameters = [
            graph.constant(np.array(scale, np.float32), f"{value.name}_scale"),
            graph.constant(np.array(zero, self.rules.activation.numpy), f"{value.name}_zero_point"),
        ]
        whole = graph.value(f"{value.name}_quantized", self.rules.activation, value.shape)
        real = graph.value(f"{value.name}_dequantized", value.dtype, value.shape)
        sources = value.producer.sources if value.producer is not None else ()
        quantize = Node("QuantizeLinear", [value, *parameters], [whole], name=f"{value.name}_quantize", sources=sources)
        dequantize = Node(
            "DequantizeLinear", [whole, *parameters], [real], name=f"{value.name}_dequantize", sources=sources
        )
        if value.producer is not None:
            graph.insert_after(value.producer, quantize)
        else:
            first = next(iter(graph.nodes))
            graph.insert_before(first, quantize)
        graph.insert_after(quantize, dequantize)
        for user, position in users:
            user.set_input(position, real)
        for position in outputs:
            graph.set_output(position, real)
        return real

    def _weights(self, node: Node, scales: Mapping[Value, float]) -> None:
        value = node.operand(1)
        held = value.const
        assert held is not None
        axis = weight_axis(node)
        array = held.numpy()
        steps = weight_steps(array, axis, node.op in self.rules.per_channel)
        bias, operand = node.input(2), node.operand(0)
        if bias is not None and bias.const is not None and operand in scales and node.op != "MatMul":
            steps = np.maximum(steps, _least_steps(bias.const, scales[operand], steps))
        node.set_input(1, self._held(node, value, held, steps, axis))
        if bias is not None and bias.const is not None and operand in scales and node.op != "MatMul":
            products = (steps.astype(np.float64) * scales[operand]).astype(np.float32)
            mean = self.means.get(self.originals[operand])
            shift = None if mean is None else mean_shift(node, array, steps, axis, mean)
            self._bias(node, bias.const, products, shift)

    def _held(self, node: Node, value: Value, held: Tensor, steps: Array, axis: int) -> Value:
        """DequantizeLinear of the int8 form of a constant, rounded when it is read."""
        shape = [1] * len(held.shape)
        if steps.ndim:
            shape[axis] = -1
        spread = steps.reshape(shape)

        def load() -> Array:
            return np.clip(np.round(held.numpy() / spread), -127, 127).astype(np.int8)

        whole = self.graph.constant(Tensor(DataType.INT8, held.shape, load), f"{value.name}_quantized")
        return self._dequantized(node, whole, steps, np.zeros(steps.shape, np.int8), axis, value)

    def _bias(self, node: Node, held: Tensor, products: Array, shift: Array | None) -> None:
        limit = 2**31 - 1
        real = held.numpy().astype(np.float64).reshape(-1)
        if shift is not None and shift.shape == real.shape:
            real = real + shift
        integers = np.clip(np.round(real / products), -limit, limit).astype(np.int32)
        value = node.operand(2)
        whole = self.graph.constant(integers.reshape(held.shape), f"{value.name}_quantized")
        zeros = np.zeros(products.shape, np.int32)
        node.set_input(2, self._dequantized(node, whole, products, zeros, 0, value))

    def _constants(self, node: Node) -> None:
        """Constant data operands become integers of their own scale."""
        for position in constant_operands(node):
            value = node.operand(position)
            array = value.numpy()
            scale, zero = constant_parameters(array, self.rules)
            least, most = self.rules.limits
            whole = np.clip(np.round(array / np.float32(scale)) + zero, least, most).astype(self.rules.activation.numpy)
            constant = self.graph.constant(whole, f"{value.name}_quantized")
            steps = np.array(scale, np.float32)
            made = self._dequantized(node, constant, steps, np.array(zero, self.rules.activation.numpy), 0, value)
            node.set_input(position, made)

    def _dequantized(self, node: Node, whole: Value, steps: Array, zeros: Array, axis: int, value: Value) -> Value:
        graph = self.graph
        real = graph.value(f"{value.name}_dequantized", DataType.FLOAT, whole.shape)
        parameters = [graph.constant(steps, f"{value.name}_scale"), graph.constant(zeros, f"{value.name}_zero_point")]
        attributes = {"axis": axis} if steps.ndim else {}
        made = Node(
            "DequantizeLinear",
            [whole, *parameters],
            [real],
            attributes,
            name=f"{value.name}_dequantize",
            sources=node.sources,
        )
        graph.insert_before(node, made)
        return real


def constant_operands(node: Node) -> list[int]:
    """Positions of the constant float operands that are data, not weights."""
    positions = DATA.get(node.op, ()) if node.op != "Concat" else range(len(node.inputs))
    if node.op in WEIGHTED and node.operand(1).const is not None:
        return []
    return [
        position
        for position in positions
        if (value := node.input(position)) is not None and value.const is not None and value.dtype is DataType.FLOAT
    ]


def constant_parameters(array: Array, rules: QuantizationRules) -> tuple[float, int]:
    """Scale and zero point of a constant data operand."""
    return affine(Range(float(array.min()), float(array.max())), rules.activation, rules.symmetric)


def weight_axis(node: Node) -> int:
    """The axis of constant weights (the second operand) that result channels lie along."""
    axis = 0 if node.op == "Gemm" and node.attr_int("transB", 0) else WEIGHTED[node.op]
    return axis if axis < len(node.operand(1).dims) else 0


def weight_steps(array: Array, axis: int, per_channel: bool) -> Array:
    """The scale of symmetric int8 weights, float32: one per channel along ``axis``, or one, shape []."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    largest = np.abs(array).max(axis=others).astype(np.float64) if per_channel else np.array(np.abs(array).max())
    steps: Array = np.where(largest > 0, largest.astype(np.float64) / 127, 1.0).astype(np.float32)
    return steps


def weight_error(array: Array, axis: int, steps: Array) -> Array:
    """What rounding to int8 takes from weights: the weights less their int8 form."""
    shape = [1] * array.ndim
    if steps.ndim:
        shape[axis] = -1
    spread = steps.reshape(shape)
    error: Array = array - np.clip(np.round(array / spread), -127, 127) * spread
    return error


def _least_steps(bias: Tensor, scale: float, steps: Array) -> Array:
    """The smallest scales of weights at which a bias, counted in ``scale`` times these, leaves room in 32 bits.

    Weights that are rounded to nothing by them are nothing beside the bias.  Without, sums would overflow.
    """
    least = np.abs(bias.numpy().astype(np.float64)).reshape(-1) / (scale * BIAS_LIMIT)
    wanted: Array = (least if steps.ndim and least.size == steps.size else least.max(initial=0)).astype(np.float32)
    return np.broadcast_to(wanted, steps.shape)


def mean_shift(node: Node, weights: Array, steps: Array, axis: int, mean: Array) -> Array | None:
    """What to add to the bias so that rounded weights give results of the same mean; None where that is not known.

    Args:
        weights: of a Conv [M, C/group, ...] or a Gemm, float32.
        steps: one per result channel, along ``axis``, or one.
        mean: of the operand's channels, [C], float64.
    """
    error = weight_error(weights, axis, steps)
    if node.op == "Gemm":
        plain = node.attr_float("alpha", 1.0) == 1.0 and node.attr_float("beta", 1.0) == 1.0
        if not plain or node.attr_int("transA", 0) or error.shape[1 - axis] != mean.size:
            return None
        found: Array = (error if axis == 0 else error.T).astype(np.float64) @ mean
        return found
    groups = node.attr_int("group", 1)
    if node.op != "Conv" or error.shape[1] * groups != mean.size:
        return None
    taps = error.sum(axis=tuple(range(2, error.ndim)), dtype=np.float64)
    shifts: Array = np.einsum("goc,gc->go", taps.reshape(groups, -1, taps.shape[1]), mean.reshape(groups, -1))
    return shifts.reshape(-1)
