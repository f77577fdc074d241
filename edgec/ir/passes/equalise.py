"""Multiply channels so that they use the integers of their tensor alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.passes.affine import absorb, per_channel, scale_inputs
from edgec.ir.passes.base import Pass
from edgec.ir.passes.equalisable import Stretch, column, stretch_from
from edgec.ir.types import Array, DataType

LARGEST = 64.0
"""A channel is multiplied by at most this, in relation to the one that is multiplied least."""


@dataclass(frozen=True)
class Scaled:
    """What an equalised value is: the value ``name`` of before, its channels multiplied by ``numbers``, [channels]."""

    name: str
    numbers: Array


@dataclass(frozen=True)
class Equalise(Pass):
    """Cross-layer equalisation.

    Where one channel of a tensor reaches to 230 and the next to 1, the one scale of the tensor leaves a single step to
    the second.  Linear operators multiply every channel of their result by a number ``s`` of its own, and those that
    read it divide by it; ReLU, pooling and the like commute with that, so the function stays the same.

    With ``r`` the extent of a channel over the calibration data and ``w`` the largest weight that reads it,
    ``s = sqrt(w / r)``, which leaves the same ratio to both; where only depthwise convolutions read it, whose weights
    have a scale per channel, ``s = 1 / r``.

    ``HardSwish`` does not commute: it becomes ``x' Clip(x' / s + 3, 0, 6)``, with the first two as one depthwise
    convolution; that is only done where channels differ much, because it adds two operators.

    Source: Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019, section 4.1;
    the extents take the place of the weights of the first operator, which have a scale per channel here.

    Built by the converter, which has the extents; not available in a pipeline string.

    Attributes:
        extents: name of a value to the largest absolute number of each of its channels, ``[channels]``.
        least: ratio of the largest to the middle channel from which a stretch is equalised.
        costly: the same for stretches that need more operators.
    """

    name: ClassVar[str] = "equalise"
    extents: Mapping[str, Array] = field(default_factory=dict)
    least: float = 1.5
    costly: float = 4.0

    def apply(self, model: Model) -> bool:
        return bool(self.rewrite(model))

    def rewrite(self, model: Model) -> dict[str, Scaled]:
        """Do what :meth:`apply` does, and say which values are now multiples of others.

        Every value that is new or computes something else than before has a new name, so a name that the model had
        before still stands for the same numbers, but for rounding.

        Returns:
            Name of a value to what it is a multiple of.
        """
        done: dict[Value, Scaled] = {}
        for node in list(model.graph.nodes):
            found = stretch_from(node) if node.graph is model.graph else None
            if found is None or done.keys() & found.scaled.keys():
                continue
            numbers = self._numbers(found)
            names = {value: value.name for value in found.scaled}
            if numbers is not None and self._rewrite(model.graph, found, numbers):
                done |= {value: Scaled(name, numbers * found.scaled[value]) for value, name in names.items()}
        return {value.name: scaled for value, scaled in done.items()}

    def _numbers(self, found: Stretch) -> Array | None:
        """By what to multiply the channels, float64 ``[channels]``; None where it is not worth it."""
        given = (self.extents.get(value.name) for value in found.scaled)
        known = [extent for extent in given if extent is not None and extent.shape == (found.channels,)]
        if not known:
            return None
        extent = np.max(known, axis=0)
        largest = float(extent.max())
        if not largest > 0:
            return None
        middle = max(_median(extent), largest / LARGEST)
        if largest / middle < (self.costly if found.added else self.least):
            return None
        extent = np.maximum(extent, largest / LARGEST)
        read = _weights_of(found)
        numbers = largest / extent if read is None else np.sqrt(read / extent)
        numbers = numbers / numbers.min()
        numbers = np.minimum(numbers, LARGEST)
        # the largest channel keeps its extent, so that a range of the tensor, such as that of Clip, keeps its sense
        result: Array = numbers * (largest / float((extent * numbers).max()))
        return result

    def _rewrite(self, graph: Graph, found: Stretch, numbers: Array) -> bool:
        readers = [(node, 1 / (numbers * found.scaled[value])) for node, value in found.readers]
        if not all(scale_inputs(graph, node, scale, None, apply=False) for node, scale in readers):
            return False
        if not absorb(graph, found.producer, numbers, None):
            return False
        for node, scale in readers:
            scale_inputs(graph, node, scale, None, apply=True)
        for node, place, value in found.constants:
            constant = per_channel(node.operand(place), value, 1, found.channels)
            assert constant is not None
            scaled = column(constant * numbers * found.scaled[value], value).astype(np.float32)
            node.set_input(place, graph.constant(scaled, f"{node.operand(place).name}_equalised"))
        for node in found.restored:
            _restore(graph, node, numbers * _factor(found, node))
        for node in found.gates:
            _split(graph, node, numbers * _factor(found, node))
        for value in found.scaled:
            value.name = graph.unique(f"{value.name}_equalised")
        return True


def _median(numbers: Array) -> float:
    """As ``numpy.median`` of finite numbers, which imports ``numpy.ma`` to look for others."""
    ordered, half = np.sort(numbers), numbers.size // 2
    return float(ordered[half]) if numbers.size % 2 else float((ordered[half - 1] + ordered[half]) / 2)


def _factor(found: Stretch, node: Node) -> float:
    return next(factor for value, factor in found.scaled.items() if value in node.inputs)


def _weights_of(found: Stretch) -> Array | None:
    """The largest absolute weight that reads each channel, over all readers but depthwise ones; None without others."""
    largest: list[Array] = []
    for node, _ in found.readers:
        array = np.abs(node.operand(1).numpy()).astype(np.float64)
        if node.op == "Gemm":
            most = array.max(axis=0 if node.attr_int("transB", 0) else 1)
        else:
            groups = node.attr_int("group", 1)
            if array.shape[1] == 1 and groups == found.channels:
                continue
            by_output = array.max(axis=tuple(range(2, array.ndim)))
            most = by_output.reshape(groups, -1, array.shape[1]).max(axis=1).reshape(-1)
        largest.append(most / (most.max() or 1.0))
    if not largest:
        return None
    found_largest: Array = np.maximum(np.max(largest, axis=0), 1 / LARGEST)
    return found_largest


def _divided(graph: Graph, node: Node, value: Value, numbers: Array, offset: Array, *, before: Node) -> Value:
    """A depthwise convolution of one tap that gives ``value / numbers + offset``."""
    weights = graph.constant((1 / numbers).astype(np.float32).reshape(-1, 1, 1, 1), f"{node.name}_restoring")
    moved = graph.constant(offset.astype(np.float32), f"{node.name}_offset")
    made = graph.build(before, "Conv", [value, weights, moved], group=len(numbers), kernel_shape=[1, 1])
    return made.output


def _restore(graph: Graph, node: Node, numbers: Array) -> None:
    """Give a node its first operand as it was; a constant that it adds goes along."""
    place = next(place for place, item in enumerate(node.inputs) if item is not None and item.const is None)
    value = node.operand(place)
    if node.op == "Add":
        constant = per_channel(node.operand(1 - place), value, 1, len(numbers))
        assert constant is not None
        graph.replace(node.output, _divided(graph, node, value, numbers, constant, before=node))
        graph.remove(node)
        return
    node.set_input(place, _divided(graph, node, value, numbers, np.zeros(len(numbers)), before=node))


def _split(graph: Graph, node: Node, numbers: Array) -> None:
    """Write HardSwish as the product of its multiplied operand and ``Clip(x + 3, 0, 6)``."""
    value = node.operand(0)
    moved = _divided(graph, node, value, numbers, np.full(len(numbers), 3.0), before=node)
    ends = [graph.constant(np.array(end, np.float32), f"{node.name}_end") for end in (0.0, 6.0)]
    gate = graph.build(node, "Clip", [moved, *ends]).output
    node.op = "Mul"
    node.set_inputs([value, gate])
    assert value.dtype is DataType.FLOAT
