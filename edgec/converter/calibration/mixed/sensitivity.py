"""How much noise every single rounding adds at the outputs: one run of the model per unit and sample for its weights,
one for each value that is rounded.

The other way round, everything but one node quantized, would measure the noise of a node on top of that of all others,
and a small difference of large numbers says little; alone, its noise is all that there is.  Where the noises are small
and independent their energies add up, which gives an estimate of any choice from one run per place.

All runs share one session: the float model, in which a switch (an If with a scalar input) stands behind every place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgec.converter.calibration.mixed.units import Edge, Unit, Units
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.quantize import (
    WEIGHTED,
    Quantize,
    constant_operands,
    constant_parameters,
    mean_shift,
    weight_axis,
    weight_error,
    weight_steps,
)
from edgec.ir.types import Array, DataType
from edgec.ir.writer import write_model

THREADS: Final = 2
"""Threads inside an operator, as in the calibration."""
SWITCHES: Final = "edgec_switches"

Feeds = dict[str, Array]


@dataclass(eq=False)
class _Place:
    """Where something is rounded: a value, or the weights of a unit."""

    subject: Edge | Unit
    switch: int


def measure_noise(
    model: Model,
    quantize: Quantize,
    found: Units,
    samples: Sequence[Feeds],
    *,
    progress: Callable[[str], object] = lambda step: None,
) -> None:
    """Fill in the noise of every unit's weights and of every value of a float model.

    Noise is the energy of the error over that of the output, of the output where this is largest, over all samples.

    Args:
        model: left as it is.
        found: its units.
        samples: inputs by name.
        progress: called with ``measuring noise: 3 of 100``.
    """
    copy = copy_model(model)
    twins = dict(zip(_values(model.graph), _values(copy.graph)))
    nodes = dict(zip(model.graph.nodes, copy.graph.nodes))
    places: list[_Place] = []
    builder = _Builder(copy.graph)
    pairs = quantize.pairs(model.graph)
    for edge in found.edges:
        if edge.producer is not None and edge.producer.moves:
            continue
        scale, zero = pairs[edge.value]
        places.append(_Place(edge, builder.round_value(twins[edge.value], scale, zero, quantize)))
    for unit in found.units:
        node = unit.nodes[0]
        if node.op in WEIGHTED and node.operand(1).const is not None:
            mean = quantize.means.get(node.operand(0).name)
            places.append(_Place(unit, builder.round_weights(nodes[node], quantize, mean)))
        elif constant_operands(node):
            places.append(_Place(unit, builder.round_constants(nodes[node], quantize)))
    if places:
        builder.finish()
        noises = _run(copy, [place.switch for place in places], samples, progress)
        for place, noise in zip(places, noises):
            place.subject.noise = noise
    _spread(found)


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]


def _spread(found: Units) -> None:
    """What a moving unit gives carries the noise of what it takes, wherever the rounding then happens."""
    for unit in found.units:
        if unit.moves:
            for edge in unit.gives:
                edge.noise = max((other.noise for other in unit.reads), default=0.0)


class _Builder:
    """Puts switches into a float graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.first = next(iter(graph.nodes))
        self.flags: list[Value] = []
        self.latest: dict[Value, Value] = {}
        """What stands for a value behind its switches: a result has one for weights and one for its own rounding."""

    def _flag(self) -> tuple[int, Value]:
        flag = self.graph.value(f"{SWITCHES}_{len(self.flags)}", DataType.BOOL, (1,))
        self.flags.append(flag)
        return len(self.flags) - 1, flag

    def finish(self) -> None:
        """One input of all switches, split into scalars."""
        vector = Value(SWITCHES, DataType.BOOL, (len(self.flags),))
        self.graph.inputs.append(vector)
        sizes = self.graph.constant(np.ones(len(self.flags), np.int64), f"{SWITCHES}_sizes")
        split = Node("Split", [vector, sizes], self.flags, {"axis": 0}, name=SWITCHES, sources=(SWITCHES,))
        self.graph.insert_before(next(iter(self.graph.nodes)), split)

    def round_value(self, value: Value, scale: float, zero: int, quantize: Quantize) -> int:
        """Everybody who reads the value reads it rounded while the switch is on; returns the switch."""
        number, flag = self._flag()
        integers = quantize.rules.activation

        def rounding(body: Graph, given: Value) -> Value:
            parameters = [
                body.constant(np.array(scale, np.float32), "scale"),
                body.constant(np.array(zero, integers.numpy), "zero_point"),
            ]
            whole, real = body.value("whole", integers, given.shape), body.value("real", given.dtype, given.shape)
            body.append(Node("QuantizeLinear", [given, *parameters], [whole], name="quantize", sources=(SWITCHES,)))
            body.append(Node("DequantizeLinear", [whole, *parameters], [real], name="dequantize", sources=(SWITCHES,)))
            return real

        self._switch(value, flag, rounding)
        return number

    def round_weights(self, node: Node, quantize: Quantize, mean: Array | None) -> int:
        """The node's result has the error of rounded weights while the switch is on; returns the switch."""
        number, flag = self._flag()
        array, axis = node.operand(1).numpy(), weight_axis(node)
        steps = weight_steps(array, axis, node.op in quantize.rules.per_channel)
        error = -weight_error(array, axis, steps).astype(np.float32)
        biased = node.input(2) is not None and node.op != "MatMul"
        shift = mean_shift(node, array, steps, axis, mean) if biased and mean is not None else None
        operand, op, attributes = node.operand(0), node.op, dict(node.attributes)

        def adding(body: Graph, given: Value) -> Value:
            inputs: list[Value | None] = [operand, body.constant(error, "error")]
            if shift is not None:
                inputs.append(body.constant(shift.astype(np.float32), "shift"))
            extra = body.value("extra", given.dtype, given.shape)
            total = body.value("total", given.dtype, given.shape)
            body.append(Node(op, inputs, [extra], attributes, name="extra", sources=(SWITCHES,)))
            body.append(Node("Add", [given, extra], [total], name="total", sources=(SWITCHES,)))
            return total

        self._switch(node.output, flag, adding)
        return number

    def round_constants(self, node: Node, quantize: Quantize) -> int:
        """The node reads its constant operands rounded while the switch is on; returns the switch."""
        number, flag = self._flag()
        for position in constant_operands(node):
            value = node.operand(position)
            array = value.numpy()
            scale, zero = constant_parameters(array, quantize.rules)
            least, most = quantize.rules.limits
            whole = np.clip(np.round(array / np.float32(scale)) + zero, least, most)
            rounded = ((whole - zero) * np.float32(scale)).astype(np.float32)
            branches = {}
            for name, numbers in (("then_branch", rounded), ("else_branch", array)):
                body = Graph(name)
                body.parent = self.graph
                body.add_output("out", _unchanged(body, body.constant(numbers, "constant")))
                branches[name] = body
            chosen = self.graph.value(f"{value.name}_switched", value.dtype, value.shape)
            self.graph.insert_before(
                node, Node("If", [flag], [chosen], branches, name=chosen.name, sources=(SWITCHES,))
            )
            node.set_input(position, chosen)
        return number

    def _switch(self, switched: Value, flag: Value, change: Callable[[Graph, Value], Value]) -> None:
        graph, value = self.graph, self.latest.get(switched, switched)
        branches = {}
        for name, rewrite in (("then_branch", change), ("else_branch", _unchanged)):
            body = Graph(name)
            body.parent = graph
            body.add_output("out", rewrite(body, value))
            branches[name] = body
        chosen = graph.value(f"{value.name}_switched", value.dtype, value.shape)
        readers = [(user, n) for user in value.users for n, item in enumerate(user.inputs) if item is value]
        readers = [(user, n) for user, n in readers if user.graph is graph]
        outputs = [n for n, item in enumerate(graph.outputs) if item is value]
        node = Node("If", [flag], [chosen], branches, name=chosen.name, sources=(SWITCHES,))
        if value.producer is not None:
            graph.insert_after(value.producer, node)
        else:
            graph.insert_before(self.first, node)
        for user, position in readers:
            user.set_input(position, chosen)
        for position in outputs:
            graph.set_output(position, chosen)
        self.latest[switched] = chosen


