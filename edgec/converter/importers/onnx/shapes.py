"""Binding of unknown, symbolic and placeholder dimensions of graph inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.converter.importers.imported import SourceOptions
from edgec.errors import ModelError, UnsupportedError, UsageError
from edgec.ir.graph import Graph, Model, Value
from edgec.ir.types import Dim, Shape

BATCH_NAMES = frozenset("n b bs batch batchsize batch_size batch-size batch_dim".split())
"""Names that stand for the batch wherever they occur."""


def bind_shapes(model: Model, options: SourceOptions) -> tuple[dict[str, Shape], list[str]]:
    """Replace declared input dims.

    A symbolic name that receives an extent receives it everywhere.  When a declared static extent is replaced, the
    declared shapes of all intermediate values and outputs are dropped: they described the placeholder.

    Returns:
        The inputs whose shape was replaced with the new one, and notes of what was done.

    Raises:
        UsageError: EDG002 for an unknown input, EDG001 for a contradiction or a value that is no extent.
        ModelError: EDG111 when the rank differs.
    """
    graph = model.graph
    known = {value.name: value for value in graph.inputs}
    given, batch, notes = options.input_shapes or {}, options.batch, list[str]()
    for name in given:
        if name not in known:
            raise UsageError(
                "EDG002",
                f"the model has no input '{name}'",
                why=f"its inputs are {', '.join(repr(item) for item in known) or 'none'}",
                help="NAME:1,3,224,224 with one of these names",
            )
    wanted: dict[str, tuple[int, ...]] = {name: tuple(int(d) for d in dims) for name, dims in given.items()}
    symbols: dict[str, int] = {}
    placeholder = False
    for name, dims in wanted.items():
        value = known[name]
        if any(dim < 0 for dim in dims):
            raise UsageError("EDG001", f"--input-shape {name}: extents are not negative, got {list(dims)}")
        if value.shape is not None and len(value.shape) != len(dims):
            raise ModelError(
                "EDG111",
                f"the input '{name}' has rank {len(value.shape)}, --input-shape gives {len(dims)} extents",
                where=f"input '{name}', declared {_show(value.shape)}",
            )
        for old, new in zip(value.shape or (), dims):
            if isinstance(old, str):
                if symbols.setdefault(old, new) != new:
                    both = f"the dimension '{old}' would be both {symbols[old]} and {new}"
                    raise UsageError("EDG001", both, where=f"input '{name}'")
            elif isinstance(old, int) and old != new:
                placeholder = True
    lengths: dict[str, Shape] = {}
    if batch is None and options.open_batch is not None and _is_only_batch_open(graph, wanted):
        batch = options.open_batch
        notes.append(f"the source leaves the batch open: {batch} is taken (--batch N gives another)")
    if batch is not None:
        lengths = _bind_batch(graph, batch, wanted, symbols, notes)
    if placeholder:
        for value in _values(graph):
            value.shape = None
        notes.append("--input-shape replaces a declared extent: the shapes declared inside the model were dropped")
    overrides: dict[str, Shape] = {}
    for value in graph.inputs:
        before = value.shape
        value.shape = wanted.get(value.name) or lengths.get(value.name, before)
        value.shape = _substitute(value.shape, symbols)
        if value.shape != before and value.shape is not None:
            overrides[value.name] = value.shape
            notes.append(f"input '{value.name}': {_show(before)} became {_show(value.shape)}")
    if symbols:
        for value in _values(graph):
            value.shape = _substitute(value.shape, symbols)
    return overrides, notes


def _substitute(shape: Shape | None, symbols: Mapping[str, int]) -> Shape | None:
    return None if shape is None else tuple(symbols.get(d, d) if isinstance(d, str) else d for d in shape)


def _is_only_batch_open(graph: Graph, wanted: Mapping[str, object]) -> bool:
    """Whether there are unknown extents, and each is the batch at the head of an input of two axes or more."""
    unknown = [value for value in graph.inputs if value.name not in wanted and not value.is_static]
    return bool(unknown) and all(
        value.shape is not None
        and len(value.shape) > 1
        and isinstance(value.shape[0], str)
        and value.shape[0].lower() in BATCH_NAMES
        and all(isinstance(dim, int) for dim in value.shape[1:])
        for value in unknown
    )


def _bind_batch(
    graph: Graph, batch: int, wanted: Mapping[str, object], symbols: dict[str, int], notes: list[str]
) -> dict[str, Shape]:
    """Give symbols that stand for the batch an extent; returns the shapes of inputs whose first extent has no name."""
    if batch < 1:
        raise UsageError("EDG001", f"--batch takes a positive number, got {batch}")
    lengths: dict[str, Shape] = {}
    found = False
    for value in graph.inputs:
        if not value.shape or value.name in wanted:
            continue
        for position, dim in enumerate(value.shape):
            if isinstance(dim, str) and (position == 0 or dim.lower() in BATCH_NAMES):
                found = True
                if symbols.setdefault(dim, batch) != batch:
                    notes.append(f"--batch does not apply to '{value.name}': '{dim}' is {symbols[dim]} already")
            elif dim is None and position == 0:
                found = True
                lengths[value.name] = (batch, *value.shape[1:])
    if not found:
        notes.append("--batch changed nothing: no input has an unknown first dimension")
    return lengths


def _values(graph: Graph) -> list[Value]:
    """Every computed value, those of control-flow bodies included."""
    found: list[Value] = []
    for node in graph.nodes:
        found.extend(node.outputs)
        for body in node.subgraphs:
            found.extend(value for value in body.inputs if value.shape)
            found.extend(_values(body))
    return found


def _show(shape: Sequence[Dim] | None) -> str:
    if shape is None:
        return "unknown rank"
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"


def require_static_shapes(model: Model) -> None:
    """See :func:`edgec.converter.importers.onnx.require_static`."""
    unknown = [value for value in model.graph.inputs if value.type_proto is None and not value.is_static]
    if not unknown:
        return
    first = unknown[0]
    example = "1" if first.shape is None else ",".join(str(d) if isinstance(d, int) else "1" for d in first.shape)
    batch_only = all(
        value.shape is not None and value.shape and all(isinstance(dim, int) for dim in value.shape[1:])
        for value in unknown
    )
    options = " ".join(f"--input-shape {value.name}:..." for value in unknown[1:])
    raise UnsupportedError(
        "EDG202",
        "; ".join(f"input '{value.name}' has the shape {_show(value.shape)}" for value in unknown),
        where=f"input '{first.name}'",
        why="the target needs every extent to be known",
        help="--batch 1" if batch_only else f"--input-shape {first.name}:{example} {options}".rstrip(),
        details={"inputs": {value.name: _show(value.shape) for value in unknown}},
    )
