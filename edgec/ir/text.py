"""The IR as text: ONNX's own textual syntax, read and written.

Source: the grammar in ``docs/Syntax.md`` of ONNX.
"""

from __future__ import annotations

import onnx.parser
import onnx.printer

from edgec.errors import ModelError
from edgec.ir.graph import Model
from edgec.ir.proto import model_from_proto, model_to_proto


def from_text(text: str) -> Model:
    """The model that an ONNX text describes; nothing is inferred or upgraded.

    Raises:
        ModelError: EDG109 for a syntax error, and the errors of :func:`edgec.ir.proto.model_from_proto`.
    """
    try:
        proto = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise ModelError("EDG109", "the text is no ONNX model", why=str(error)) from error
    return model_from_proto(proto)


def to_text(model: Model, limit: int | None = 16) -> str:
    """The model in ONNX text syntax.

    Constants of more than ``limit`` elements are left out and listed as comments above the model; with None everything
    is written and :func:`from_text` gives the same model back.
    """
    proto = model_to_proto(model, value_info=True)
    elided = []
    if limit is not None:
        kept = []
        for tensor in proto.graph.initializer:
            count = 1
            for dim in tensor.dims:
                count *= dim
            if count <= limit:
                kept.append(tensor)
                continue
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            elided.append(f"# {tensor.name} = {kind}[{','.join(str(dim) for dim in tensor.dims)}] {{...}}")
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
    return "\n".join([*elided, str(onnx.printer.to_text(proto))])
