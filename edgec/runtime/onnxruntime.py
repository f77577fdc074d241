"""ONNX Runtime on the CPU as a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgec.errors import VerificationError
from edgec.ir.types import Array, DataType
from edgec.runtime.redeclare import redeclare
from edgec.runtime.session import TensorSpec

_TYPES = {
    "tensor(float)": DataType.FLOAT,
    "tensor(uint8)": DataType.UINT8,
    "tensor(int8)": DataType.INT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(bool)": DataType.BOOL,
    "tensor(float16)": DataType.FLOAT16,
    "tensor(double)": DataType.DOUBLE,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(complex64)": DataType.COMPLEX64,
    "tensor(complex128)": DataType.COMPLEX128,
    "tensor(bfloat16)": DataType.BFLOAT16,
}


class OnnxRuntimeSession:
    """A model loaded by ONNX Runtime; see :class:`edgec.runtime.session.Session`."""

    def __init__(self, session: Any):
        self._session = session
        self.inputs = tuple(_spec(item) for item in session.get_inputs())
        self.outputs = tuple(_spec(item) for item in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when ONNX Runtime reports an error.
        """
        names = [spec.name for spec in self.outputs]
        try:
            arrays = self._session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            raise VerificationError("EDG303", "ONNX Runtime cannot run the model", why=_reason(error)) from error
        return {name: np.asarray(array) for name, array in zip(names, arrays)}

    def close(self) -> None:
        """Release the model."""
        self._session = None


def open_session(
    model: str | Path | bytes,
    *,
    optimise: bool = True,
    threads: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    configuration: Mapping[str, str] | None = None,
) -> OnnxRuntimeSession:
    """Load an ONNX model on the CPU execution provider, without spinning threads.

    Args:
        model: a path, or the bytes of a model without external data.
        optimise: all graph optimisations, or none.
        threads: threads inside an operator.
        input_shapes: input name to the extents to declare instead of the model's own; where one of them contradicts a
            declared extent, the model's declarations are rewritten in memory (:mod:`edgec.runtime.redeclare`).
        configuration: further session configuration entries.

    Raises:
        VerificationError: EDG302 when ONNX Runtime refuses the model.
        UnsupportedError: EDG204 for an input or output that is no tensor.
    """
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False  # a planned block would stand beside the arena from the second run on
    options.log_severity_level = 4  # errors arrive as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    for key, value in (configuration or {}).items():
        options.add_session_config_entry(key, value)
    loaded: str | bytes = model if isinstance(model, bytes) else str(model)
    if input_shapes and not isinstance(model, bytes):
        shapes = {name: tuple(int(dim) for dim in shape) for name, shape in input_shapes.items()}
        try:
            changed = redeclare(Path(model), shapes)
        except (ValueError, OSError) as error:
            raise VerificationError("EDG302", "the model file cannot be read", why=str(error)) from error
        if changed is not None:
            loaded = changed
            folder = str(Path(model).resolve().parent)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        session = onnxruntime.InferenceSession(loaded, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        raise VerificationError("EDG302", "ONNX Runtime cannot load the model", why=_reason(error)) from error
    return OnnxRuntimeSession(session)


def _spec(item: Any) -> TensorSpec:
    if item.type == "tensor(string)":
        return TensorSpec(item.name, np.dtype(object), _shape(item.shape))
    element = _TYPES.get(item.type)
    if element is None:
        from edgec.errors import UnsupportedError

        raise UnsupportedError("EDG204", f"'{item.name}' is a {item.type}, only tensors can be compared")
    return TensorSpec(item.name, element.numpy, _shape(item.shape))


def _shape(dims: Sequence[Any]) -> tuple[int | str | None, ...]:
    return tuple(dim if isinstance(dim, (int, str)) else None for dim in dims)


def _reason(error: Exception) -> str:
    return str(error).strip()[:2000] or type(error).__name__
