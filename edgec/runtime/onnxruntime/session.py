"""A model loaded by ONNX Runtime."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgec.errors import EdgecError, VerificationError
from edgec.ir.types import Array, DataType
from edgec.runtime.onnxruntime.arena import check_limit, registered
from edgec.runtime.onnxruntime.options import EXTENDS, LEVELS, MODES, PROVIDERS, Options, options_from
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
    """A model loaded by ONNX Runtime; see :class:`edgec.runtime.session.Session`.

    :meth:`run` may be called by several threads at the same time.
    """

    def __init__(self, session: Any, options: Options | None = None):
        self._session = session
        self._options = options or Options()
        self.inputs = tuple(_spec(item) for item in session.get_inputs())
        self.outputs = tuple(_spec(item) for item in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when ONNX Runtime reports an error, or the session is closed.
        """
        session = self._session
        if session is None:
            raise VerificationError("EDG303", "the session is closed")
        names = [spec.name for spec in self.outputs]
        try:
            arrays = session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            raise VerificationError("EDG303", "ONNX Runtime cannot run the model", why=_reason(error)) from error
        return {name: np.asarray(array) for name, array in zip(names, arrays)}

    def close(self) -> None:
        """Release the model; a run that is under way ends first."""
        self._session = None


def open_session(
    model: str | Path | bytes,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    configuration: Mapping[str, str] | None = None,
    **options: Any,
) -> OnnxRuntimeSession:
    """Load an ONNX model; on the CPU execution provider, without spinning threads, where the options do not differ.

    Args:
        model: a path, or the bytes of a model without external data.
        input_shapes: input name to the extents to declare instead of the model's own; where one of them contradicts a
            declared extent, the model's declarations are rewritten in memory (:mod:`edgec.runtime.redeclare`).
        configuration: further session configuration entries.
        options: see :class:`edgec.runtime.onnxruntime.options.Options`.

    Raises:
        UsageError: EDG040 for an option that is none, or contradicts another.
        EdgecError: EDG522 where the execution provider is not available.
        VerificationError: EDG302 when ONNX Runtime refuses the model.
        UnsupportedError: EDG204 for an input or output that is no tensor.
    """
    wanted = options_from(options)
    _check_available(wanted)
    settings = _session_options(wanted)
    for key, value in (configuration or {}).items():
        settings.add_session_config_entry(key, value)
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
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    providers = [(wanted.provider_name, _provider_options(wanted))]
    try:
        with registered(wanted, settings):
            session = onnxruntime.InferenceSession(loaded, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        raise _refused(wanted, _reason(error)) from error
    if wanted.provider_name not in session.get_providers():
        raise _unavailable(wanted, "ONNX Runtime could not load it; its message on standard error says why")
    check_limit(wanted, session)
    return OnnxRuntimeSession(session, wanted)


def _session_options(options: Options) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[str(options.optimise)])
    settings.execution_mode = getattr(onnxruntime.ExecutionMode, MODES[options.execution_mode])
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = options.inter_threads
    settings.enable_cpu_mem_arena = options.arena
    settings.enable_mem_pattern = options.memory_pattern  # a planned block stands beside the arena from the second run
    settings.log_severity_level = 4 if options.on_cpu else 3  # errors arrive as exceptions, but not a provider's
    spinning = "1" if options.spinning else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    settings.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    if options.require_provider:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def _provider_options(options: Options) -> dict[str, str]:
    found: dict[str, str] = {}
    if options.provider_name == PROVIDERS["cuda"]:
        if options.device_limit is not None:
            found["gpu_mem_limit"] = str(options.device_limit)
        if options.arena_extend is not None:
            found["arena_extend_strategy"] = EXTENDS[options.arena_extend]
        if options.cuda_graph:
            found["enable_cuda_graph"] = "1"
    return {**found, **{str(key): str(value) for key, value in options.provider_options.items()}}


def _check_available(options: Options) -> None:
    """Whether the installed ONNX Runtime has the provider.

    Raises:
        EdgecError: EDG522.
    """
    if options.on_cpu:
        return
    available = onnxruntime.get_available_providers()
    if options.provider_name not in available:
        known = ", ".join(name for name in available if name != "AzureExecutionProvider")
        raise _unavailable(options, f"the installed onnxruntime {onnxruntime.__version__} has {known}")
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None and options.provider_name in (PROVIDERS["cuda"], PROVIDERS["tensorrt"]):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it cannot load
            preload()


def _unavailable(options: Options, why: str) -> EdgecError:
    package = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "qnn": "onnxruntime-qnn"}.get(options.provider)
    return EdgecError(
        "EDG522",
        f"the execution provider '{options.provider}' is not available",
        why=why,
        help=f"pip install {package}, or leave --provider out" if package else "leave --provider out",
    )


def _refused(options: Options, reason: str) -> EdgecError:
    if options.require_provider and "fallback to CPU EP" in reason:
        return EdgecError("EDG523", f"{options.provider} does not take the whole model", why=reason)
    return VerificationError("EDG302", "ONNX Runtime cannot load the model", why=reason)


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
