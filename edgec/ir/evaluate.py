"""Compute a node whose operands are all constant.

Operators that shape arithmetic is made of are computed in NumPy; everything else by ONNX Runtime on a one-node model,
so that folding follows the same definition as the reference that artifacts are verified against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from edgec.errors import ModelError
from edgec.ir.graph import Node, Tensor, Value
from edgec.ir.types import Array, DataType

Operands = Sequence[Array | None]
Evaluator = Callable[[Node, Operands], "list[Array]"]

_TABLE: dict[str, Evaluator] = {}


def _evaluates(*ops: str) -> Callable[[Evaluator], Evaluator]:
    def register(function: Evaluator) -> Evaluator:
        for op in ops:
            _TABLE[op] = function
        return function

    return register


def _need(operands: Operands, position: int) -> Array:
    array = operands[position]
    assert array is not None
    return array


_UNARY: dict[str, Callable[[Array], Array]] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sqrt": np.sqrt,
    "Not": np.logical_not,
    "Identity": lambda x: x,
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@_evaluates(*_UNARY)
def _unary(node: Node, operands: Operands) -> list[Array]:
    return [np.asarray(_UNARY[node.op](_need(operands, 0)))]


@_evaluates(*_BINARY)
def _binary(node: Node, operands: Operands) -> list[Array]:
    return [np.asarray(_BINARY[node.op](_need(operands, 0), _need(operands, 1)))]


@_evaluates("Div")
def _div(node: Node, operands: Operands) -> list[Array]:
    a, b = _need(operands, 0), _need(operands, 1)
    if a.dtype.kind in "iu":  # ONNX integer division truncates toward zero
        if not np.all(b):
            raise ModelError("EDG109", f"'{node.name}' divides constants by zero", where=f"node '{node.name}'")
        quotient = np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)
        return [np.asarray(quotient, dtype=a.dtype)]
    with np.errstate(all="ignore"):
        return [np.asarray(a / b)]


@_evaluates("Concat")
def _concat(node: Node, operands: Operands) -> list[Array]:
    return [np.concatenate([array for array in operands if array is not None], axis=node.attr_int("axis"))]


@_evaluates("Gather")
def _gather(node: Node, operands: Operands) -> list[Array]:
    data, indices = _need(operands, 0), _need(operands, 1)
    axis = node.attr_int("axis", 0)
    extent = data.shape[axis]
    if np.any(indices < -extent) or np.any(indices >= extent):
        raise ModelError("EDG109", f"'{node.name}' gathers outside of its constant", where=f"node '{node.name}'")
    return [np.asarray(np.take(data, np.where(indices < 0, indices + extent, indices), axis=axis))]


@_evaluates("Unsqueeze")
def _unsqueeze(node: Node, operands: Operands) -> list[Array]:
    return [np.expand_dims(_need(operands, 0), tuple(int(a) for a in _need(operands, 1).ravel()))]


@_evaluates("Squeeze")
def _squeeze(node: Node, operands: Operands) -> list[Array]:
    data = _need(operands, 0)
    axes = operands[1] if len(operands) > 1 else None
    return [np.squeeze(data) if axes is None else np.squeeze(data, tuple(int(a) for a in axes.ravel()))]


@_evaluates("Reshape")
def _reshape(node: Node, operands: Operands) -> list[Array]:
    data, wanted = _need(operands, 0), [int(dim) for dim in _need(operands, 1)]
    if not node.attr_int("allowzero", 0):
        wanted = [data.shape[axis] if dim == 0 else dim for axis, dim in enumerate(wanted)]
    return [data.reshape(wanted)]


@_evaluates("Transpose")
def _transpose(node: Node, operands: Operands) -> list[Array]:
    data = _need(operands, 0)
    return [np.transpose(data, node.attr_ints("perm", list(range(data.ndim))[::-1]))]


@_evaluates("Slice")
def _slice(node: Node, operands: Operands) -> list[Array]:
    data, starts, ends = _need(operands, 0), _need(operands, 1), _need(operands, 2)
    axes = operands[3] if len(operands) > 3 and operands[3] is not None else np.arange(len(starts))
    steps = operands[4] if len(operands) > 4 and operands[4] is not None else np.ones(len(starts), np.int64)
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        extent = data.shape[int(axis)]
        if step < 0 and end < -extent:
            index[int(axis)] = slice(int(start), None, int(step))
        else:
            index[int(axis)] = slice(int(start), int(end), int(step))
    return [data[tuple(index)]]


@_evaluates("Expand")
def _expand(node: Node, operands: Operands) -> list[Array]:
    data, shape = _need(operands, 0), tuple(int(dim) for dim in _need(operands, 1))
    return [np.broadcast_to(data, np.broadcast_shapes(data.shape, shape))]


@_evaluates("ConstantOfShape")
def _constant_of_shape(node: Node, operands: Operands) -> list[Array]:
    shape = tuple(int(dim) for dim in _need(operands, 0))
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        return [np.broadcast_to(value.numpy().reshape(()), shape)]
    return [np.broadcast_to(np.zeros((), np.float32), shape)]


@_evaluates("Range")
def _range(node: Node, operands: Operands) -> list[Array]:
    start, limit, delta = (_need(operands, position) for position in range(3))
    count = max(int(np.ceil((limit.item() - start.item()) / delta.item())), 0)
    return [(start.item() + np.arange(count) * delta.item()).astype(start.dtype)]


@_evaluates("Where")
def _where(node: Node, operands: Operands) -> list[Array]:
    return [np.where(_need(operands, 0), _need(operands, 1), _need(operands, 2))]


@_evaluates("Cast")
def _cast(node: Node, operands: Operands) -> list[Array]:
    data = _need(operands, 0)
    target = DataType(node.attr_int("to"))
    simple = {DataType.FLOAT, DataType.DOUBLE, DataType.INT32, DataType.INT64, DataType.BOOL, DataType.FLOAT16}
    if data.dtype.kind not in "biuf" or target not in simple or (data.dtype.kind == "f" and target.is_integer):
        return _by_runtime(node, operands)
    with np.errstate(over="ignore"):
        return [data.astype(target.numpy)]


def is_cheap(node: Node) -> bool:
    """Whether the node is computed here, without ONNX Runtime."""
    return not node.domain and node.op in _TABLE


def compute(node: Node, operands: Operands) -> list[Array] | None:
    """The results of a node for given operands, or None if they need ONNX Runtime or do not fit."""
    function = _TABLE.get(node.op) if not node.domain else None
    if function is None:
        return None
    try:
        return function(node, operands)
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError, AssertionError):
        return None


def evaluate(node: Node) -> list[Tensor]:
    """The outputs of a node whose operands are all constant.

    Raises:
        ModelError: EDG109 or EDG111 when the operator refuses its operands.
    """
    operands: list[Array | None] = [None if value is None else value.numpy() for value in node.inputs]
    function = _TABLE.get(node.op) if not node.domain else None
    try:
        arrays = function(node, operands) if function else _by_runtime(node, operands)
    except (ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(
            "EDG111",
            f"'{node.name}' ({node.op}) cannot be computed from its constants",
            f"node '{node.name}'",
            str(error),
        ) from error
    tensors = []
    for value, array in zip(node.outputs, arrays):
        dtype = value.dtype if value.dtype is not DataType.UNDEFINED else DataType.of(array.dtype)
        if dtype is not DataType.STRING and array.dtype != dtype.numpy:
            array = array.astype(dtype.numpy)
        tensors.append(Tensor.of(np.ascontiguousarray(array).reshape(array.shape), dtype))
    return tensors


PRODUCTS: Final = {
    "MatMulInteger": (0, 1, 3),
    "ConvInteger": (0, 1, 3),
    "QLinearMatMul": (0, 3, 5),
    "QLinearConv": (0, 3, 5),
    "QGemm": (0, 3, 5),
}
"""Where the data, the weights and their zero point stand in operators that multiply integers of 8 bits."""


def _unsigned(node: Node, operands: Operands) -> Operands:
    """uint8 weights for uint8 data: on x86-64 CPUs without VNNI, ONNX Runtime's sums of uint8 by int8 saturate."""
    data, weights, zero = PRODUCTS[node.op]
    first, second = operands[data], operands[weights]
    if first is None or second is None or first.dtype != np.uint8 or second.dtype != np.int8:
        return operands
    found = [*operands, *[None] * (zero + 1 - len(operands))]
    origin = found[zero]
    found[weights] = (second.astype(np.int16) + 128).astype(np.uint8)
    found[zero] = np.asarray(128 if origin is None else origin.astype(np.int16) + 128, np.uint8)
    return found


