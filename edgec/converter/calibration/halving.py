"""From a canonical float32 model to a float16 one: find what float16 cannot hold, and keep that in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgec.converter.calibration.quantizing import PrecisionOptions, Quantized, is_quantized
from edgec.converter.calibration.statistics import Calibration, Statistics
from edgec.errors import EdgecError, UsageError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.half import unfit_extent
from edgec.ir.passes.float16 import Float16, halvable, unfit_constant
from edgec.ir.quantization import HALF
from edgec.ir.types import DataType

LISTED = 4
"""Nodes that a note names; the manifest has all."""


def halve(
    model: Model,
    in_graph: bool,
    options: PrecisionOptions,
    *,
    structure_only: bool = False,
    progress: Callable[[str], object] = lambda step: None,
) -> Quantized:
    """Turn a copy of a canonical model into float16; the model itself stays float32.

    Args:
        in_graph: write float16 values into the graph; otherwise only find out which nodes they would not fit, and turn
            inputs and outputs into float16 where that was asked for.
        structure_only: do not run the model where there is no calibration data, but look at its constants alone.

    Raises:
        UsageError: EDG005, EDG006, EDG031, EDG032 for calibration data that does not fit; EDG036 when no input and no
            output can be float16 although that was asked for.
    """
    made = Quantized(copy_model(model))
    graph = made.model.graph
    found = _calibrated(made, options, structure_only, progress)
    values = {} if found is None else unfit_values(graph, found)
    kept = kept_nodes(graph, values)
    if is_quantized(model):
        made.notes.append("the model is quantized already: what is between its integers stays float32")
        kept.update({node: "next to an integer" for node in graph.nodes if node not in kept and _beside_integers(node)})
    keep = [node.name for node in (kept if in_graph else graph.nodes)]
    held, left = _interface(graph, values) if options.io_dtype == "float16" else ([], {})
    progress("pass float16")
    chosen = Float16(keep=(*keep, *left), io=bool(held))
    if chosen.apply(made.model):
        made.passes.append(chosen.name)
    for name, reason in left.items():
        made.notes.append(f"'{name}' stays float32: {reason}")
    made.quantized_io = {name: HALF for name in held}
    _report(made, kept, in_graph)
    made.entry["io_dtype"] = options.io_dtype
    made.entry["quantized_io"] = {name: {"dtype": "float16", "scale": 1.0, "zero_point": 0} for name in held}
    return made


def unfit_values(graph: Graph, found: Calibration) -> dict[Value, str]:
    """The float32 values whose calibrated numbers do not fit into float16, and why."""
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]
    return {value: reason for value in values if (reason := _unfit(found.values.get(value.name)))}


def kept_nodes(graph: Graph, values: Mapping[Value, str]) -> dict[Node, str]:
    """The nodes that stay float32 although their operator takes float16, in graph order, and why."""
    kept: dict[Node, str] = {}
    for node in graph.nodes:
        if not halvable(node):
            continue
        touched = [value for value in (*node.outputs, *node.inputs) if value is not None and value in values]
        if touched:
            kept[node] = f"of '{touched[0].name}': {values[touched[0]]}"
        elif constant := unfit_constant(node):
            kept[node] = constant
    return kept


def _unfit(found: Statistics | None) -> str:
    if found is None or found.low > found.high:
        return ""
    counted = float(found.counts.sum())
    energy = float(np.sum(np.square(found.centres) * found.counts))
    return unfit_extent(max(-found.low, found.high), (energy / counted) ** 0.5 if counted else 0.0)


def _beside_integers(node: Node) -> bool:
    before = (value.producer for value in node.inputs if value is not None and value.producer is not None)
    after = (user for value in node.outputs for user in value.users)
    return any("Quantize" in other.op or "Integer" in other.op or "QLinear" in other.op for other in (*before, *after))


def _is_dequantized_constant(value: Value) -> bool:
    """Whether a value is the weights of a quantized model: ONNX Runtime 1.32 does not load a model that gives it."""
    node = value.producer
    return node is not None and all(item is None or item.const is not None for item in node.inputs)


def _calibrated(
    made: Quantized, options: PrecisionOptions, structure_only: bool, progress: Callable[[str], object]
) -> Calibration | None:
    """The statistics of all float32 values; None where there are none, and then a note says so."""
    if options.data is None or (structure_only and options.assumed):
        made.notes.append("no calibration data: only constants were looked at for what float16 cannot hold")
        return None
    from edgec.converter.calibration.collect import calibrate

    graph = made.model.graph
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]
    names = [
        value.name
        for value in values
        if value.dtype is DataType.FLOAT and value.use_count and not _is_dequantized_constant(value)
    ]
    try:
        found = calibrate(made.model, names, options.data, progress=progress, cache_folder=options.cache)
    except EdgecError as error:
        if not options.assumed or error.code not in ("EDG031", "EDG033"):
            raise
        made.notes.append(
            "only constants were looked at for what float16 cannot hold, "
            f"because {error.message}; give --calibration DATA"
        )
        return None
    if options.assumed:
        origin = "random samples" if options.data.is_random else "samples of --data"
        made.notes.append(
            f"what fits into float16 was judged by the {origin} of the verification; give --calibration DATA"
        )
    else:
        made.notes.extend(found.notes)
    made.entry.update(samples=found.samples, calibration=found.origin)
    return found


def _interface(graph: Graph, values: Mapping[Value, str]) -> tuple[list[str], dict[str, str]]:
    """Names of the float32 inputs and outputs that become float16, and of those that cannot, with why."""
    named = [(value.name, value) for value in graph.inputs] + list(zip(graph.output_names, graph.outputs))
    floats = [(name, value) for name, value in named if value.dtype is DataType.FLOAT]
    left = {name: values[value] for name, value in floats if value in values}
    held = [name for name, _ in floats if name not in left]
    if not held:
        name, reason = next(iter(left.items()), ("", "the model has no float32 input or output"))
        raise UsageError(
            "EDG036",
            f"'{name}' cannot be float16" if name else "nothing can be float16",
            why=reason,
            help="--io-dtype float32",
        )
    return held, left


def _report(made: Quantized, kept: Mapping[Node, str], in_graph: bool) -> None:
    entries: list[dict[str, Any]] = [
        {"node": node.sources[0] if node.sources else node.name, "operator": node.op, "reason": reason}
        for node, reason in kept.items()
    ]
    made.entry["float_nodes"] = list(dict.fromkeys(entry["node"] for entry in entries))
    made.entry["float32"] = entries
    if not entries:
        return
    listed = "; ".join(f"'{item['node']}' ({item['operator']}), because {item['reason']}" for item in entries[:LISTED])
    more = f"; and {len(entries) - LISTED} more, see the manifest" if len(entries) > LISTED else ""
    verb = "stay float32" if in_graph else "would not fit into float16, and need a device that computes in float32"
    made.notes.append(f"{len(entries)} nodes {verb}: {listed}{more}")
