"""A model loaded by ONNX Runtime."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from edgec.errors import EdgecError, UsageError, VerificationError
from edgec.ir.types import Array, DataType
from edgec.runtime.onnxruntime.arena import check_limit, registered
from edgec.runtime.onnxruntime.binding import DeviceBinding, HostBinding
from edgec.runtime.onnxruntime.options import EXACT_PRODUCTS, EXTENDS, LEVELS, MODES, PROVIDERS, Options, options_from
from edgec.runtime.onnxruntime.page_locked import PageLockedPool
from edgec.runtime.redeclare import redeclare
from edgec.runtime.session import Assignment, Pool, TensorSpec
from edgec.runtime.specialised import SpecialisedSession

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


LIBRARIES_MISSING: Final = "Please install TensorRT libraries"
"""What ONNX Runtime says of TensorRT's execution provider without TensorRT."""
BOUND: Final = 16
"""Most sets of input shapes that a session keeps device buffers, and a captured CUDA graph, for."""


class OnnxRuntimeSession:
    """A model loaded by ONNX Runtime; see :class:`edgec.runtime.session.Session`.

    Several threads may call :meth:`run` at the same time, and their runs overlap; with device buffers (``io_binding``,
    ``cuda_graph``) they follow each other, because they share those.
    """

    def __init__(self, session: Any, options: Options | None = None):
        self._session = session
        self._options = options or Options()
        self._bindings: weakref.WeakSet[HostBinding | DeviceBinding] = weakref.WeakSet()
        self._bound: OrderedDict[tuple[tuple[int, ...], ...], DeviceBinding] = OrderedDict()
        self._lock = threading.Lock()
        self.inputs = tuple(_spec(item) for item in session.get_inputs())
        self.outputs = tuple(_spec(item) for item in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when ONNX Runtime reports an error, or the session is closed.
        """
        session = self._open()
        if self._options.cuda_graph or self._options.io_binding:
            return self._run_bound(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            arrays = session.run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            raise VerificationError("EDG303", "ONNX Runtime cannot run the model", why=_reason(error)) from error
        return {name: np.asarray(array) for name, array in zip(names, arrays)}

    def bind(
        self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> HostBinding | DeviceBinding:
        """Inputs and outputs at fixed places; see :meth:`edgec.runtime.session.BindableSession.bind`.

        Raises:
            UsageError: EDG005 where a shape is missing or does not fit, EDG040 where the provider has no such buffers.
            VerificationError: EDG303 when the model cannot be run on zeros, which finds open output shapes.
        """
        session, given = self._open(), shapes or {}
        binding: HostBinding | DeviceBinding
        if self._options.provider_name == PROVIDERS["cuda"]:
            device = int(self._options.provider_options.get("device_id", 0))
            graph = self._options.cuda_graph
            binding = DeviceBinding(session, self.inputs, self.outputs, pool, given, device=device, graph=graph)
        elif self._options.on_cpu:
            binding = HostBinding(session, self.inputs, self.outputs, pool, given)
        else:
            raise UsageError(
                "EDG040", f"buffers are bound with the providers cpu and cuda, not {self._options.provider}"
            )
        self._bindings.add(binding)
        return binding

    def assignment(self) -> Assignment | None:
        """Which nodes the execution provider took; None on the CPU, or where ONNX Runtime is too old to tell."""
        session = self._open()
        if self._options.on_cpu or not hasattr(session, "get_provider_graph_assignment_info"):
            return None
        taken, left = 0, []
        for part in session.get_provider_graph_assignment_info():
            nodes = part.get_nodes()
            if part.ep_name == self._options.provider_name:
                taken += len(nodes)
            else:
                left += [f"{node.name} ({node.op_type})" for node in nodes]
        return Assignment(self._options.provider, taken, tuple(left), not left)

    def close(self) -> None:
        """Release the model and its bindings; a run that is under way ends first."""
        with self._lock:
            for binding in list(self._bindings):
                binding.close()
            self._bindings.clear()
            self._bound.clear()
            self._session = None

    def _open(self) -> Any:
        session = self._session
        if session is None:
            raise VerificationError("EDG303", "the session is closed")
        return session

    def _run_bound(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run on the fixed buffers for these shapes; with a captured CUDA graph they belong to it."""
        for spec in self.inputs:
            if spec.name not in feeds:
                raise VerificationError("EDG303", f"there is no array for the input '{spec.name}'")
            if feeds[spec.name].dtype != spec.dtype:
                given = feeds[spec.name].dtype
                raise VerificationError("EDG303", f"the input '{spec.name}' is {spec.dtype}, not {given}")
        with self._lock:
            self._open()
            key = tuple(tuple(feeds[spec.name].shape) for spec in self.inputs)
            if key not in self._bound:
                made = self.bind(PageLockedPool(), {spec.name: feeds[spec.name].shape for spec in self.inputs})
                assert isinstance(made, DeviceBinding)
                self._bound[key] = made
                if len(self._bound) > BOUND:
                    self._bound.popitem(last=False)[1].close()
            self._bound.move_to_end(key)
            binding = self._bound[key]
            for spec in self.inputs:
                np.copyto(binding.inputs[spec.name], feeds[spec.name])
            binding.run()
            return {name: np.array(array) for name, array in binding.outputs.items()}


def open_session(
    model: str | Path | bytes,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    configuration: Mapping[str, str] | None = None,
    **options: Any,
) -> OnnxRuntimeSession | SpecialisedSession:
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
    if not wanted.specialise:
        return load_model(model, wanted, input_shapes, configuration)
    kept = replace(wanted, specialise=0)
    general = load_model(model, kept, input_shapes, configuration)
    inputs, outputs = general.inputs, general.outputs
    general.close()
    if all(isinstance(dim, int) for spec in inputs for dim in spec.shape):
        raise UsageError("EDG040", "specialise does nothing: every input of the model has a fixed shape")
    return SpecialisedSession(
        inputs, outputs, lambda shapes: load_model(model, kept, shapes, configuration, inputs), wanted.specialise
    )


def load_model(
    model: str | Path | bytes,
    wanted: Options,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    configuration: Mapping[str, str] | None = None,
    specialised: Sequence[TensorSpec] = (),
) -> OnnxRuntimeSession:
    """One session; with ``specialised`` inputs, their open extents are fixed to those of ``input_shapes``.

    The other arguments, and the errors, are those of :func:`open_session`.
    """
    _check_available(wanted)
    settings = _session_options(wanted)
    named = _named_extents(specialised, input_shapes or {})
    for name, extent in (named or {}).items():
        settings.add_free_dimension_override_by_name(name, extent)
    for key, value in (configuration or {}).items():
        settings.add_session_config_entry(key, value)
    loaded: str | bytes = model if isinstance(model, bytes) else str(model)
    if input_shapes and not isinstance(model, bytes):
        shapes = {name: tuple(int(dim) for dim in shape) for name, shape in input_shapes.items()}
        try:
            changed = redeclare(Path(model), shapes, open_too=named is None)
        except (ValueError, OSError) as error:
            raise VerificationError("EDG302", "the model file cannot be read", why=str(error)) from error
        if changed is not None:
            loaded = changed
            folder = str(Path(model).resolve().parent)
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    providers = [(wanted.provider_name, _provider_options(wanted))]
    try:
        with registered(wanted, settings):
            session = _session(loaded, settings, providers)
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        raise _refused(wanted, _reason(error)) from error
    if wanted.provider_name not in session.get_providers():
        raise _unavailable(wanted, "ONNX Runtime could not load it; its message on standard error says why")
    check_limit(wanted, session)
    return OnnxRuntimeSession(session, wanted)


def _session(loaded: str | bytes, settings: Any, providers: Sequence[Any]) -> Any:
    """The session, with exact 8-bit products where ONNX Runtime can have them.

    It makes uint8 of int8 weights for that, and then has no convolution for int8 data, whose products are exact anyway:
    such a model is loaded without.
    """
    settings.add_session_config_entry(EXACT_PRODUCTS, "1")
    try:
        return onnxruntime.InferenceSession(loaded, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        if "types are incompatible" not in str(error):
            raise
    settings.add_session_config_entry(EXACT_PRODUCTS, "0")
    return onnxruntime.InferenceSession(loaded, settings, providers=providers, enable_fallback=0)


def _named_extents(inputs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> dict[str, int] | None:
    """The open extents by name; None where one has no name, or two of different size share one."""
    found: dict[str, int] = {}
    for spec in inputs:
        for dim, extent in zip(spec.shape, shapes[spec.name]):
            if dim is None or (isinstance(dim, str) and found.setdefault(dim, int(extent)) != int(extent)):
                return None
    return found


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
    if not options.on_cpu:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if options.require_delegate:
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


def _unavailable(options: Options, why: str, help: str | None = None) -> EdgecError:
    package = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "qnn": "onnxruntime-qnn"}.get(options.provider)
    return EdgecError(
        "EDG522",
        f"the execution provider '{options.provider}' is not available",
        why=why,
        help=help or (f"pip install {package}, or leave --provider out" if package else "leave --provider out"),
    )


def _refused(options: Options, reason: str) -> EdgecError:
    if options.require_delegate and "fallback to CPU EP" in reason:
        return EdgecError("EDG523", f"{options.provider} does not take the whole model", why=reason)
    if LIBRARIES_MISSING in reason:
        why = "ONNX Runtime does not find TensorRT's libraries"
        return _unavailable(options, why, help="install TensorRT where the loader finds it, or leave --provider out")
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
