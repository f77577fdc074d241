"""A .tflite file as LiteRT's compiled model, which has accelerators (GPU, NPU) and XNNPACK's weight cache."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuKernelMode, CpuOptions, HardwareAccelerator
from ai_edge_litert.compiled_model import Options as LiteRTOptions

from edgec.errors import EdgecError, VerificationError
from edgec.ir.types import Array
from edgec.runtime.buffers import Buffers
from edgec.runtime.session import Assignment, Pool, TensorSpec, bound_shape
from edgec.targets.tflite import buffers
from edgec.targets.tflite.delegates import left_behind
from edgec.targets.tflite.options import Options

SIGNATURE = "serving_default"
SPARE = 128
"""Bytes that XNNPACK may read behind a tensor (``XNN_EXTRA_BYTES``)."""
NOT_ALL = "Some ops are not accelerated"
"""What LiteRT says of a model of which the accelerator takes a part."""


class CompiledSession:
    """A compiled model; see :class:`edgec.runtime.session.Session`.

    Several threads may call :meth:`run`; their runs follow each other.
    """

    def __init__(self, model: Any, taken: Assignment | None = None):
        self._model = model
        self._taken = taken
        self._lock = threading.RLock()
        self._bindings: weakref.WeakSet[CompiledBinding] = weakref.WeakSet()
        self._own: CompiledBinding | None = None
        names = list(model.get_signature_list())
        key = SIGNATURE if SIGNATURE in names else names[0]
        self._index = int(model.get_signature_index(key))
        self.inputs = tuple(_spec(name, item) for name, item in model.get_input_tensor_details(key).items())
        self.outputs = tuple(_spec(name, item) for name, item in model.get_output_tensor_details(key).items())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when an input is missing or does not fit, LiteRT reports an error, or the session
                is closed.
        """
        with self._lock:
            self._opened()
            if self._own is None:
                self._own = self.bind()
            for name, place in self._own.inputs.items():
                if name not in feeds:
                    raise VerificationError("EDG303", f"there is no array for the input '{name}'")
                array = np.asarray(feeds[name])
                if array.shape != place.shape or array.dtype != place.dtype:
                    expected, given = f"{place.dtype} {list(place.shape)}", f"{array.dtype} {list(array.shape)}"
                    raise VerificationError("EDG303", f"the input '{name}' is {expected}, not {given}")
                np.copyto(place, array)
            self._own.run()
            return {name: np.array(array) for name, array in self._own.outputs.items()}

    def bind(self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> CompiledBinding:
        """Inputs and outputs at fixed places; see :meth:`edgec.runtime.session.BindableSession.bind`.

        On the CPU the model computes in these places themselves; for an accelerator they are copied to it and back.

        Raises:
            UsageError: EDG005 where a shape does not fit.
            VerificationError: EDG302 where this version of LiteRT offers no host memory, EDG303 where it has no buffers
                for these tensors.
        """
        with self._lock:
            model = self._opened()
            for spec in self.inputs:
                bound_shape(spec, shapes or {})
            try:
                binding = CompiledBinding(model, self._index, self.inputs, self.outputs, pool)
            except (RuntimeError, ValueError) as error:  # such as tensors without elements
                raise VerificationError("EDG303", "LiteRT cannot make buffers", why=_reason(error)) from error
            self._bindings.add(binding)
            return binding

    def assignment(self) -> Assignment | None:
        """What the accelerator took; None on the CPU."""
        return self._taken

    def close(self) -> None:
        """Release the model and its bindings; a run that is under way ends first."""
        with self._lock:
            for binding in list(self._bindings):
                binding.close()
            self._own = None
            if self._model is not None:
                self._model.close()
            self._model = None

    def _opened(self) -> Any:
        if self._model is None:
            raise VerificationError("EDG303", "the session is closed")
        return self._model


class CompiledBinding:
    """Inputs and outputs of a compiled model; see :class:`edgec.runtime.session.Binding`."""

    def __init__(
        self, model: Any, index: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], pool: Pool | None
    ):
        self._model = model
        self._index = index
        self._memory = Buffers(pool)
        self._lock = threading.RLock()
        self._made: list[Any] = []
        self._buffers: tuple[list[Any], list[Any]] = ([], [])
        self.inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}
        self._stale = False
        own = model.create_input_buffers(index), model.create_output_buffers(index)
        self._direct = all(buffers.host_address(buffer) is not None for side in own for buffer in side)
        try:
            for specs, arrays, side, used in (
                (inputs, self.inputs, own[0], self._buffers[0]),
                (outputs, self._outputs, own[1], self._buffers[1]),
            ):
                for spec, buffer in zip(specs, side):
                    shape = tuple(int(dim or 0) for dim in spec.shape)
                    size = int(np.prod(shape, dtype=np.int64)) * spec.dtype.itemsize
                    padding = max(buffers.size_of(buffer) - size, 0) + SPARE
                    arrays[spec.name] = array = self._memory.empty(shape, spec.dtype, padding)
                    array.fill(0)
                    if self._direct:
                        buffer = buffers.over(array, buffer)
                        self._made.append(buffer)
                    used.append(buffer)
        except BaseException:
            self.close()
            raise

    @property
    def outputs(self) -> Mapping[str, Array]:
        """The outputs; those of an accelerator are copied from it if a run came after the last time."""
        if self._stale:
            for buffer, array in zip(self._buffers[1], self._outputs.values()):
                np.copyto(_bytes(array), buffer.read(array.nbytes, np.int8))
            self._stale = False
        return self._outputs

    def run(self) -> None:
        """Compute the outputs; an accelerator may still be at it when this returns, reading them waits for it.

        Raises:
            VerificationError: EDG303 when LiteRT reports an error.
        """
        with self._lock:
            if self._model is None:
                raise VerificationError("EDG303", "the binding is closed")
            try:
                if not self._direct:
                    for buffer, array in zip(self._buffers[0], self.inputs.values()):
                        buffer.write(_bytes(array))
                self._model.run_by_index(self._index, *self._buffers)
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error
            self._stale = not self._direct

    def close(self) -> None:
        """Give the buffers back."""
        with self._lock:
            self._model = None
            while self._made:
                buffers.destroy(self._made.pop())
            self._buffers = ([], [])
            self.inputs, self._outputs, self._stale = {}, {}, False
            self._memory.release()


