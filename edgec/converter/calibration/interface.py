"""Let a quantized graph take and give its integers instead of floats."""

from __future__ import annotations

from edgec.errors import UsageError
from edgec.ir.graph import Graph, Model, Node, Value
from edgec.ir.quantization import Affine
from edgec.ir.types import DataType


def integer_interface(model: Model) -> tuple[dict[str, Affine], list[str]]:
    """Take away the QuantizeLinear behind float inputs and the DequantizeLinear in front of float outputs.

    Returns:
        How the integers of every input and output that was changed stand for floats, and the names of float inputs and
        outputs that have no integers.

    Raises:
        UsageError: EDG035 when that is all of them.
    """
    graph = model.graph
    found: dict[str, Affine] = {}
    left: list[str] = []
    for position, value in enumerate(graph.inputs):
        if value.dtype is DataType.FLOAT:
            held = _integer_input(graph, position, value)
            if held is None:
                left.append(value.name)
            else:
                found[value.name] = held
    for position, name in enumerate(graph.output_names):
        value = graph.outputs[position]
        if value.dtype is DataType.FLOAT:
            held = _integer_output(graph, position, value)
            if held is None:
                left.append(name)
            else:
                found[name] = held
    if left and not found:
        raise UsageError(
            "EDG035",
            f"'{left[0]}' is no integer inside the model",
            why="no input goes into, and no output comes out of, an integer kernel",
            help="--io-dtype float32",
        )
    return found, left


def _integer_input(graph: Graph, position: int, value: Value) -> Affine | None:
    users = value.users
    if value.is_output or not users or any(user.op != "QuantizeLinear" or user.domain for user in users):
        return None
    held = {parameters(user) for user in users}
    if len(held) != 1:
        return None
    (only,) = held
    if only is None:
        return None
    fresh = Value(value.name, only.dtype, value.shape)
    graph.inputs[position] = fresh
    for user in list(users):
        graph.replace(user.output, fresh)
        graph.remove(user)
    return only


def _integer_output(graph: Graph, position: int, value: Value) -> Affine | None:
    producer = value.producer
    if producer is None or producer.op != "DequantizeLinear" or producer.domain:
        return None
    held = parameters(producer)
    if held is None or producer.operand(0).producer is None:
        return None
    graph.set_output(position, producer.operand(0))
    if not value.use_count:
        graph.remove(producer)
    return held


def parameters(node: Node) -> Affine | None:
    """The one scale and zero point of a QuantizeLinear or DequantizeLinear; None where there are several or unknown."""
    scale, zero = node.operand(1), node.input(2)
    if scale.const is None or scale.numpy().size != 1 or zero is None or zero.const is None or zero.numpy().size != 1:
        return None
    if zero.dtype not in (DataType.INT8, DataType.UINT8, DataType.INT16):
        return None
    return Affine(zero.dtype, float(scale.numpy().reshape(-1)[0]), int(zero.numpy().reshape(-1)[0]))