def _unchanged(body: Graph, value: Value) -> Value:
    same = body.value("same", value.dtype, value.shape)
    body.append(Node("Identity", [value], [same], name="same", sources=(SWITCHES,)))
    return same


def _run(
    model: Model, switches: Sequence[int], samples: Sequence[Feeds], progress: Callable[[str], object]
) -> list[float]:
    """The noise with each of the switches on, alone."""
    from edgec.runtime.onnxruntime import open_session

    with tempfile.TemporaryDirectory(prefix="edgec-noise-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(model, path)
        session = open_session(path, threads=THREADS)
        count = int(model.graph.inputs[-1].dims[0])
        off = np.zeros(count, np.bool_)
        names = [value.name for value in model.graph.inputs[:-1]]
        given = [{name: feeds[name] for name in names} for feeds in samples]
        expected = [_floats(session.run({**feeds, SWITCHES: off})) for feeds in given]
        energies = {name: sum(_energy(item[name]) for item in expected) for name in expected[0]}
        found = []
        for done, switch in enumerate(switches):
            progress(f"measuring noise: {done + 1} of {len(switches)}")
            on = off.copy()
            on[switch] = True
            errors = dict.fromkeys(energies, 0.0)
            for feeds, wanted in zip(given, expected):
                for name, array in _floats(session.run({**feeds, SWITCHES: on})).items():
                    errors[name] += _energy(array - wanted[name])
            found.append(max((errors[name] / energies[name] for name in energies if energies[name]), default=0.0))
        session.close()
    return found


def _floats(outputs: Feeds) -> Feeds:
    return {name: array.astype(np.float64) for name, array in outputs.items() if array.dtype.kind == "f"}


def _energy(array: Array) -> float:
    finite = array[np.isfinite(array)]
    return float(np.sum(np.square(finite)))
