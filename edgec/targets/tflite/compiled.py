"""A .tflite file as LiteRT's compiled model, which has accelerators (GPU, NPU) and XNNPACK's weight cache."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuKernelMode, CpuOptions, HardwareAccelerator
from ai_edge_litert.compiled_model import Options as LiteRTOptions

from edgec.errors import EdgecError, VerificationError
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec
from edgec.targets.tflite.options import Options

SIGNATURE = "serving_default"


class CompiledSession:
    """A compiled model; see :class:`edgec.runtime.session.Session`.

    :meth:`run` may be called by several threads; their runs follow each other.
    """

    def __init__(self, model: Any, options: Options):
        self._model = model
        self._options = options
        self._lock = threading.Lock()
        names = list(model.get_signature_list())
        key = SIGNATURE if SIGNATURE in names else names[0]
        self._index = model.get_signature_index(key)
        self.inputs = tuple(_spec(name, item) for name, item in model.get_input_tensor_details(key).items())
        self.outputs = tuple(_spec(name, item) for name, item in model.get_output_tensor_details(key).items())
        self._buffers = model.create_input_buffers(self._index), model.create_output_buffers(self._index)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            VerificationError: EDG303 when an input is missing or does not fit, LiteRT reports an error, or the session
                is closed.
        """
        with self._lock:
            if self._model is None:
                raise VerificationError("EDG303", "the session is closed")
            inputs, outputs = self._buffers
            try:
                for spec, buffer in zip(self.inputs, inputs):
                    if spec.name not in feeds:
                        raise ValueError(f"there is no array for the input '{spec.name}'")
                    array = np.asarray(feeds[spec.name])
                    if array.shape != spec.shape or array.dtype != spec.dtype:
                        expected = f"{spec.dtype} {list(spec.shape)}"
                        raise ValueError(
                            f"the input '{spec.name}' is {expected}, not {array.dtype} {list(array.shape)}"
                        )
                    buffer.write(array)
                self._model.run_by_index(self._index, inputs, outputs)
                return {
                    spec.name: buffer.read(_count(spec), spec.dtype).reshape([int(dim or 0) for dim in spec.shape])
                    for spec, buffer in zip(self.outputs, outputs)
                }
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error

    def close(self) -> None:
        """Release the model; a run that is under way ends first."""
        with self._lock:
            for buffers in self._buffers:
                for buffer in buffers:
                    buffer.destroy()
            self._buffers = [], []
            if self._model is not None:
                self._model.close()
            self._model = None


def open_compiled(path: Path, options: Options) -> CompiledSession:
    """Compile a .tflite file for the accelerator of the options.

    Raises:
        EdgecError: EDG522 where the accelerator is not available, EDG523 where it does not take the whole model and
            ``require_delegate`` is set.
        VerificationError: EDG302 when LiteRT refuses the file.
    """
    kinds = {"cpu": HardwareAccelerator.CPU, "gpu": HardwareAccelerator.GPU, "npu": HardwareAccelerator.NPU}
    accelerators = kinds[options.accelerator]
    if not options.require_delegate:
        accelerators |= HardwareAccelerator.CPU
    cpu = CpuOptions(
        num_threads=options.threads,
        kernel_mode=CpuKernelMode.DELEGATE if options.xnnpack else CpuKernelMode.BUILTIN,
        xnnpack_weight_cache_path=options.weight_cache or "",
    )
    try:
        model = CompiledModel.from_file(
            str(path), options=LiteRTOptions(hardware_accelerators=accelerators, cpu_options=cpu)
        )
    except (RuntimeError, ValueError) as error:
        raise _refused(options, str(error).strip()) from error
    return CompiledSession(model, options)


def _refused(options: Options, reason: str) -> EdgecError:
    if options.accelerator == "cpu":
        return VerificationError("EDG302", "LiteRT cannot load the artifact", why=reason)
    return EdgecError("EDG522", f"LiteRT cannot compile the model for the {options.accelerator}", why=reason)


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name, np.dtype(detail["dtype"]), tuple(int(dim) for dim in detail["shape"]))


def _count(spec: TensorSpec) -> int:
    return int(np.prod([int(dim or 0) for dim in spec.shape], dtype=np.int64))
