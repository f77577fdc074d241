"""Operators of ONNX Runtime's domain ``com.microsoft`` in terms of the ONNX standard.

Models that ONNX Runtime's optimizer has saved hold fused operators.  Those with an exact standard form are rewritten at
import, so passes and targets never see them; all others are refused by name.
Source: onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.errors import ModelError, UnsupportedError
from edgec.ir.graph import Attribute, Graph, Node, Tensor, Value
from edgec.ir.types import DataType

DOMAIN = "com.microsoft"

Rewrite = Callable[[Graph, Node], None]
_TABLE: dict[str, Rewrite] = {}
_EXTENSIONS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


def is_known(op: str) -> bool:
    """Whether the operator of :data:`DOMAIN` has a standard form here."""
    return op in _TABLE


def is_standard_extension(op: str) -> bool:
    """Whether ONNX Runtime knows the operator in the default domain at any opset although the standard does not."""
    return op in _EXTENSIONS


def infer_contrib(node: Node) -> None:
    """Type the outputs of a node outside the standard domains.

    Raises:
        UnsupportedError: EDG201, naming operator, domain and node: import leaves no such node behind.
    """
    raise UnsupportedError(
        "EDG201",
        f"unknown operator '{node.op}' of domain '{node.domain or 'ai.onnx'}' at '{node.name}'",
        where=f"node '{node.name}'",
    )


def rewrite_contrib(graph: Graph, node: Node) -> None:
    """Replace a node of :data:`DOMAIN` by standard operators; its outputs keep their names.

    Raises:
        UnsupportedError: EDG201 when the attributes in use have no standard form.
    """
    if node.domain == DOMAIN and node.op in _TABLE:
        _TABLE[node.op](graph, node)


def rewrites(*ops: str) -> Callable[[Rewrite], Rewrite]:
    """Register a rewrite for operators of :data:`DOMAIN`."""

    def register(function: Rewrite) -> Rewrite:
        for op in ops:
            _TABLE[op] = function
        return function

    return register


def become(node: Node, op: str, *inputs: Value | None, **attributes: Attribute) -> None:
    """Turn the node into one of the default domain; its outputs stay."""
    node.op, node.domain = op, ""
    node.set_inputs(inputs)
    node.attributes = dict(attributes)


def _scalar(graph: Graph, node: Node, name: str, value: float, like: Value) -> Value:
    if like.dtype is DataType.UNDEFINED:
        raise refusal(node, f"the element type of '{like.name}' is unknown")
    held = Tensor.of(np.array(value, like.dtype.numpy), like.dtype)
    return graph.constant(held, f"{node.name}_{name}")


def make(graph: Graph, node: Node, op: str, *inputs: Value | None, **attributes: Attribute) -> Value:
    """The result of a new node before this one."""
    return graph.build(node, op, inputs, **attributes).output


def refusal(node: Node, why: str) -> UnsupportedError:
    """The error for a node that has no standard form."""
    return UnsupportedError(
        "EDG201",
        f"'{node.name}' ({DOMAIN}.{node.op}) has no form in standard operators",
        where=f"node '{node.name}'",
        why=why,
        help="export the model without ONNX Runtime's optimizations",
    )


# the same operator under another domain


@rewrites("Trilu", "Range", "GatherND", "QuantizeLinear", "DequantizeLinear", "Pad")
def _same(graph: Graph, node: Node) -> None:
    become(node, node.op, *node.inputs, **node.attributes)


@rewrites("GridSample")
def _grid_sample(graph: Graph, node: Node) -> None:
    mode = node.attr_str("mode", "bilinear")
    attributes = {**node.attributes, "mode": {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)}
    become(node, "GridSample", *node.inputs, **attributes)


@rewrites("ExpandDims")
def _expand_dims(graph: Graph, node: Node) -> None:
    axis = node.operand(1)
    if axis.const is None:
        raise refusal(node, "the axis is known only at run time")
    axes = graph.constant(axis.numpy().reshape(1).astype(np.int64), f"{node.name}_axes")
    become(node, "Unsqueeze", node.operand(0), axes)


# activations


@rewrites("Gelu")
def _gelu(graph: Graph, node: Node) -> None:
    become(node, "Gelu", node.operand(0))


@rewrites("BiasGelu")
def _bias_gelu(graph: Graph, node: Node) -> None:
    become(node, "Gelu", make(graph, node, "Add", node.operand(0), node.operand(1)))


@rewrites("FastGelu")
def _fast_gelu(graph: Graph, node: Node) -> None:
    data, bias = node.operand(0), node.input(1)
    become(node, "Gelu", data if bias is None else make(graph, node, "Add", data, bias), approximate="tanh")


@rewrites("QuickGelu")
def _quick_gelu(graph: Graph, node: Node) -> None:
    """x * sigmoid(alpha * x)"""
    data = node.operand(0)
    scaled = make(graph, node, "Mul", data, _scalar(graph, node, "alpha", node.attr_float("alpha", 1.702), data))
    become(node, "Mul", data, make(graph, node, "Sigmoid", scaled))


@rewrites("BiasAdd")
def _bias_add(graph: Graph, node: Node) -> None:
    become(node, "Add", make(graph, node, "Add", node.operand(0), node.operand(1)), node.operand(2))


def _activate(graph: Graph, node: Node, name: str, data: Value, parameters: list[float]) -> None:
    """Let the node become the activation of a fused operator."""
    if name in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign"):
        become(node, name, data)
    elif name in ("LeakyRelu", "Elu", "ThresholdedRelu"):
        become(node, name, data, **dict(zip(("alpha",), parameters)))
    elif name == "HardSigmoid":
        become(node, name, data, **dict(zip(("alpha", "beta"), parameters)))
    elif name == "Clip" and len(parameters) == 2:
        low, high = (_scalar(graph, node, key, value, data) for key, value in zip(("min", "max"), parameters))
        become(node, name, data, low, high)
    else:
        raise refusal(node, f"its activation '{name}' is unknown")


# linear operators


@rewrites("FusedConv")
def _fused_conv(graph: Graph, node: Node) -> None:
    attributes = dict(node.attributes)
    name = str(attributes.pop("activation", ""))
    parameters = [float(item) for item in attributes.pop("activation_params", [])]
    addend = node.input(3)
    if not name and addend is None:
        become(node, "Conv", *node.inputs[:3], **attributes)
        return
    data = make(graph, node, "Conv", *node.inputs[:3], **attributes)
    if addend is not None and not name:
        become(node, "Add", data, addend)
        return
    if addend is not None:
        data = make(graph, node, "Add", data, addend)
    _activate(graph, node, name, data, parameters)


@rewrites("FusedGemm")
def _fused_gemm(graph: Graph, node: Node) -> None:
    attributes = dict(node.attributes)
    name = str(attributes.pop("activation", ""))
    given = [attributes.pop(f"activation_{key}", None) for key in ("alpha", "beta", "gamma")]
    parameters = [float(item) for item in given if item is not None]
    if not name:
        become(node, "Gemm", *node.inputs, **attributes)
        return
    _activate(graph, node, name, make(graph, node, "Gemm", *node.inputs, **attributes), parameters)


@rewrites("FusedMatMul", "TransposeMatMul")
def _fused_matmul(graph: Graph, node: Node) -> None:
    alpha = node.attr_float("alpha", 1.0)
    sides = []
    for position, side in enumerate("AB"):
        value = node.operand(position)
        swap, batch = node.attr_int(f"trans{side}", 0), node.attr_int(f"transBatch{side}", 0)
        if swap or batch:
            if value.shape is None:
                raise refusal(node, f"the rank of '{value.name}' is unknown")
            order = list(range(len(value.shape)))
            if batch and len(order) > 2:  # the batch axes stand between rows and columns
                order = [*order[1:-1], order[0], order[-1]]
            if swap and len(order) > 1:
                order[-2:] = order[:-3:-1]
            value = make(graph, node, "Transpose", value, perm=order)
        sides.append(value)
    if alpha == 1.0:
        become(node, "MatMul", *sides)
        return
    product = make(graph, node, "MatMul", *sides)
    become(node, "Mul", product, _scalar(graph, node, "alpha", alpha, product))


# normalisations


@rewrites("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_layer_normalization(graph: Graph, node: Node) -> None:
    """Normalise input + skip + bias over the last axis; the fourth output is that sum."""
    plain = node.op == "SkipLayerNormalization"
    data, skip, scale = node.operand(0), node.operand(1), node.operand(2)
    shift, bias = (node.input(3), node.input(4)) if plain else (None, node.input(3))
    total = make(graph, node, "Add", data, skip)
    if bias is not None:
        total = make(graph, node, "Add", total, bias)
    for value in node.outputs[1:3]:
        if value.use_count:
            raise refusal(node, f"its output '{value.name}' exists only in training")
    if len(node.outputs) > 3:
        graph.replace(node.outputs[3], total)
    node.outputs = node.outputs[:1]
    epsilon = node.attr_float("epsilon", 1e-12 if plain else 1e-6)
    if plain:
        become(node, "LayerNormalization", total, scale, shift, axis=-1, epsilon=epsilon)
    else:
        become(node, "RMSNormalization", total, scale, axis=-1, epsilon=epsilon)


def rewrite_extension(graph: Graph, node: Node) -> None:
    """ONNX Runtime's own operators of the default domain: LayerNormalization before opset 17 is the standard's,
    SimplifiedLayerNormalization is RMSNormalization."""
    if node.op == "SimplifiedLayerNormalization":
        for value in node.outputs[1:]:
            if value.use_count:
                raise refusal(node, f"its output '{value.name}' exists only in training")
        node.outputs = node.outputs[:1]
        attributes = {key: item for key, item in node.attributes.items() if key in ("axis", "epsilon", "stash_type")}
        become(node, "RMSNormalization", *node.inputs[:2], **attributes)
    elif len(node.outputs) > 3:
        raise ModelError("EDG109", f"'{node.name}' ({node.op}) has too many outputs", where=f"node '{node.name}'")


from edgec.ir import contrib_quantized  # noqa: E402, F401  (registers its rewrites)
