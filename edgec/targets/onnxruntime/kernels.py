"""Which canonical nodes ONNX Runtime's CPU provider has no kernel for, found by asking it.

Each kind of node (operator, attributes, element types, ranks) is put into a model of its own with one node and loaded;
what ONNX Runtime refuses to load there it refuses in the whole graph too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cache

import numpy as np
from onnx import ModelProto, helper

from edgec.ir.graph import Graph, Model, Node, Tensor, Value
from edgec.ir.inference import captured
from edgec.ir.proto import all_nodes, node_to_proto, tensor_to_proto, type_of
from edgec.ir.types import DataType
from edgec.targets.base import Refusal

SMALL = 1024
"""Constants up to this many elements are given as initializers, since kernels may insist on knowing them."""


def runnable_opset(model: Model) -> tuple[int, list[Refusal]]:
    """The lowest opset that the model can be written at and that has a kernel for every node.

    Returns:
        The opset and no refusals; or, where no opset has all kernels, the lowest one with its refusals in graph order.
    """
    from edgec.ir.lowest_opset import lowest_opset

    lowest = lowest_opset(model)
    refused = missing_kernels(model, lowest)
    if refused:
        for opset in range(lowest + 1, model.opset + 1):
            if not missing_kernels(model, opset):
                return opset, []
    return lowest, refused


def missing_kernels(model: Model, opset: int) -> list[Refusal]:
    """A refusal for every node without a kernel at an opset, in graph order."""
    verdicts: dict[Hashable, str | None] = {}
    refusals = []
    for node in all_nodes(model.graph):
        key = _kind(node)
        if key not in verdicts:
            verdicts[key] = _ask(_lone(node, model, opset))
        why = verdicts[key]
        if why is not None:
            refusals.append(
                Refusal(
                    node.name,
                    node.op,
                    node.sources,
                    "EDG231",
                    f"ONNX Runtime has no CPU kernel for it: {why}",
                    "another element type may have one",
                )
            )
    return refusals


def _kind(node: Node) -> Hashable:
    if node.subgraphs:
        return id(node)
    operands = tuple(None if value is None else _signature(value) for value in node.inputs)
    attributes = tuple(sorted((key, _attribute_key(value)) for key, value in node.attributes.items()))
    return node.domain, node.op, operands, attributes, tuple(value.dtype for value in node.outputs)


def _signature(value: Value) -> Hashable:
    if value.type_proto is not None:
        return bool(value.const), value.type_proto.SerializeToString(deterministic=True)
    return value.const is not None, value.dtype, None if value.shape is None else len(value.shape)


def _attribute_key(value: object) -> str:
    return f"tensor {value.dtype.name} {value.shape}" if isinstance(value, Tensor) else repr(value)


def _lone(node: Node, model: Model, opset: int) -> ModelProto:
    """A model with this node only; everything it takes becomes an input or, when small and constant, an initializer."""
    proto = helper.make_model(
        helper.make_graph([node_to_proto(node)], "lone", [], []),
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, number) for domain, number in sorted(model.domains.items()) if domain),
        ],
        ir_version=model.ir_version,
    )
    for value in _taken(node):
        if value.const is not None and (value.const.size <= SMALL or value.dtype is DataType.STRING):
            proto.graph.initializer.append(tensor_to_proto(value.const, value.name))
        else:
            proto.graph.input.add(name=value.name, type=type_of(value))
    for value in node.outputs:
        if value.type_proto is not None or value.dtype is not DataType.UNDEFINED:
            proto.graph.output.add(name=value.name, type=type_of(value))
        else:
            proto.graph.output.add(name=value.name)
    return proto


def _taken(node: Node) -> Iterator[Value]:
    seen: dict[Value, None] = {value: None for value in node.inputs if value is not None}
    for body in node.subgraphs:
        seen.update(dict.fromkeys(captured(body)))
        seen.update(dict.fromkeys(_constants(body)))
    yield from seen


def _constants(graph: Graph) -> Iterator[Value]:
    yield from graph.constants()
    for node in graph.nodes:
        for body in node.subgraphs:
            yield from _constants(body)


@cache
def _quiet_options() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _ask(proto: ModelProto) -> str | None:
    """Why ONNX Runtime does not load the model for want of a kernel, or None."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(
            proto.SerializeToString(), sess_options=_quiet_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exception classes are not public
        text = str(error)
        if (
            "NOT_IMPLEMENTED" in text
            or "not a registered function/op" in text
            or "Could not find an implementation" in text
        ):
            return text.strip().splitlines()[0].removeprefix("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : ")
    return None


def probe() -> str:
    """Load and run a model of one node; returns what came out (for ``edgec doctor``)."""
    import onnxruntime

    value = helper.make_tensor_value_info("x", 1, [2])
    result = helper.make_tensor_value_info("y", 1, [2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [value], [result])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), sess_options=_quiet_options(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"x": np.array([-1, 2], np.float32)})[0]
    return f"Relu([-1, 2]) = {found.tolist()}"