def _bytes(array: Array) -> Array:
    """The same memory as int8, which LiteRT's own copying takes where it does not know the dtype."""
    return array.reshape(-1).view(np.int8)


def open_compiled(path: Path, options: Options) -> CompiledSession:
    """Compile a .tflite file for the accelerator of the options.

    Raises:
        EdgecError: EDG522 where the accelerator is not available, EDG523 where it does not take the whole model and
            ``require_delegate`` is set.
        VerificationError: EDG302 when LiteRT refuses the file.
    """
    if options.accelerator == "cpu":
        try:
            return CompiledSession(_compile(path, options, HardwareAccelerator.CPU))
        except (RuntimeError, ValueError) as error:
            raise VerificationError("EDG302", "LiteRT cannot load the artifact", why=_reason(error)) from error
    if options.accelerator == "npu":
        problems = missing_npu_libraries(Path(ai_edge_litert.__file__).parent / "vendors")
        if problems:
            raise _unavailable(options, "; ".join(problems))
    kind = {"gpu": HardwareAccelerator.GPU, "npu": HardwareAccelerator.NPU}[options.accelerator]
    whole = Assignment(options.accelerator, None, (), True)
    try:
        return CompiledSession(_compile(path, options, kind), whole)
    except (RuntimeError, ValueError) as error:
        if NOT_ALL not in str(error):
            raise _unavailable(options, _reason(error)) from error
    part = Assignment(options.accelerator, None, (), False)
    if options.require_delegate:
        raise left_behind(part)
    try:
        return CompiledSession(_compile(path, options, kind | HardwareAccelerator.CPU), part)
    except (RuntimeError, ValueError) as error:
        raise _unavailable(options, _reason(error)) from error


def missing_npu_libraries(vendors: Path) -> list[str]:
    """Why none of the vendors' plug-ins that run models on an NPU can be loaded; empty where one can.

    Without this, LiteRT takes a model for an NPU that is not there and runs all of it on the CPU.  The plug-ins that
    only compile are no sign of an NPU: they need none.
    """
    problems = []
    for library in sorted(vendors.glob("*/dispatch/libLiteRt*.so")):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            problems.append(str(error).replace(f"{vendors}{os.sep}", ""))
        else:
            return []
    return problems or ["LiteRT's package holds no vendor's plug-in for an NPU"]


def _compile(path: Path, options: Options, accelerators: HardwareAccelerator) -> Any:
    cpu = CpuOptions(
        num_threads=options.threads,
        kernel_mode=CpuKernelMode.DELEGATE if options.xnnpack else CpuKernelMode.BUILTIN,
        xnnpack_weight_cache_path=options.weight_cache or "",
    )
    wanted = LiteRTOptions(hardware_accelerators=accelerators, cpu_options=cpu)
    return CompiledModel.from_file(str(path), options=wanted)


def _unavailable(options: Options, reason: str) -> EdgecError:
    needs = {
        "gpu": "a Vulkan driver and its loader, libvulkan.so.1",
        "npu": "the libraries of the NPU's vendor, which the plug-ins in LiteRT's package load",
    }
    return EdgecError(
        "EDG522",
        f"LiteRT cannot use the {options.accelerator}",
        why=reason,
        help=f"it needs {needs[options.accelerator]}; or leave --accelerator out",
    )


def _reason(error: Exception) -> str:
    return " ".join(line.strip("└ ").strip() for line in str(error).splitlines())[:2000]


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name, np.dtype(detail["dtype"]), tuple(int(dim) for dim in detail["shape"]))
