"""The intermediate representation: a typed ONNX graph that is cheap to rewrite.

A :class:`Graph` owns its nodes in a doubly linked list, so that inserting and removing is O(1) and the order is always
a valid schedule.  Names of graph inputs and outputs are kept apart from the names of values, so no rewrite can change a
model's interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from edgec.ir.tensor import Tensor, Value
from edgec.ir.types import Array, DataType, Shape

__all__ = ["Attribute", "Graph", "Model", "Node", "Tensor", "Value"]

Attribute: TypeAlias = Any
"""int, float, str, bytes, Tensor, Graph, an ONNX TypeProto, or a list of one of them."""


class Node:
    """One operator.

    Attributes:
        op, domain: the operator; the default domain is ``""``.
        name: for messages; need not be unique.
        sources: names of the nodes of the user's model that this node came from.
        attributes: plain Python values, :class:`Tensor` or :class:`Graph`.
    """

    __slots__ = ("_inputs", "_next", "_prev", "attributes", "domain", "graph", "name", "op", "outputs", "sources")

    def __init__(
        self,
        op: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        name: str = "",
        domain: str = "",
        sources: Iterable[str] = (),
    ):
        self.op = op
        self.domain = domain
        self.name = name
        self.sources: tuple[str, ...] = tuple(sources)
        self.attributes: dict[str, Attribute] = dict(attributes or {})
        self.graph: Graph | None = None
        self._prev: Node | None = None
        self._next: Node | None = None
        self._inputs: list[Value | None] = []
        self.outputs: list[Value] = list(outputs)
        for position, value in enumerate(self.outputs):
            value.producer = self
            value.index = position
        self.set_inputs(inputs)

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """The operands; None where an optional one is left out."""
        return tuple(self._inputs)

    def input(self, position: int) -> Value | None:
        """The operand at a position, or None if it is left out."""
        return self._inputs[position] if position < len(self._inputs) else None

    def operand(self, position: int) -> Value:
        """The operand at a position, which must be there.

        Raises:
            ValueError: it is left out.
        """
        value = self.input(position)
        if value is None:
            raise ValueError(f"{self.op} '{self.name}' has no operand {position}")
        return value

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    def set_input(self, position: int, value: Value | None) -> None:
        """Replace one operand, keeping the uses in step; positions beyond the end are filled with None."""
        while len(self._inputs) <= position:
            self._inputs.append(None)
        old = self._inputs[position]
        if old is not None:
            _drop_use(old, self)
        self._inputs[position] = value
        if value is not None:
            value._uses[self] = value._uses.get(self, 0) + 1

    def set_inputs(self, values: Iterable[Value | None]) -> None:
        """Replace all operands; trailing None are dropped."""
        for old in self._inputs:
            if old is not None:
                _drop_use(old, self)
        fresh = list(values)
        while fresh and fresh[-1] is None:
            fresh.pop()
        self._inputs = fresh
        for value in fresh:
            if value is not None:
                value._uses[self] = value._uses.get(self, 0) + 1

    def attr_int(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""
        return int(self._attribute(name, default))

    def attr_float(self, name: str, default: float | None = None) -> float:
        """A float attribute."""
        return float(self._attribute(name, default))

    def attr_str(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        value = self._attribute(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def attr_ints(self, name: str, default: Iterable[int] | None = None) -> list[int]:
        """A list of integers."""
        return [int(item) for item in self._attribute(name, default)]

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return name in self.attributes

    def _attribute(self, name: str, default: Any) -> Any:
        value = self.attributes.get(name, default)
        if value is None:
            raise ValueError(f"{self.op} '{self.name}' has no attribute '{name}'")
        return value

    @property
    def subgraphs(self) -> list[Graph]:
        """The graphs among the attributes (If, Loop, Scan)."""
        found: list[Graph] = []
        for attribute in self.attributes.values():
            if type(attribute) is list:
                if attribute and isinstance(attribute[0], Graph):  # the items of an attribute have one type
                    found.extend(attribute)
            elif isinstance(attribute, Graph):
                found.append(attribute)
        return found

    def __repr__(self) -> str:
        operands = ", ".join("-" if v is None else v.name for v in self._inputs)
        results = ", ".join(v.name for v in self.outputs)
        return f"{results} = {self.domain + '.' if self.domain else ''}{self.op}({operands})"


def _drop_use(value: Value, node: Node) -> None:
    left = value._uses[node] - 1
    if left:
        value._uses[node] = left
    else:
        del value._uses[node]


class Graph:
    """A graph: inputs, nodes in order, outputs, all under fixed interface names.

    Attributes:
        inputs: run-time inputs (never constants); the name of an input is the name of its value.
        outputs: the values handed out; ``output_names`` are their fixed names, in the same order.
        parent: the graph around this one, for the body of a control-flow operator.
    """

    def __init__(self, name: str = "graph"):
        self.name = name
        self.inputs: list[Value] = []
        self.output_names: list[str] = []
        self.parent: Graph | None = None
        self._outputs: list[Value] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        self._names: dict[str, int] = {}

    # values and names

    def unique(self, hint: str) -> str:
        """A value name that this graph has not handed out yet, starting with ``hint``."""
        root = self
        while root.parent is not None:
            root = root.parent
        count = root._names.get(hint)
        if count is None:
            root._names[hint] = 1
            return hint
        while True:
            candidate = f"{hint}_{count}"
            count += 1
            if candidate not in root._names:
                root._names[hint] = count
                root._names[candidate] = 1
                return candidate

    @contextmanager
    def borrowing_names(self) -> Iterator[None]:
        """What :meth:`unique` hands out inside is free again afterwards."""
        kept = dict(self._names)
        try:
            yield
        finally:
            self._names = kept

    def value(self, hint: str, dtype: DataType = DataType.UNDEFINED, shape: Shape | None = None) -> Value:
        """A fresh value."""
        return Value(self.unique(hint), dtype, shape)

    def constant(self, tensor: Tensor | Array, hint: str = "const", dtype: DataType | None = None) -> Value:
        """A fresh constant value."""
        held = tensor if isinstance(tensor, Tensor) else Tensor.of(tensor, dtype)
        return Value(self.unique(hint), held.dtype, held.shape, const=held)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values handed out."""
        return tuple(self._outputs)

    def add_output(self, name: str, value: Value) -> None:
        """Hand out a value under a name."""
        self.output_names.append(name)
        self._outputs.append(value)
        value._outputs += 1

    def set_output(self, position: int, value: Value) -> None:
        """Hand out another value under the same name."""
        self._outputs[position]._outputs -= 1
        self._outputs[position] = value
        value._outputs += 1

    def replace(self, old: Value, new: Value) -> None:
        """Make every user of ``old`` use ``new``, graph outputs included (also those of enclosed graphs)."""
        if old is new:
            return
        for node in list(old._uses):
            for position, value in enumerate(node._inputs):
                if value is old:
                    node.set_input(position, new)
        if old._outputs:
            for graph in self._with_subgraphs():
                for position, value in enumerate(graph._outputs):
                    if value is old:
                        graph.set_output(position, new)

    def _with_subgraphs(self) -> Iterator[Graph]:
        yield self
        for node in self.nodes:
            for body in node.subgraphs:
                yield from body._with_subgraphs()

    # nodes

    @property
    def nodes(self) -> Iterator[Node]:
        """The nodes in order; the one just handed out may be removed, and nodes may be inserted before or after it."""
        node = self._first
        while node is not None:
            following = node._next
            yield node
            # A rewrite may have removed the remembered successor; in that case go on from the current node.
            if node.graph is self:
                following = node._next
            elif following is not None and following.graph is not self:
                raise RuntimeError("the node after the current one was removed while iterating")
            node = following

    def __len__(self) -> int:
        return self._count

    def append(self, node: Node) -> Node:
        """Add a node at the end."""
        return self._link(node, self._last, None)

    def insert_before(self, anchor: Node, node: Node) -> Node:
        """Add a node just before another."""
        return self._link(node, anchor._prev, anchor)

    def insert_after(self, anchor: Node, node: Node) -> Node:
        """Add a node just after another."""
        return self._link(node, anchor, anchor._next)

    def _link(self, node: Node, before: Node | None, after: Node | None) -> Node:
        if node.graph is not None:
            raise ValueError(f"{node!r} is already in a graph")
        node.graph = self
        node._prev, node._next = before, after
        if before is None:
            self._first = node
        else:
            before._next = node
        if after is None:
            self._last = node
        else:
            after._prev = node
        self._count += 1
        return node

    def detach(self, node: Node) -> None:
        """Take a node out of the order without touching its operands (to put it elsewhere)."""
        if node._prev is None:
            self._first = node._next
        else:
            node._prev._next = node._next
        if node._next is None:
            self._last = node._prev
        else:
            node._next._prev = node._prev
        node.graph = None
        self._count -= 1

    def remove(self, node: Node) -> None:
        """Delete a node whose outputs nobody uses.

        Raises:
            ValueError: an output is still used.
        """
        for value in node.outputs:
            if value.use_count:
                raise ValueError(f"'{value.name}' is still used")
        node.set_inputs(())
        self.detach(node)
        for body in node.subgraphs:
            body.clear()

    def clear_outputs(self) -> None:
        """Hand out nothing; the nodes stay."""
        for value in self._outputs:
            value._outputs -= 1
        self._outputs.clear()
        self.output_names.clear()

    def clear(self) -> None:
        """Drop all nodes and outputs, releasing the uses of values of enclosing graphs."""
        self.clear_outputs()
        for node in list(self.nodes):
            node.set_inputs(())
            self.detach(node)
            for body in node.subgraphs:
                body.clear()

    def build(
        self,
        before: Node,
        op: str,
        inputs: Iterable[Value | None],
        *,
        outputs: int = 1,
        hint: str | None = None,
        domain: str = "",
        sources: Iterable[str] | None = None,
        **attributes: Attribute,
    ) -> Node:
        """Insert a new node before another and type its outputs by shape inference."""
        from edgec.ir.inference import infer_node

        name = hint or (before.name or before.op)
        made = Node(
            op,
            inputs,
            [self.value(f"{name}_{op.lower()}") for _ in range(outputs)],
            attributes,
            name=name,
            domain=domain,
            sources=before.sources if sources is None else sources,
        )
        self.insert_before(before, made)
        infer_node(made)
        return made

    def constants(self) -> list[Value]:
        """Every constant that some node or output uses, in order of first use."""
        seen: dict[Value, None] = {}
        for node in self.nodes:
            for value in node._inputs:
                if value is not None and value.const is not None:
                    seen.setdefault(value)
        for value in self._outputs:
            if value.const is not None:
                seen.setdefault(value)
        return list(seen)


class Model:
    """A graph and what stands around it.

    Attributes:
        opset: version of the default domain that the nodes follow.
        domains: versions of the other domains in use.
        metadata: the model's ``metadata_props``.
    """

    def __init__(
        self,
        graph: Graph,
        opset: int,
        *,
        domains: Mapping[str, int] | None = None,
        ir_version: int = 10,
        producer: str = "",
        doc: str = "",
        metadata: Mapping[str, str] | None = None,
    ):
        self.graph = graph
        self.opset = opset
        self.domains = dict(domains or {})
        self.ir_version = ir_version
        self.producer = producer
        self.doc = doc
        self.metadata = dict(metadata or {})