def _by_runtime(node: Node, operands: Operands) -> list[Array]:
    """Run one node in ONNX Runtime."""
    import onnxruntime

    from edgec.ir.graph import Graph, Model
    from edgec.ir.inference import CANONICAL_OPSET
    from edgec.ir.proto import model_to_proto

    if node.op in PRODUCTS:
        operands = _unsigned(node, operands)
    graph = Graph("fold")
    values: list[Value | None] = []
    feeds: dict[str, Any] = {}
    for position, array in enumerate(operands):
        if array is None:
            values.append(None)
            continue
        value = node.input(position)
        dtype = DataType.UINT8 if value is None or array.dtype == np.uint8 else value.dtype
        fed = Value(f"i{position}", dtype, array.shape)
        graph.inputs.append(fed)
        values.append(fed)
        feeds[fed.name] = np.ascontiguousarray(array).reshape(array.shape)
    copies = [Value(f"o{position}", value.dtype, None) for position, value in enumerate(node.outputs)]
    graph.append(Node(node.op, values, copies, node.attributes, name=node.name, domain=node.domain))
    for copy in copies:
        graph.add_output(copy.name, copy)
    model = Model(graph, CANONICAL_OPSET, domains={node.domain: 1} if node.domain else None)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model_to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(array) for array in session.run(None, feeds)]
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        raise ValueError(str(error).strip().splitlines()[-1]) from error
    finally:
        graph.clear()
