"""Write a loaded TensorFlow model as ONNX with tf2onnx.  Only child processes of edgec import what this module needs.

Afterwards inputs and outputs have the source's names, order and types, and unknown extents have names.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

from edgec.converter.importers.tensorflow.canonical import canonicalise
from edgec.converter.importers.tensorflow.loading import LoadedModel, Port
from edgec.errors import EdgecError, ModelError, UnsupportedError, UsageError

OLDEST_OPSET, NEWEST_OPSET = 9, 18
"""The opsets that tf2onnx 1.17 writes."""

BATCH = "batch"
LIMIT = (1 << 31) - (1 << 24)
"""Bytes of weights beyond which the ONNX message would not fit into protobuf."""


def export_onnx(model: LoadedModel, destination: Path, opset: int) -> None:
    """Convert and write.

    Raises:
        UsageError: EDG001 for an opset that tf2onnx does not write.
        ModelError: EDG112 for more weights than an ONNX file holds.
        UnsupportedError: EDG201 for operators that tf2onnx does not know, named with their nodes.
        EdgecError: EDG501 when tf2onnx fails.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UsageError("EDG001", f"tf2onnx writes opset {OLDEST_OPSET} to {NEWEST_OPSET}, not {opset}")
    size = sum(variable.dtype.size * _count(variable.shape) for variable in model.function.graph.variables)
    if size > LIMIT:
        raise ModelError("EDG112", f"the model has {size} bytes of weights, an ONNX file holds {LIMIT}")
    proto = _convert(model, opset)
    _require_known(proto)
    _restore_interface(proto, model)
    canonicalise(proto)
    _name_extents(proto, model.batch_first)
    destination.write_bytes(proto.SerializeToString(deterministic=True))


def _hash_by_number(kind: Any) -> None:
    """Let objects have the hash of their turn instead of their address: tf2onnx walks sets of nodes, and which one of
    two equal nodes it keeps would differ from run to run."""
    numbers = itertools.count()
    kind.__hash__ = lambda item: item.__dict__.setdefault("_edgec_number", next(numbers))


def _convert_erfc(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Erfc(x) = 1 - Erf(x); tf.nn.gelu is made of it since TensorFlow 2.20."""
    import numpy as np

    dtype = np.float64 if context.get_dtype(node.input[0]) == 11 else np.float32  # onnx.TensorProto.DOUBLE
    shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, node.output
    context.remove_node(name)
    erf = context.make_node("Erf", node.input, op_name_scope=name)
    one = context.make_const(f"{name}/one", np.array(1, dtype))
    context.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)


HANDLERS: Final[dict[str, Any]] = {"Erfc": (_convert_erfc, [])}
"""Operators that tf2onnx lacks."""


def _count(shape: Any) -> int:
    count = 1
    for extent in shape.as_list():
        count *= extent or 1
    return count


def _convert(model: LoadedModel, opset: int) -> Any:
    import tensorflow as tf
    from tf2onnx import graph as tf2onnx_graph
    from tf2onnx import optimizer, tf_loader
    from tf2onnx.tfonnx import process_tf_graph

    _hash_by_number(tf2onnx_graph.Node)
    ports = (*model.inputs, *model.outputs)
    inputs, outputs = [port.tensor for port in model.inputs], [port.tensor for port in model.outputs]
    try:
        with tf.device("/cpu:0"):
            frozen, tables = tf_loader.from_trackable(model.owner, model.function, inputs, outputs, False)
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(frozen, name="")
                converted = process_tf_graph(
                    graph,
                    continue_on_error=False,
                    opset=opset,
                    input_names=inputs,
                    output_names=outputs,
                    tensors_to_rename={port.tensor: port.name for port in ports},
                    initialized_tables=tables,
                    custom_op_handlers=HANDLERS,
                )
        return optimizer.optimize_graph(converted).make_model("converted by edgec with tf2onnx")
    except (MemoryError, EdgecError):
        raise
    except Exception as error:  # whatever tf2onnx stumbles over
        raise EdgecError(
            "EDG501",
            "tf2onnx cannot convert the model",
            why=f"{type(error).__name__}: {str(error).strip()[:500]}",
            help="tf2onnx may know more in a newer version: pip install --upgrade tf2onnx",
        ) from error


def _require_known(proto: Any) -> None:
    """tf2onnx leaves the operators that it does not know as they are."""
    from onnx import defs

    unknown: dict[str, list[str]] = {}
    for node in _nodes(proto.graph):
        if node.domain in ("", "ai.onnx") and not defs.has(node.op_type):
            unknown.setdefault(node.op_type, []).append(node.name)
    if unknown:
        listed = "; ".join(f"'{kind}' (node '{names[0]}')" for kind, names in sorted(unknown.items())[:8])
        first = next(iter(sorted(unknown)))
        raise UnsupportedError(
            "EDG201",
            f"tf2onnx has no conversion for the TensorFlow operator '{first}'",
            where=f"node '{unknown[first][0]}'",
            why=f"not known: {listed}",
            help="replace these operators in the model and export it again",
            details={"operators": {kind: names[:8] for kind, names in sorted(unknown.items())}},
        )


def _nodes(graph: Any) -> Any:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _restore_interface(proto: Any, model: LoadedModel) -> None:
    """Put inputs that nothing uses back, and everything into the source's order."""
    graph = proto.graph
    for field, ports in ((graph.input, model.inputs), (graph.output, model.outputs)):
        known = {entry.name: entry for entry in field}
        entries = [known.get(port.name) or _value(port) for port in ports]
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        for copy, port in zip(copies, ports):
            _declare(copy, port)
        del field[:]
        field.extend(copies)


def _value(port: Port) -> Any:
    import onnx

    return onnx.ValueInfoProto(name=port.name)


def _declare(entry: Any, port: Port) -> None:
    """The declared type of an input or output is that of the source."""
    import numpy as np
    import onnx

    dtype = onnx.TensorProto.STRING
    if port.dtype == "bfloat16":
        dtype = onnx.TensorProto.BFLOAT16
    elif port.dtype != "string":
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    entry.CopyFrom(onnx.helper.make_tensor_value_info(port.name, dtype, port.shape))


def _name_extents(proto: Any, batch_first: bool) -> None:
    """Name the unknown extents of inputs; outputs and inner values take over what follows from them."""
    import onnx

    graph = proto.graph
    names = set()
    for entry in graph.input:
        if not entry.type.tensor_type.HasField("shape"):
            continue
        for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = BATCH if axis == 0 else f"{entry.name}_{axis}"
                names.add(dim.dim_param)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return
    shapes = {entry.name: entry.type.tensor_type.shape for entry in inferred.graph.output}
    for entry in graph.output:
        if not entry.type.tensor_type.HasField("shape"):
            continue
        found = shapes[entry.name].dim
        for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.Clear()
                if axis == 0 and batch_first and BATCH in names:
                    dim.dim_param = BATCH
                elif axis < len(found) and found[axis].dim_param in names:
                    dim.dim_param = found[axis].dim_param
