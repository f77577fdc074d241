"""One record of how memory is managed, for sessions, host pools and device pools alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from edgec.errors import UsageError
from edgec.runtime.memory.host import Extend, HostPool

if TYPE_CHECKING:
    from edgec.runtime.memory.cuda import CupyPool
    from edgec.runtime.memory.opencl import OpenCLPool

DEFAULT_CHUNK = 1 << 20
"""Bytes of a host pool's first arena where ``initial_chunk`` says nothing."""


@dataclass(frozen=True)
class MemoryOptions:
    """How memory is managed.

    ============== ================================= ========================================= =======================
    field          ONNX Runtime session              host pool                                 device pool
    ============== ================================= ========================================= =======================
    arena          enable_cpu_mem_arena              keep arenas that hold no array            -
    memory_pattern enable_mem_pattern                -                                         -
    arena_extend   arena_extend_strategy             extend                                    -
    initial_chunk  initial_chunk_size_bytes (CPU)    initial_chunk                             -
    device_limit   max_mem (CPU), gpu_mem_limit      -                                         limit
    host_limit     -                                 limit                                     -
    pinned         -                                 page-locked arenas (CUDA)                 -
    ============== ================================= ========================================= =======================

    Attributes:
        arena: keep memory for the next run or array; False returns it to the system at once.
        memory_pattern: let ONNX Runtime plan one block for all intermediate values.
        arena_extend: "power-of-two" or "same-as-requested"; None leaves it to ONNX Runtime, a host pool doubles.
        initial_chunk: bytes that the first arena takes; None leaves it to the runtime.
        device_limit: most bytes of the device that runs the model, None for no limit.
        host_limit: most bytes for inputs and outputs on the host, None for no limit.
        pinned: inputs and outputs in page-locked memory, which CUDA copies faster.
    """

    arena: bool = True
    memory_pattern: bool = False
    arena_extend: Extend | None = None
    initial_chunk: int | None = None
    device_limit: int | None = None
    host_limit: int | None = None
    pinned: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: EDG712.
        """
        if self.arena_extend not in (None, "power-of-two", "same-as-requested"):
            known = "power-of-two, same-as-requested"
            raise UsageError("EDG712", f"arena_extend has no value {self.arena_extend!r}", why=f"known: {known}")
        for name in ("initial_chunk", "device_limit", "host_limit"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError("EDG712", f"{name} must be a number of bytes, at least 1, not {value!r}")
        for name in ("arena", "memory_pattern", "pinned"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError("EDG712", f"{name} must be true or false, not {getattr(self, name)!r}")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MemoryOptions:
        """The options that :meth:`to_json` wrote.

        Raises:
            UsageError: EDG712 for a name that is none, or a value out of range.
        """
        known = [item.name for item in fields(cls)]
        for name in document:
            if name not in known:
                raise UsageError("EDG712", f"there is no memory option '{name}'", why=f"known: {', '.join(known)}")
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return asdict(self)

    def session_options(self) -> dict[str, Any]:
        """The keyword arguments of :func:`edgec.runtime.onnxruntime.open_session`; it refuses what its provider lacks.

        ``host_limit`` and ``pinned`` are not among them: they belong to the pool that the session's inputs and outputs
        are bound to.
        """
        options: dict[str, Any] = {"arena": self.arena, "memory_pattern": self.memory_pattern}
        for name in ("arena_extend", "initial_chunk", "device_limit"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return options

    def host_pool(self, *, frames: int = 1) -> HostPool:
        """A pool for inputs and outputs on the host.

        Raises:
            EdgecError: EDG013 for pinned memory without CuPy.
        """
        chunk = DEFAULT_CHUNK if self.initial_chunk is None else self.initial_chunk
        extend: Extend = self.arena_extend or "power-of-two"
        if not self.arena:
            chunk, extend = 0, "same-as-requested"
        if self.pinned:
            from edgec.runtime.memory.cuda import pinned_source

            return HostPool(
                self.host_limit,
                initial_chunk=chunk,
                extend=extend,
                keep=self.arena,
                frames=frames,
                source=pinned_source(),
            )
        return HostPool(self.host_limit, initial_chunk=chunk, extend=extend, keep=self.arena, frames=frames)

    def device_pool(self, kind: Literal["cuda", "opencl"], **place: Any) -> CupyPool | OpenCLPool:
        """A pool on the device: ``device_pool("cuda", device=0)``, ``device_pool("opencl", queue=queue)``.

        Raises:
            EdgecError: EDG013 without CuPy or pyopencl, EDG521 without the device.
            UsageError: EDG712 for another kind.
        """
        if kind == "cuda":
            from edgec.runtime.memory.cuda import CupyPool

            return CupyPool(self.device_limit, **place)
        if kind == "opencl":
            from edgec.runtime.memory.opencl import OpenCLPool

            return OpenCLPool(limit=self.device_limit, **place)
        raise UsageError("EDG712", f"there is no device pool '{kind}'", why="known: cuda, opencl")
