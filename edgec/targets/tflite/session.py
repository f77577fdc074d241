"""A .tflite file in the LiteRT interpreter as a session.

Names and their meaning come from the signature ``serving_default`` that edgec writes (or the only signature of a file
made elsewhere), the order from the subgraph.  Files without a signature go by tensor names.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgec.errors import EdgecError, UsageError, VerificationError
from edgec.ir.types import Array
from edgec.runtime.session import Assignment, Pool, TensorSpec, bound_shape
from edgec.runtime.specialised import SpecialisedSession
from edgec.targets.tflite.delegates import assignment, left_behind, load
from edgec.targets.tflite.greeting import let_greet
from edgec.targets.tflite.options import Options, options_from
from edgec.targets.tflite.views import InterpreterBinding

if TYPE_CHECKING:
    from edgec.targets.tflite.compiled import CompiledSession

SIGNATURE = "serving_default"


class LiteRTSession:
    """A loaded artifact; see :class:`edgec.runtime.session.Session`.

    Several threads may call :meth:`run`; their runs follow each other.
    """

    def __init__(self, interpreter: Any, taken: Assignment | None = None, *, xnnpack: bool = False):
        self._interpreter = interpreter
        self._taken = taken
        self._xnnpack = xnnpack
        self._lock = threading.RLock()
        self._bindings: weakref.WeakSet[InterpreterBinding] = weakref.WeakSet()
        signatures = interpreter._get_full_signature_list()
        signature = signatures.get(SIGNATURE) or (next(iter(signatures.values())) if len(signatures) == 1 else {})
        self._inputs = _named(interpreter.get_input_details(), signature.get("inputs", {}))
        self._outputs = _named(interpreter.get_output_details(), signature.get("outputs", {}))
        self._shapes = {name: tuple(int(dim) for dim in detail["shape"]) for name, detail in self._inputs}
        self.inputs = tuple(_spec(name, detail) for name, detail in self._inputs)
        self.outputs = tuple(_spec(name, detail) for name, detail in self._outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; inputs of another shape than the last time are resized where the artifact allows it.

        Raises:
            VerificationError: EDG303 when an input is missing or does not fit, LiteRT reports an error, or the session
                is closed.
        """
        with self._lock:
            interpreter = self._opened()
            try:
                for spec in self.inputs:
                    if spec.name not in feeds:
                        raise ValueError(f"there is no array for the input '{spec.name}'")
                self._resize({name: tuple(feeds[name].shape) for name, _ in self._inputs})
                for name, detail in self._inputs:
                    if feeds[name].size:
                        interpreter.set_tensor(
                            detail["index"], np.ascontiguousarray(feeds[name]).reshape(feeds[name].shape)
                        )
                interpreter.invoke()
                return {name: self._read(detail["index"]) for name, detail in self._outputs}
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error

    def bind(self, pool: Pool | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> InterpreterBinding:
        """The interpreter's own input and output tensors, without a copy; there is one set of them.

        Raises:
            UsageError: EDG040 for a pool: LiteRT's Python interpreter takes no memory from outside, its compiled model
                does (``api=compiled``).  EDG005 where a shape is missing or does not fit.
            VerificationError: EDG303 when the model cannot be run on zeros, which settles where its outputs lie.
        """
        if pool is not None:
            raise UsageError(
                "EDG040",
                "LiteRT's interpreter computes in its own memory and takes none from a pool",
                help="bind without a pool, or open the artifact with api=compiled",
            )
        with self._lock:
            interpreter = self._opened()
            try:
                self._resize({spec.name: bound_shape(spec, shapes or {}) for spec in self.inputs})
                binding = InterpreterBinding(interpreter, self._lock, self._inputs, self._outputs)
            except (RuntimeError, ValueError) as error:
                raise VerificationError("EDG303", "LiteRT cannot run the artifact", why=str(error).strip()) from error
            self._bindings.add(binding)
            return binding

    def assignment(self) -> Assignment | None:
        """Which operators the delegates took (external ones, else XNNPACK); None without any."""
        with self._lock:
            if self._taken is None and self._xnnpack:
                self._taken = assignment("XNNPACK", self._opened()._get_ops_details())
            return self._taken

    def _opened(self) -> Any:
        if self._interpreter is None:
            raise VerificationError("EDG303", "the session is closed")
        return self._interpreter

    def _resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        resized = False
        for spec, (name, detail) in zip(self.inputs, self._inputs):
            shape = shapes[name]
            if shape == self._shapes[name]:
                continue
            if len(shape) != len(spec.shape) or any(d is not None and d != s for d, s in zip(spec.shape, shape)):
                raise ValueError(f"the input '{name}' has shape {list(spec.shape)}, not {list(shape)}")
            if any(not binding.closed for binding in self._bindings):
                raise ValueError(f"the input '{name}' cannot change its shape while a binding looks into it")
            self._interpreter.resize_tensor_input(detail["index"], shape)
            self._shapes[name] = shape
            resized = True
        if resized:
            self._interpreter.allocate_tensors()

    def _read(self, index: int) -> Array:
        """A copy of an output; LiteRT's Python interface refuses tensors without elements, so those are made."""
        try:
            copied: Array = self._interpreter.get_tensor(index)
            return copied
        except ValueError:
            for detail in self._interpreter.get_output_details():
                if detail["index"] == index and 0 in detail["shape"]:
                    return np.zeros([int(dim) for dim in detail["shape"]], detail["dtype"])
            raise

    def rename(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Let inputs and outputs go by other names, given in the order of the graph.

        Raises:
            VerificationError: EDG302 when there are more or fewer of them.
        """
        if len(inputs) != len(self._inputs) or len(outputs) != len(self._outputs):
            counts = f"{len(self._inputs)} inputs and {len(self._outputs)} outputs"
            raise VerificationError("EDG302", "LiteRT sees another interface", why=f"the file has {counts}")
        self._shapes = {new: self._shapes[old] for new, (old, _) in zip(inputs, self._inputs)}
        self._inputs = [(new, detail) for new, (_, detail) in zip(inputs, self._inputs)]
        self._outputs = [(new, detail) for new, (_, detail) in zip(outputs, self._outputs)]
        self.inputs = tuple(replace(spec, name=new) for new, spec in zip(inputs, self.inputs))
        self.outputs = tuple(replace(spec, name=new) for new, spec in zip(outputs, self.outputs))

    def close(self) -> None:
        """Release the model and its bindings; a run that is under way ends first."""
        with self._lock:
            for binding in list(self._bindings):
                binding.close()
            self._interpreter = None


def open_session(path: str | Path, **options: Any) -> LiteRTSession | CompiledSession | SpecialisedSession:
    """Load a .tflite file; in the interpreter on the CPU with XNNPACK where the options do not differ.

    Args:
        options: see :class:`edgec.targets.tflite.options.Options`.

    Raises:
        UsageError: EDG040 for an option that is none, or contradicts another.
        EdgecError: EDG520 for a delegate that cannot be loaded, EDG522 for an accelerator that is not available, EDG523
            where ``require_delegate`` is set and an operator would stay on the CPU.
        VerificationError: EDG302 when LiteRT refuses the file.
    """
    wanted = options_from(options)
    if wanted.api == "compiled":
        try:
            from edgec.targets.tflite.compiled import open_compiled
        except ImportError as error:
            raise EdgecError(
                "EDG522",
                "this version of LiteRT has no compiled model with options",
                why=str(error),
                help="pip install --upgrade 'ai-edge-litert>=2.3', or leave out what needs it",
            ) from error
        return open_compiled(Path(path), wanted)
    session = open_interpreter(path, wanted)
    if not wanted.specialise:
        return session
    inputs, outputs = session.inputs, session.outputs
    session.close()
    if all(dim is not None for spec in inputs for dim in spec.shape):
        raise UsageError("EDG040", "specialise does nothing: every input of the model has a fixed shape")
    return SpecialisedSession(inputs, outputs, lambda _: open_interpreter(path, wanted), wanted.specialise)


def open_interpreter(path: str | Path, options: Options) -> LiteRTSession:
    """The same in the interpreter only, for all shapes."""
    return _open(options, model_path=str(path))


def open_content(content: bytes, **options: Any) -> LiteRTSession:
    """The same for a flatbuffer in memory."""
    wanted = options_from(options)
    if wanted.api != "interpreter":
        raise UsageError("EDG040", "a model in memory is run by the interpreter only")
    return _open(wanted, model_content=content)


def _open(options: Options, **model: Any) -> LiteRTSession:
    if options.xnnpack:
        let_greet()
    resolver = OpResolverType.AUTO if options.xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    delegates = [load(item) for item in options.delegates]
    try:
        interpreter = Interpreter(
            num_threads=options.threads,
            experimental_op_resolver_type=resolver,
            experimental_delegates=delegates or None,
            **model,
        )
        before = interpreter._get_ops_details() if delegates else []
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise VerificationError("EDG302", "LiteRT cannot load the artifact", why=str(error).strip()) from error
    taken = None
    if delegates:
        taken = assignment(", ".join(Path(item.library).name for item in options.delegates), before)
    session = LiteRTSession(interpreter, taken, xnnpack=options.xnnpack)
    if options.require_delegate:
        found = session.assignment()
        if found is not None and not found.complete:
            raise left_behind(found)
    return session


def _named(details: list[dict[str, Any]], names: Mapping[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Details in the order of the subgraph under the names of the signature (one tensor may have several names)."""
    by_index: dict[int, list[str]] = {}
    for name, index in names.items():
        by_index.setdefault(int(index), []).append(name)
    found = []
    for detail in details:
        candidates = by_index.get(int(detail["index"]))
        found.append((candidates.pop(0) if candidates else detail["name"], detail))
    return found


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    declared = [int(dim) for dim in detail["shape_signature"]]
    if len(declared) != len(detail["shape"]):
        declared = [int(dim) for dim in detail["shape"]]
    dtype = np.dtype(object) if detail["dtype"] in (str, np.str_, np.bytes_) else np.dtype(detail["dtype"])
    return TensorSpec(name, dtype, tuple(None if dim < 0 else dim for dim in declared))
