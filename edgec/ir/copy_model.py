"""A second model with the same nodes, so that one can be rewritten while the other stays what it was."""

from __future__ import annotations

from edgec.ir.graph import Model, Value
from edgec.ir.passes.control_flow import copy_graph
from edgec.ir.proto import own_constants


def copy_model(model: Model) -> Model:
    """A deep copy that shares nothing with the model but the elements of its constants."""
    constants: dict[Value, Value] = {
        value: Value(value.name, value.dtype, value.shape, const=value.const) for value in own_constants(model.graph)
    }
    return Model(
        copy_graph(model.graph, None, constants),
        model.opset,
        domains=model.domains,
        ir_version=model.ir_version,
        producer=model.producer,
        doc=model.doc,
        metadata=model.metadata,
    )
