"""ONNX protobuf to IR and back.

Only ``onnx``'s message classes are used here; reading files under limits is the importer's work.
Source: onnx.proto, IR version 3 to the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from edgec.errors import ModelError
from edgec.ir.graph import Attribute, Graph, Model, Node, Tensor, Value
from edgec.ir.types import Array, DataType, Dim

LoadTensor = Callable[[TensorProto], Tensor]
StoreTensor = Callable[[str, Tensor], None]

NAMELESS = frozenset({"", "?", "-1", "None"})
"""Names that exporters give to dimensions without a name; they do not stand for one and the same extent."""

MAX_NESTING = 16
"""Deepest nesting of control-flow bodies that is read."""


# tensors


def unpack(dtype: DataType, shape: tuple[int, ...], raw: Any) -> Array:
    """The array over little-endian ``raw_data`` bytes: a read-only view, or a copy for sub-byte types.

    Raises:
        ValueError: the bytes do not fill the shape.
    """
    count = 1
    for dim in shape:
        count *= dim
    needed = (count * dtype.bits + 7) // 8
    view = memoryview(raw)
    if view.nbytes < needed or (view.nbytes > needed and count):
        raise ValueError(f"holds {view.nbytes} bytes, its shape {list(shape)} needs {needed}")
    if dtype.bits >= 8:
        return np.frombuffer(view, dtype=dtype.numpy, count=count).reshape(shape)
    per = 8 // dtype.bits
    packed = np.frombuffer(view, dtype=np.uint8)
    parts = np.empty((packed.size, per), np.uint8)
    for position in range(per):
        parts[:, position] = (packed >> (position * dtype.bits)) & ((1 << dtype.bits) - 1)
    flat = parts.reshape(-1)[:count]
    if dtype in (DataType.INT4, DataType.INT2):
        sign = 1 << (dtype.bits - 1)
        signed = flat.astype(np.int8)
        return ((signed ^ sign) - sign).astype(dtype.numpy).reshape(shape)
    if dtype in (DataType.UINT4, DataType.UINT2):
        return flat.astype(dtype.numpy).reshape(shape)
    return flat.view(dtype.numpy).reshape(shape)


def tensor_from_proto(proto: TensorProto) -> Tensor:
    """A constant whose elements are inside the message.

    Raises:
        ModelError: EDG109 when the data does not fill the shape, EDG107 for external data (the importer resolves it).
    """
    where = f"tensor '{proto.name}'"
    if proto.data_location == TensorProto.EXTERNAL:
        raise ModelError("EDG107", "external data outside a file is not read", where=where)
    try:
        dtype = DataType(proto.data_type)
    except ValueError:
        raise ModelError("EDG109", f"unknown element type {proto.data_type}", where=where) from None
    shape = tuple(proto.dims)
    if any(dim < 0 for dim in shape) or dtype is DataType.UNDEFINED:
        raise ModelError("EDG109", f"malformed shape {list(shape)} or type", where=where)
    if dtype is DataType.STRING:
        strings = np.array([item.decode("utf-8", "surrogateescape") for item in proto.string_data], dtype=object)
        if strings.size != int(np.prod(shape, dtype=np.int64)):
            raise ModelError("EDG109", "string data does not fill the shape", where=where)
        return Tensor(dtype, shape, lambda: strings.reshape(shape))
    try:
        if proto.HasField("raw_data"):
            array = unpack(dtype, shape, proto.raw_data)
        else:
            array = onnx.numpy_helper.to_array(proto).reshape(shape)
            if array.dtype != dtype.numpy:
                array = array.astype(dtype.numpy)
    except (ValueError, TypeError) as error:
        raise ModelError("EDG109", f"the data of a tensor does not fit: {error}", where=where) from error
    return Tensor(dtype, shape, lambda: array)


def tensor_to_proto(tensor: Tensor, name: str = "") -> TensorProto:
    """The message with the elements copied in."""
    array = tensor.numpy()
    if tensor.dtype is DataType.STRING:
        return TensorProto(
            name=name,
            dims=tensor.shape,
            data_type=TensorProto.STRING,
            string_data=[str(item).encode("utf-8", "surrogateescape") for item in array.ravel()],
        )
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(tensor.shape), name)


# types


def type_of(value: Value) -> TypeProto:
    """The ONNX type of a value (element type and as much of the shape as is known)."""
    proto = TypeProto()
    if value.type_proto is not None:
        proto.CopyFrom(value.type_proto)
        return proto
    if value.dtype is DataType.UNDEFINED:  # nothing, rather than a type that is none
        return proto
    proto.tensor_type.elem_type = int(value.dtype)
    if value.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for dim in value.shape:
            entry = proto.tensor_type.shape.dim.add()
            if isinstance(dim, int):
                entry.dim_value = dim
            elif dim is not None:
                entry.dim_param = dim
    return proto


def set_type(value: Value, proto: TypeProto) -> None:
    """Type a value; what is known already is refined, never forgotten."""
    if not proto.HasField("tensor_type"):
        if proto.WhichOneof("value") is not None:
            value.type_proto = proto
        return
    tensor = proto.tensor_type
    if tensor.elem_type:
        value.dtype = DataType(tensor.elem_type)
    if not tensor.HasField("shape"):
        return
    fresh: list[Dim] = []
    for entry in tensor.shape.dim:
        if entry.HasField("dim_value") and entry.dim_value >= 0:
            fresh.append(int(entry.dim_value))
        else:
            fresh.append(None if entry.dim_param in NAMELESS else entry.dim_param)
    old = value.shape
    if old is not None and len(old) == len(fresh):
        fresh = [f if isinstance(f, int) else (o if isinstance(o, int) else (f or o)) for f, o in zip(fresh, old)]
    value.shape = tuple(fresh)


# nodes and graphs: reading


def _attribute(
    proto: AttributeProto, scope: Mapping[str, Value], graph: Graph, load: LoadTensor, depth: int
) -> Attribute:
    kind = proto.type
    if kind == AttributeProto.UNDEFINED:  # IR versions before 4 may leave the type out
        for candidate, name in ((AttributeProto.FLOAT, "f"), (AttributeProto.INT, "i"), (AttributeProto.STRING, "s")):
            if proto.HasField(name):
                kind = candidate
        for candidate, name in (
            (AttributeProto.FLOATS, "floats"),
            (AttributeProto.INTS, "ints"),
            (AttributeProto.STRINGS, "strings"),
        ):
            if len(getattr(proto, name)):
                kind = candidate
    match kind:
        case AttributeProto.FLOAT:
            return float(proto.f)
        case AttributeProto.INT:
            return int(proto.i)
        case AttributeProto.STRING:
            return _text(proto.s)
        case AttributeProto.TENSOR:
            return load(proto.t)
        case AttributeProto.GRAPH:
            return graph_from_proto(proto.g, load, scope=scope, parent=graph, depth=depth + 1)
        case AttributeProto.FLOATS:
            return [float(item) for item in proto.floats]
        case AttributeProto.INTS:
            return [int(item) for item in proto.ints]
        case AttributeProto.STRINGS:
            return [_text(item) for item in proto.strings]
        case AttributeProto.TENSORS:
            return [load(item) for item in proto.tensors]
        case AttributeProto.GRAPHS:
            return [graph_from_proto(item, load, scope=scope, parent=graph, depth=depth + 1) for item in proto.graphs]
        case AttributeProto.TYPE_PROTO:
            return proto.tp
    raise ModelError("EDG109", f"attribute '{proto.name}' has no readable type")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def graph_from_proto(
    proto: GraphProto,
    load: LoadTensor = tensor_from_proto,
    *,
    scope: Mapping[str, Value] | None = None,
    parent: Graph | None = None,
    depth: int = 0,
) -> Graph:
    """The IR graph of a message.

    Args:
        load: turns an initializer or tensor attribute into a constant.
        scope: values of the enclosing graphs, for a control-flow body.

    Raises:
        ModelError: EDG106 (cycle or wrong order), EDG109 (malformed), EDG112 (nested too deeply).
    """
    if depth > MAX_NESTING:
        raise ModelError("EDG112", f"control-flow bodies are nested more than {MAX_NESTING} deep")
    graph = Graph(proto.name or "graph")
    graph.parent = parent
    values: dict[str, Value] = dict(scope or {})
    own: set[str] = set()

    def define(value: Value) -> Value:
        if value.name in own:
            raise ModelError("EDG109", f"the value '{value.name}' is defined twice", where=f"graph '{graph.name}'")
        own.add(value.name)
        values[value.name] = value
        return value

    for item in proto.initializer:
        tensor = load(item)
        define(Value(item.name, tensor.dtype, tensor.shape, const=tensor))
    for item in proto.sparse_initializer:
        raise ModelError("EDG109", "sparse initializers are not read", where=f"initializer '{item.values.name}'")
    for entry in proto.input:
        if entry.name in own and parent is None:  # IR 3 lists initializers among the inputs
            continue
        value = Value(entry.name)
        set_type(value, entry.type)
        graph.inputs.append(define(value))
    declared = {entry.name: entry.type for entry in (*proto.value_info, *proto.output)}
    produced = {name for node in proto.node for name in node.output if name}
    for position, node in enumerate(proto.node):
        name = node.name or f"{node.op_type}_{position}"
        operands: list[Value | None] = []
        for operand in node.input:
            if operand == "":
                operands.append(None)
            elif operand in values:
                operands.append(values[operand])
            else:
                why = (
                    "it is produced only later in the file: the graph is cyclic or its nodes are out of order"
                    if operand in produced
                    else "no input, initializer or node produces it"
                )
                raise ModelError(
                    "EDG106", f"'{name}' ({node.op_type}) uses '{operand}'", where=f"node '{name}'", why=why
                )
        attributes = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    "EDG109", f"attribute '{attribute.name}' refers to a function's attribute", where=f"node '{name}'"
                )
            attributes[attribute.name] = _attribute(attribute, values, graph, load, depth)
        outputs = []
        for position_out, result in enumerate(node.output):
            if result:
                made = define(Value(result))
                if result in declared:
                    set_type(made, declared[result])
            else:
                made = Value(f"{name}_unused_{position_out}")
            outputs.append(made)
        domain = "" if node.domain == "ai.onnx" else node.domain
        graph.append(Node(node.op_type, operands, outputs, attributes, name=name, domain=domain, sources=(name,)))
    root = graph
    while root.parent is not None:
        root = root.parent
    for taken in own:
        root._names.setdefault(taken, 1)
    for entry in proto.output:
        if entry.name not in values:
            raise ModelError("EDG106", f"the graph's output '{entry.name}' is produced by no node")
        graph.add_output(entry.name, values[entry.name])
    return graph


def model_from_proto(proto: ModelProto, load: LoadTensor = tensor_from_proto) -> Model:
    """The IR model of a message without local functions (the importer inlines them).

    Raises:
        ModelError: see :func:`graph_from_proto`.
    """
    opset = 0
    domains: dict[str, int] = {}
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            opset = max(opset, int(entry.version))
        else:
            domains[entry.domain] = int(entry.version)
    return Model(
        graph_from_proto(proto.graph, load),
        opset or 1,
        domains=domains,
        ir_version=int(proto.ir_version),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        doc=proto.doc_string,
        metadata={item.key: item.value for item in proto.metadata_props},
    )


# nodes and graphs: writing


def node_to_proto(node: Node, names: Mapping[Value, str] | None = None) -> NodeProto:
    """The message of a node; ``names`` overrides the names of values."""

    def name_of(value: Value | None) -> str:
        if value is None:
            return ""
        return value.name if names is None else names.get(value, value.name)

    proto = NodeProto(op_type=node.op, domain=node.domain, name=node.name)
    proto.input.extend(name_of(value) for value in node.inputs)
    proto.output.extend(name_of(value) for value in node.outputs)
    for key, attribute in node.attributes.items():
        proto.attribute.append(_attribute_to_proto(key, attribute, names))
    return proto


def _attribute_to_proto(key: str, attribute: Attribute, names: Mapping[Value, str] | None) -> AttributeProto:
    if type(attribute) is int:  # the most frequent kinds first: onnx.helper takes its time to tell them apart
        return AttributeProto(name=key, type=AttributeProto.INT, i=attribute)
    if type(attribute) is list and attribute and all(type(item) is int for item in attribute):
        return AttributeProto(name=key, type=AttributeProto.INTS, ints=attribute)
    if isinstance(attribute, Tensor):
        return onnx.helper.make_attribute(key, tensor_to_proto(attribute, key))
    if isinstance(attribute, Graph):
        return onnx.helper.make_attribute(key, graph_to_proto(attribute, names))
    if isinstance(attribute, list) and not attribute:
        return AttributeProto(name=key, type=AttributeProto.INTS)
    if isinstance(attribute, list) and isinstance(attribute[0], Graph):
        return onnx.helper.make_attribute(key, [graph_to_proto(item, names) for item in attribute])
    if isinstance(attribute, list) and isinstance(attribute[0], Tensor):
        return onnx.helper.make_attribute(key, [tensor_to_proto(item) for item in attribute])
    if isinstance(attribute, str):
        return AttributeProto(name=key, type=AttributeProto.STRING, s=attribute.encode("utf-8", "surrogateescape"))
    if isinstance(attribute, list) and isinstance(attribute[0], str):
        strings = [item.encode("utf-8", "surrogateescape") for item in attribute]
        return AttributeProto(name=key, type=AttributeProto.STRINGS, strings=strings)
    return onnx.helper.make_attribute(key, attribute)


def output_names(graph: Graph, outer: Mapping[Value, str] | None = None) -> tuple[dict[Value, str], list[NodeProto]]:
    """Names of values for writing, such that outputs carry their fixed names, and the Identity nodes this needs."""
    names: dict[Value, str] = dict(outer or {})
    taken = {value.name for value in graph.inputs} | set(graph.output_names)
    identities: list[NodeProto] = []
    inputs = set(graph.inputs)
    for name, value in zip(graph.output_names, graph.outputs):
        local = value.producer is not None and value.producer.graph is graph
        own = value.name == name and (local or value.const is not None or value in inputs)
        if own or (local and value not in names):
            names[value] = name
        else:
            identities.append(
                onnx.helper.make_node("Identity", [names.get(value, value.name)], [name], name=f"{name}_output")
            )
    for node in graph.nodes:
        for value in node.outputs:
            if value not in names and value.name in taken:
                names[value] = graph.unique(f"{value.name}_inner")
    if outer is None:  # constants of all bodies are stored here, and bodies beside each other may share names
        owners: dict[str, Value] = {}
        for node in all_nodes(graph):
            for value in node.outputs:
                owners.setdefault(value.name, value)
        for value in own_constants(graph):
            if value not in names and (value.name in taken or owners.setdefault(value.name, value) is not value):
                names[value] = graph.unique(f"{value.name}_inner")
    # an identity written before its operand was renamed must follow the new name
    for proto, (name, value) in zip(
        identities, [(n, v) for n, v in zip(graph.output_names, graph.outputs) if names.get(v) != n]
    ):
        proto.input[0] = names.get(value, value.name)
        proto.output[0] = name
    return names, identities


def graph_to_proto(
    graph: Graph,
    outer: Mapping[Value, str] | None = None,
    *,
    initializers: bool | StoreTensor = True,
    value_info: bool = False,
) -> GraphProto:
    """The message of a graph.

    Args:
        outer: names of values of enclosing graphs.
        initializers: copy the constants in; a function receives those of the outermost graph instead, to store them.
        value_info: also write the types of intermediate values.
    """
    names, identities = output_names(graph, outer)
    proto = GraphProto(name=graph.name)
    for value in graph.inputs:
        proto.input.add(name=value.name, type=type_of(value))
    for name, value in zip(graph.output_names, graph.outputs):
        proto.output.add(name=name, type=type_of(value))
    for value in own_constants(graph, outer) if initializers else ():
        assert value.const is not None
        name = names.get(value, value.name)
        if callable(initializers):
            initializers(name, value.const)
        else:
            proto.initializer.append(tensor_to_proto(value.const, name))
    seen: dict[str, int] = {}
    for node in graph.nodes:
        written = node_to_proto(node, names)
        count = seen.get(node.name, 0)
        seen[node.name] = count + 1
        if count and node.name:  # ONNX Runtime wants distinct names
            written.name = f"{node.name}_{count}"
            while written.name in seen:
                written.name += "_"
            seen[written.name] = 1
        proto.node.append(written)
        if value_info:
            for value in node.outputs:
                if not value.is_output and (value.dtype is not DataType.UNDEFINED or value.type_proto is not None):
                    proto.value_info.add(name=names.get(value, value.name), type=type_of(value))
    proto.node.extend(identities)
    return proto


def own_constants(graph: Graph, outer: Mapping[Value, str] | None = None) -> Iterator[Value]:
    """The constants to store with a graph: its own and, for the outermost one, those that only bodies use."""
    if outer is not None:
        for value in graph.outputs:
            if value.const is not None and value not in outer:
                yield value
        return
    seen: dict[Value, None] = {}

    def collect(inner: Graph) -> None:
        for value in inner.constants():
            seen.setdefault(value)
        for node in inner.nodes:
            for body in node.subgraphs:
                collect(body)

    collect(graph)
    yield from seen


def model_to_proto(
    model: Model,
    *,
    initializers: bool | StoreTensor = True,
    value_info: bool = False,
    opset: int | None = None,
    ir_version: int | None = None,
) -> ModelProto:
    """The message of a model.

    Args:
        opset, ir_version: the versions to stamp instead of the model's own (see :mod:`edgec.ir.lowest_opset`).
    """
    proto = ModelProto(ir_version=ir_version or model.ir_version, producer_name="edgec", doc_string=model.doc)
    proto.opset_import.add(domain="", version=opset or model.opset)
    used = {node.domain for node in all_nodes(model.graph) if node.domain}
    for domain in sorted(used):
        proto.opset_import.add(domain=domain, version=model.domains.get(domain, 1))
    for key, item in model.metadata.items():
        proto.metadata_props.add(key=key, value=item)
    with model.graph.borrowing_names():  # writing it again gives the same names
        proto.graph.CopyFrom(graph_to_proto(model.graph, initializers=initializers, value_info=value_info))
    return proto


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Every node, those of control-flow bodies included."""
    for node in graph.nodes:
        yield node
        for body in node.subgraphs:
            yield from all_nodes(body)
