"""Inputs and outputs of an ONNX Runtime session at fixed places: in host memory, or on a CUDA device.

On the CPU the runtime works in the given memory itself.  On CUDA the inputs are copied to the same place on the device
before each run, and the outputs stay there until they are asked for; a captured CUDA graph needs exactly that.
Source: ONNX Runtime, "I/O Binding", and "CUDA execution provider" on CUDA graphs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime

from edgec.errors import VerificationError
from edgec.ir.types import Array, DataType
from edgec.runtime.buffers import Buffers
from edgec.runtime.session import Pool, TensorSpec, bound_shape

_graphs = itertools.count(1)
NO_GRAPH: Final = -1
"""The number of the CUDA graph that is neither captured nor replayed."""


class HostBinding:
    """Buffers in host memory; see :class:`edgec.runtime.session.Binding`.

    Where the model leaves an extent open, the shapes of the outputs are found by a run on zeros when the binding is
    made: what it declares of outputs need not hold for every input.
    """

    def __init__(
        self,
        session: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        pool: Pool | None,
        shapes: Mapping[str, Sequence[int]],
    ):
        self._session = session
        self._binding = session.io_binding()
        self._buffers = Buffers(pool)
        self._lock = threading.RLock()
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        try:
            for spec in inputs:
                array = self._buffers.empty(bound_shape(spec, shapes), spec.dtype)
                array.fill(0)
                self.inputs[spec.name] = array
                self._binding.bind_input(spec.name, "cpu", 0, _element(array), array.shape, array.ctypes.data)
            for spec, shape in zip(outputs, self._output_shapes(inputs, outputs)):
                array = self._buffers.empty(shape, spec.dtype)
                self.outputs[spec.name] = array
                self._binding.bind_output(spec.name, "cpu", 0, _element(array), array.shape, array.ctypes.data)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Compute the outputs where they are.

        Raises:
            VerificationError: EDG303 when ONNX Runtime reports an error, such as an output that changed its shape.
        """
        with self._lock:
            execute(self._session, self._binding)

    def close(self) -> None:
        """Give the buffers back; a run that is under way ends first."""
        with self._lock:
            self._session = self._binding = None
            self.inputs, self.outputs = {}, {}
            self._buffers.release()

    def _output_shapes(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[tuple[int, ...]]:
        if all(isinstance(dim, int) for spec in (*inputs, *outputs) for dim in spec.shape):
            return [tuple(dim for dim in spec.shape if isinstance(dim, int)) for spec in outputs]
        for spec in outputs:
            self._binding.bind_output(spec.name, "cpu")
        self.run()
        return [tuple(value.shape()) for value in self._binding.get_outputs()]


class DeviceBinding:
    """Buffers on a device with their counterparts on the host; see :class:`edgec.runtime.session.Binding`.

    Args:
        kind: ONNX Runtime's name for the kind of device.
        device: number of the device.
        graph: capture the kernels of the first run, and replay them in the others.
    """

    def __init__(
        self,
        session: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        pool: Pool | None,
        shapes: Mapping[str, Sequence[int]],
        *,
        kind: str = "cuda",
        device: int = 0,
        graph: bool = False,
    ):
        self._session = session
        self._binding = session.io_binding()
        self._buffers = Buffers(pool)
        self._lock = threading.RLock()
        self._stale = False
        self._graph = next(_graphs) if graph else None
        self._options = None if self._graph is None else _graph_options(self._graph)
        self._device_inputs: dict[str, Any] = {}
        self._device_outputs: dict[str, Any] = {}
        self._outputs: dict[str, Array] = {}
        self.inputs: dict[str, Array] = {}
        make = onnxruntime.OrtValue
        try:
            for spec in inputs:
                array = self._buffers.empty(bound_shape(spec, shapes), spec.dtype)
                array.fill(0)
                self.inputs[spec.name] = array
                self._device_inputs[spec.name] = make.ortvalue_from_numpy(array, kind, device)
                self._binding.bind_ortvalue_input(spec.name, self._device_inputs[spec.name])
            for spec, shape in zip(outputs, self._output_shapes(outputs, kind, device)):
                self._outputs[spec.name] = self._buffers.empty(shape, spec.dtype)
                value = make.ortvalue_from_shape_and_type(list(shape), spec.dtype.type, kind, device)
                self._device_outputs[spec.name] = value
                self._binding.bind_ortvalue_output(spec.name, value)
        except BaseException:
            self.close()
            raise

    @property
    def outputs(self) -> Mapping[str, Array]:
        """The outputs on the host, copied from the device if a run came after the last time."""
        with self._lock:
            if self._stale:
                for name, value in self._device_outputs.items():
                    np.copyto(self._outputs[name], value.numpy())
                self._stale = False
            return self._outputs

    def run(self) -> None:
        """Copy the inputs to the device and compute there; the outputs stay there.

        Raises:
            VerificationError: EDG303 when ONNX Runtime reports an error.
        """
        with self._lock:
            for name, value in self._device_inputs.items():
                value.update_inplace(self.inputs[name])
            execute(self._session, self._binding, self._options)
            self._stale = True

    def close(self) -> None:
        """Give the buffers back, on the host and on the device, and the captured graph where the runtime can."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None and self._graph is not None and hasattr(session, "release_captured_graph"):
                session.release_captured_graph(self._graph)
            self._binding = None
            self._device_inputs, self._device_outputs = {}, {}
            self.inputs, self._outputs = {}, {}
            self._stale = False
            self._buffers.release()

    def _output_shapes(self, outputs: Sequence[TensorSpec], kind: str, device: int) -> list[tuple[int, ...]]:
        for spec in outputs:
            self._binding.bind_output(spec.name, kind, device)
        execute(self._session, self._binding, None if self._graph is None else _graph_options(NO_GRAPH))
        return [tuple(value.shape()) for value in self._binding.get_outputs()]


def execute(session: Any, binding: Any, options: Any = None) -> None:
    """Run a session on what is bound.

    Raises:
        VerificationError: EDG303 when ONNX Runtime reports an error, or the binding is closed.
    """
    if session is None:
        raise VerificationError("EDG303", "the binding is closed")
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        raise VerificationError("EDG303", "ONNX Runtime cannot run the model", why=str(error).strip()[:2000]) from error


def _graph_options(number: int) -> Any:
    """Run options that name the graph to capture and replay."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _element(array: Array) -> Any:
    """The element type as ONNX Runtime wants it: NumPy's own, and ONNX's code where NumPy has none."""
    return array.dtype.type if array.dtype.isbuiltin else int(DataType.of(array.dtype))
