"""Raise to 16 bits also what has a form of several operators only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgec.ir.graph import Model, Node
from edgec.ir.passes.base import Pass
from edgec.ir.passes.expand_activations import expand
from edgec.ir.passes.quantize import Quantize
from edgec.ir.quantization import Range


@dataclass(frozen=True)
class Widen(Pass):
    """Quantize what is raised; activations among it that the wider integers lack are sums, products and clamps first.

    The numbers between have no ranges of the calibration: theirs follow from that of what goes in.

    Built by the converter; not available in a pipeline string.
    """

    name: ClassVar[str] = "widen"
    quantize: Quantize

    def apply(self, model: Model) -> bool:
        graph = model.graph
        ranges = dict(self.quantize.ranges)
        for node in list(graph.nodes):
            if node.op not in self.quantize.rules.expanded or node.domain or node.name in self.quantize.keep:
                continue
            result, before = node.output.name, set(graph.nodes)
            if not expand(graph, node):
                continue
            fresh = [item for item in graph.nodes if item not in before]
            for made in fresh:
                last = not any(user in fresh for user in made.output.users)
                found = ranges.get(result) if last else _range(made, ranges)
                if found is not None:
                    ranges[made.output.name] = found
        return replace(self.quantize, ranges=ranges).apply(model)


def _range(node: Node, ranges: dict[str, Range]) -> Range | None:
    """The numbers that a sum with, a product by, or a clamp at constants gives; None for anything else."""
    source = ranges.get(node.operand(0).name)
    numbers = [None if value is None or value.const is None else value.numpy() for value in node.inputs[1:]]
    if source is None or any(number is None or number.size != 1 for number in numbers):
        return None
    first, *rest = (float(number.reshape(())) for number in numbers if number is not None)
    if node.op == "Add":
        return Range(source.low + first, source.high + first)
    if node.op == "Mul":
        ends = source.low * first, source.high * first
        return Range(min(ends), max(ends))
    if node.op == "Clip" and rest:
        return Range(min(max(source.low, first), rest[0]), min(max(source.high, first), rest[0]))
    return None
