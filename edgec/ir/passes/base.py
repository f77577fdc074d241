"""What a pass is, and the pipeline string that names passes and their options.

A pass is a frozen dataclass: its fields are its options, its docstring its documentation.  A pipeline is text, for
example ``fold-constants,fuse-batchnorm{producers=Conv}``.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar, get_type_hints

from edgec.errors import UsageError
from edgec.ir.graph import Graph, Model, Node


@dataclasses.dataclass(frozen=True)
class Pass(ABC):
    """One rewrite of the graph.  Valid IR before and after; the same input always gives the same output."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, model: Model) -> bool:
        """Rewrite the model in place; returns whether anything changed."""

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Option names and defaults."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    def __str__(self) -> str:
        given = [
            f"{field.name}={_show(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return self.name + ("{" + ",".join(given) + "}" if given else "")


REGISTRY: dict[str, type[Pass]] = {}

PassType = TypeVar("PassType", bound=type[Pass])


def register(cls: PassType) -> PassType:
    """Class decorator: make a pass available to pipelines under its name."""
    REGISTRY[cls.name] = cls
    return cls


def graphs_of(graph: Graph) -> Iterable[Graph]:
    """A graph and the bodies of its control-flow nodes, outermost first."""
    yield graph
    for node in graph.nodes:
        for body in node.subgraphs:
            yield from graphs_of(body)


def rewrite_each(model: Model, ops: str | tuple[str, ...], rewrite: Callable[[Graph, Node], bool]) -> bool:
    """Offer every node of the default domain with one of these operators to ``rewrite``; True if any was rewritten."""
    wanted = (ops,) if isinstance(ops, str) else ops
    changed = False
    for graph in graphs_of(model.graph):
        for node in graph.nodes:
            if node.op in wanted and not node.domain and rewrite(graph, node):
                changed = True
    return changed


def replace_node(graph: Graph, node: Node, value: Any) -> None:
    """Let ``value`` stand for the node's first output; the node and what only it used go away."""
    producer = value.producer
    if producer is not None and producer.graph is graph:
        producer.sources = tuple(dict.fromkeys((*producer.sources, *node.sources)))
    graph.replace(node.outputs[0], value)
    remove_dead(graph, node)


def remove_dead(graph: Graph, node: Node) -> None:
    """Remove a node nobody uses, and then its producers as far as nobody uses them either."""
    pending = [node]
    while pending:
        candidate = pending.pop()
        if candidate.graph is not graph or any(value.use_count for value in candidate.outputs):
            continue
        producers = [value.producer for value in candidate.inputs if value is not None and value.producer is not None]
        graph.remove(candidate)
        pending.extend(producer for producer in producers if producer.graph is graph)


# the pipeline string


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(text: str, kind: Any, where: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        return tuple(item for item in text.split("+") if item)
    except (ValueError, KeyError):
        raise UsageError("EDG004", f"'{text}' is no value for {where}") from None


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that a pipeline string names.

    Raises:
        UsageError: EDG004 for an unknown pass, option or value.
    """
    import edgec.ir.passes  # noqa: F401  (registers the passes)

    passes: list[Pass] = []
    for part in re.findall(r"[^,{}]+(?:\{[^{}]*\})?|[{}]", text):
        match = re.fullmatch(r"\s*([A-Za-z0-9-]+)\s*(?:\{([^{}]*)\})?\s*", part)
        if match is None:
            raise UsageError("EDG004", f"cannot read '{part}' in the pipeline '{text}'")
        name, options = match.group(1), match.group(2) or ""
        if name not in REGISTRY:
            raise UsageError("EDG004", f"there is no pass '{name}'", help="edgec passes")
        cls = REGISTRY[name]
        kinds = get_type_hints(cls)
        given: dict[str, Any] = {}
        for option in filter(None, (item.strip() for item in options.split(","))):
            key, separator, value = option.partition("=")
            if not separator or key not in cls.options():
                raise UsageError(
                    "EDG004", f"the pass '{name}' has no option '{key}'", help=f"options: {', '.join(cls.options())}"
                )
            given[key] = _read(value, kinds[key], f"{name}{{{key}}}")
        passes.append(cls(**given))
    return passes
