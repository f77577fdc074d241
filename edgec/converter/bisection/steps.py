"""The places of a graph where a converted model can be cut and compared with its source.

A :class:`Step` is one node that computes, with the nodes before it that cannot be looked at on their own (an activation
takes the convolution in front of it along where both are one integer kernel).  QuantizeLinear and DequantizeLinear are
no steps: a value that is held as integers is looked at behind its pair, as its users read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import DataType

_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_NO_TENSORS = (DataType.UNDEFINED, DataType.STRING)
FUSED = frozenset({"Relu", "Clip"})
"""Activations that integer kernels apply themselves, where the target's rules name no others."""


@dataclass(frozen=True, eq=False)
class Watch:
    """One value that is compared.

    Attributes:
        value: in the graph that is lowered.
        reference: its name in the reference graph.
        step: index of the step that computes it.
    """

    value: Value
    reference: str
    step: int


@dataclass(frozen=True)
class Step:
    """One node, or some that can only be looked at together.

    Attributes:
        nodes: in order; the last one gives ``watches``.
        watches: what it computes.
        reads: what it takes from earlier steps.
    """

    index: int
    nodes: tuple[Node, ...]
    watches: tuple[Watch, ...]
    reads: tuple[Watch, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes of the user's model behind it."""
        found: dict[str, None] = {}
        for node in self.nodes:
            found.update(dict.fromkeys(node.sources or (node.name,)))
        return tuple(found)


@dataclass
class Steps:
    """All steps in topological order.

    Attributes:
        last_read: the last step that takes a watch; the number of steps for those that the model hands out.
        hidden: nodes behind the last value that can be compared.
    """

    steps: list[Step] = field(default_factory=list)
    last_read: dict[Watch, int] = field(default_factory=dict)
    outputs: list[Watch] = field(default_factory=list)
    hidden: list[Node] = field(default_factory=list)

    def frontier(self, count: int) -> list[Watch]:
        """What the first ``count`` steps hand to the others and to the outside."""
        return [
            watch
            for step in self.steps[:count]
            for watch in step.watches
            if self.last_read.get(watch, -1) >= count or watch in self.outputs
        ]


def find_steps(graph: Graph, reference: Collection[str], fused: Collection[str] = FUSED) -> Steps:
    """The steps of a graph.

    Args:
        graph: the main graph of the model that is lowered.
        reference: names of the values that nodes of the reference graph compute.
        fused: activations that the kernels of the nodes before them apply.
    """
    found = Steps()
    owner: dict[Value, Watch] = {}
    pending: dict[Value, tuple[list[Node], list[Watch]]] = {}
    for node in graph.nodes:
        if _is_quantizing(node):
            continue
        members, reads = _taken(node, owner, pending)
        index = len(found.steps)
        watches = []
        for value in node.outputs:
            name = _reference_name(value, reference)
            if name is not None and not _inside_kernel(node, value, fused):
                watches.append(Watch(_seen(value), name, index))
                owner[value] = watches[-1]
        if not watches:
            pending.update((value, ([*members, node], reads)) for value in node.outputs)
            continue
        for value in node.outputs:
            if value not in owner:
                pending[value] = ([], list(watches))
        found.steps.append(Step(index, (*members, node), tuple(watches), tuple(dict.fromkeys(reads))))
        for watch in reads:
            found.last_read[watch] = index
    for value in graph.outputs:
        base = _base(value)
        if base in owner:
            found.outputs.append(owner[base])
        elif base in pending:
            found.outputs.extend(pending[base][1])
            found.hidden.extend(pending[base][0])
    found.outputs = list(dict.fromkeys(found.outputs))
    return found


def _taken(
    node: Node, owner: dict[Value, Watch], pending: dict[Value, tuple[list[Node], list[Watch]]]
) -> tuple[list[Node], list[Watch]]:
    """The nodes before that can only be seen through this one, and the watches that it depends on."""
    members: dict[Node, None] = {}
    reads: dict[Watch, None] = {}
    for value in dict.fromkeys(_base(value) for value in _operands(node)):
        if value in owner:
            reads.setdefault(owner[value])
        elif value in pending:
            members.update(dict.fromkeys(pending[value][0]))
            reads.update(dict.fromkeys(pending[value][1]))
            pending[value] = ([], pending[value][1])
    return list(members), list(reads)


def _operands(node: Node) -> Iterator[Value]:
    """Everything a node reads, in the bodies of a control-flow operator as well."""
    yield from (value for value in node.inputs if value is not None)
    for body in node.subgraphs:
        for inner in body.nodes:
            yield from _operands(inner)
        yield from body.outputs


def _is_quantizing(node: Node) -> bool:
    return node.op in _QUANTIZING and not node.domain


def _base(value: Value) -> Value:
    """The value that a computing node gave, in front of any QuantizeLinear and DequantizeLinear."""
    while value.producer is not None and _is_quantizing(value.producer):
        value = value.producer.operand(0)
    return value


def _seen(value: Value) -> Value:
    """A value as its users read it: behind the QuantizeLinear and DequantizeLinear that all of them come after."""
    for op in _QUANTIZING:
        users = value.users
        if users and not value.is_output and all(user.op == op and not user.domain for user in users):
            value = users[0].output
        elif op == "DequantizeLinear" and value.producer is not None and value.producer.op == "QuantizeLinear":
            dequantize = [user for user in value.users if user.op == "DequantizeLinear" and not user.domain]
            value = dequantize[0].output if dequantize else value
    return value


def _reference_name(value: Value, reference: Collection[str]) -> str | None:
    """What to compare a value with; None where it is nothing that can be compared."""
    seen = _seen(value)
    if not value.use_count or seen.type_proto is not None or seen.dtype in _NO_TENSORS:
        return None
    if seen.name in reference:
        return seen.name
    return value.name if value.name in reference and seen.dtype is value.dtype else None


def _inside_kernel(node: Node, value: Value, fused: Collection[str]) -> bool:
    """Whether an integer kernel computes the value and the activation behind it in one go."""
    first = node.input(0)
    if first is None or first.producer is None or not _is_quantizing(first.producer):
        return False
    if value.is_output or len(value.users) != 1 or value.users[0].op not in fused:
        return False
    return _seen(value.users[0].output) is not value.users[0].output
