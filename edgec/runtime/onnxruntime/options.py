"""The options of an ONNX Runtime session, under names that JSON can hold.

Sources: ONNX Runtime, "Thread management", "Graph optimizations", "CUDA execution provider" and "Memory consumption"
in its performance documentation; ``onnxruntime_session_options_config_keys.h``; ``OrtArenaCfg`` of its C API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from edgec.errors import UsageError
from edgec.runtime.options import check_choice, check_count, check_flag

LEVELS: Final = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
EXACT_PRODUCTS: Final = "session.x64quantprecision"
"""Config entry of every session: without it ONNX Runtime adds pairs of products of uint8 by int8 in 16 bits, which
saturate, on x86-64 CPUs without VNNI.  Source: onnxruntime_session_options_config_keys.h,
``kOrtSessionOptionsAvx2PrecisionMode``."""

MODES: Final = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
EXTENDS: Final = {"power-of-two": "kNextPowerOfTwo", "same-as-requested": "kSameAsRequested"}
PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
    "cann": "CANNExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
}
"""Short names of the execution providers that ONNX Runtime 1.31 knows."""


@dataclass(frozen=True)
class Options:
    """How a model is loaded; the defaults are those that verification uses.

    Attributes:
        threads: threads inside an operator (``intra_op_num_threads``), at least 1.
        optimise: graph optimisations: ``none``, ``basic``, ``extended`` or ``all``; True is all and False none.
        execution_mode: ``sequential``, or ``parallel`` to run independent operators at the same time.
        inter_threads: operators at the same time (``inter_op_num_threads``); more than 1 needs ``parallel``.
        arena: keep freed memory of the CPU for the next run (``enable_cpu_mem_arena``).
        memory_pattern: plan one block for all intermediate values from the second run on (``enable_mem_pattern``);
            ONNX Runtime does that in sequential mode only.
        arena_extend: how an arena grows: ``power-of-two`` or ``same-as-requested`` (``arena_extend_strategy``); of the
            CPU, or of CUDA where that is the provider.  None leaves it to ONNX Runtime (power-of-two).
        initial_chunk: bytes that the CPU's arena takes first (``initial_chunk_size_bytes``).
        device_limit: bytes that the arena may take at most: of the CPU (``max_mem``) or of CUDA (``gpu_mem_limit``).
        provider: a short name of :data:`PROVIDERS` or the name of an execution provider as ONNX Runtime writes it.
        provider_options: its own options, by ONNX Runtime's names.
        require_delegate: refuse a model of which a node would run on the CPU instead of the provider
            (``session.disable_cpu_ep_fallback``).
        cuda_graph: capture the CUDA kernels of a run and replay them (``enable_cuda_graph``); inputs and outputs then
            stay at fixed places on the device, which :meth:`OnnxRuntimeSession.run` takes care of.
        io_binding: let :meth:`OnnxRuntimeSession.run` keep inputs and outputs at fixed places on the CUDA device, and
            copy to and from page-locked host memory; ``cuda_graph`` does so in any case.
        spinning: let waiting threads spin (``session.intra_op.allow_spinning``), which costs a core each.
        specialise: keep up to this many copies of a model with open extents, each planned for the input shapes of one
            run (``add_free_dimension_override_by_name``); 0 keeps one for all.
    """

    threads: int = 1
    optimise: str | bool = "all"
    execution_mode: str = "sequential"
    inter_threads: int = 1
    arena: bool = True
    memory_pattern: bool = False
    arena_extend: str | None = None
    initial_chunk: int | None = None
    device_limit: int | None = None
    provider: str = "cpu"
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    require_delegate: bool = False
    cuda_graph: bool = False
    io_binding: bool = False
    spinning: bool = False
    specialise: int = 0

    def __post_init__(self) -> None:
        """Check every value, and what the values mean together.

        Raises:
            UsageError: EDG040.
        """
        for name in ("threads", "inter_threads"):
            check_count(name, getattr(self, name))
        if self.specialise:
            check_count("specialise", self.specialise)
        for name in ("initial_chunk", "device_limit"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), "bytes")
        for name in (
            "arena",
            "memory_pattern",
            "require_delegate",
            "cuda_graph",
            "io_binding",
            "spinning",
        ):
            check_flag(name, getattr(self, name))
        if isinstance(self.optimise, bool):
            object.__setattr__(self, "optimise", "all" if self.optimise else "none")
        check_choice("optimise", self.optimise, LEVELS)
        check_choice("execution_mode", self.execution_mode, MODES)
        if self.arena_extend is not None:
            check_choice("arena_extend", self.arena_extend, EXTENDS)
        if not self.provider.endswith("ExecutionProvider"):
            check_choice("provider", self.provider, PROVIDERS)
        if problem := self._contradiction():
            raise UsageError("EDG040", problem, help="docs/running.md lists the options")

    @property
    def provider_name(self) -> str:
        """The execution provider as ONNX Runtime writes it."""
        return PROVIDERS.get(self.provider, self.provider)

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU's own execution provider runs the model."""
        return self.provider_name == PROVIDERS["cpu"]

    @property
    def own_arena(self) -> bool:
        """Whether the CPU's arena is another than ONNX Runtime makes by default."""
        return self.on_cpu and any(
            value is not None for value in (self.arena_extend, self.initial_chunk, self.device_limit)
        )

    def _contradiction(self) -> str | None:
        cuda = self.provider_name == PROVIDERS["cuda"]
        parallel = self.execution_mode == "parallel"
        arena = [name for name in ("arena_extend", "initial_chunk", "device_limit") if getattr(self, name) is not None]
        if self.inter_threads > 1 and not parallel:
            return f"inter_threads={self.inter_threads} does nothing without execution_mode=parallel"
        if self.memory_pattern and parallel:
            return "ONNX Runtime plans no memory_pattern with execution_mode=parallel"
        if arena and not cuda and not self.on_cpu:
            return f"{arena[0]} is an option of the providers cpu and cuda, not of {self.provider}"
        if self.initial_chunk is not None and not self.on_cpu:
            return f"initial_chunk is an option of the provider cpu, not of {self.provider}"
        if arena and self.on_cpu and not self.arena:
            return f"{arena[0]} needs the arena, which arena=False turns off"
        if self.cuda_graph and not cuda:
            return f"cuda_graph is an option of the provider cuda, not of {self.provider}"
        if self.io_binding and not cuda:
            return f"io_binding is an option of the provider cuda, not of {self.provider}"
        if self.require_delegate and self.on_cpu:
            return "require_delegate needs a provider other than cpu"
        return None


def options_from(given: Mapping[str, Any]) -> Options:
    """Options by name.

    Raises:
        UsageError: EDG040 for a name that is none, or a value that does not fit.
    """
    known = [item.name for item in fields(Options)]
    for name in given:
        if name not in known:
            raise UsageError("EDG040", f"ONNX Runtime has no session option '{name}'", why=f"known: {', '.join(known)}")
    return Options(**given)
