"""ONNX Runtime on models that are older than its kernels.

ONNX Runtime has kernels from opset 7 on; some exporters' models of opset 6 and before use forms that it does not run.
They are brought to opset 8 by ONNX's own version converter, which shares nothing with edgec's importer, so that the
reference stays independent of what is tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from edgec.errors import VerificationError
from edgec.runtime.onnxruntime import OnnxRuntimeSession, Options, load_model

FIRST_OPSET = 7
"""The oldest version of the default domain that ONNX Runtime has kernels for."""

_UPGRADED_OPSET = 8


def open_session(
    path: str | Path,
    *,
    optimise: bool = True,
    threads: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> OnnxRuntimeSession:
    """Upgrade a model in memory and load it; the arguments are those of :func:`edgec.runtime.onnxruntime.open_session`.

    Raises:
        VerificationError: EDG302 when the model cannot be upgraded or ONNX Runtime refuses it.
    """
    try:
        model = onnx.load(str(path))
        for value in model.graph.input:
            if input_shapes and value.name in input_shapes:
                _declare(value, input_shapes[value.name])
        _spread_slopes(model)
        upgraded = onnx.version_converter.convert_version(model, _UPGRADED_OPSET)
    except (RuntimeError, ValueError, OSError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError("EDG302", "the model cannot be upgraded for ONNX Runtime", why=str(error)) from error
    return load_model(upgraded.SerializeToString(), Options(optimise=optimise, threads=threads))


def _declare(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    shaped = value.type.tensor_type.shape
    del shaped.dim[:]
    for extent in shape:
        shaped.dim.add(dim_value=extent)


def _spread_slopes(model: onnx.ModelProto) -> None:
    """Give PRelu slopes one axis per axis after the channels: before opset 7 they were matched to axis 1.

    The version converter has no adapter for this.
    """
    ranks: dict[str, int] = {}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    for value in (*inferred.input, *inferred.value_info):
        ranks[value.name] = len(value.type.tensor_type.shape.dim)
    slopes = {
        node.input[1]: ranks.get(node.input[0], 0)
        for node in model.graph.node
        if node.op_type == "PRelu" and node.domain in ("", "ai.onnx")
    }
    for tensor in model.graph.initializer:
        if tensor.name in slopes and len(tensor.dims) == 1 and tensor.dims[0] > 1:
            tensor.dims.extend([1] * max(slopes[tensor.name] - 2, 0))
    for value in model.graph.input:
        for tensor in model.graph.initializer:
            if value.name == tensor.name and value.name in slopes:
                _declare(value, tensor.dims)
