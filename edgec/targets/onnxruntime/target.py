"""The target ``onnxruntime``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from edgec.errors import UnsupportedError
from edgec.ir.graph import Model
from edgec.ir.passes import DEFAULT
from edgec.ir.quantization import QuantizationRules
from edgec.runtime.packages import described
from edgec.targets.base import Artifact, Finding, Lowered, Refusal, SessionSpec, Target, TargetOptions
from edgec.targets.knobs import Circumstances, Knobs

INTEGERS: Final = (
    "open it with the options in model.session.json: without session.x64quantprecision = 1 sums of 8-bit products "
    "saturate on x86-64 CPUs that have no VNNI"
)
"""What users of integer kernels have to know."""
HALVES: Final = (
    "on x86-64 CPUs ONNX Runtime computes most float16 operators in float32, with casts between: expect it to be "
    "slower than float32 there (edgec bench tells); float16 saves memory, and time on GPUs"
)
"""What users of float16 have to know."""


@dataclass(frozen=True)
class Versioned:
    """A canonical model and the versions to write it at."""

    model: Model
    opset: int
    ir_version: int


class OnnxRuntimeTarget(Target):
    """The canonical graph after the passes, for ONNX Runtime's CPU execution provider; shapes may stay dynamic.

    It is written at the lowest opset at which it means the same and ONNX Runtime has all kernels (13 at the least), so
    that older runtimes load it too.
    """

    name: ClassVar[str] = "onnxruntime"
    title: ClassVar[str] = "ONNX Runtime (.onnx), CPU execution provider"
    suffix: ClassVar[str] = ".onnx"
    sidecars: ClassVar[tuple[str, ...]] = (".session.json",)
    static_shapes: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("float32", "int8", "float16", "mixed")
    raises: ClassVar[tuple[str, ...]] = ("float32", "float16")
    float16_graph: ClassVar[bool] = True
    # ONNX Runtime 1.31 has neither a kernel for Swish nor the way to inline it.
    pipeline: ClassVar[str] = f"{DEFAULT},expand-functions{{ops=Swish}},eliminate-dead-code"

    def quantization(self, precision: str) -> QuantizationRules | None:
        """ONNX Runtime's rules, see :mod:`edgec.targets.onnxruntime.quantization`."""
        from edgec.targets.onnxruntime.quantization import rules

        return rules(precision)

    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """Nodes without a CPU kernel at any opset that the model can be written at."""
        return self._judge(model, options)[1]

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """The model itself is what is written, under the versions found for it.

        Raises:
            UnsupportedError: EDG231, the first of :meth:`refusals`.
        """
        from edgec.ir.lowest_opset import lowest_ir_version
        from edgec.targets.onnxruntime.options import may_saturate

        opset, refused = self._judge(model, options)
        if refused:
            first = refused[0]
            raise UnsupportedError("EDG231", f"{self.name} cannot hold '{first.node}'", why=first.reason)
        ir_version = lowest_ir_version(model, opset)
        notes = [f"written at opset {opset}, IR version {ir_version}"]
        if may_saturate(model):
            notes.append(INTEGERS)
        elif options.precision == "float16":
            notes.append(HALVES)
        return Lowered(Versioned(model, opset, ir_version), notes)

    def _judge(self, model: Model, options: TargetOptions) -> tuple[int, list[Refusal]]:
        from edgec.targets.onnxruntime.kernels import runnable_opset

        opset, found = runnable_opset(model)
        if options.io_layout != "ONNX":
            found.insert(0, Refusal("", "", (), "EDG231", "it keeps ONNX's own layout", "leave --io-layout out"))
        return opset, found

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Write ``STEM.onnx``, the sidecar ``STEM.session.json`` and, for models over 2 GB, their data file."""
        from edgec.ir.writer import write_model
        from edgec.targets.onnxruntime.options import write_session_options

        main = folder / f"{stem}{self.suffix}"
        versioned: Versioned = lowered.payload
        write_model(versioned.model, main, opset=versioned.opset, ir_version=versioned.ir_version)
        write_session_options(main, model=versioned.model)
        sidecars = tuple(sorted(path for path in folder.iterdir() if path.is_file() and path != main))
        return Artifact(main, sidecars)

    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """All of ONNX Runtime's own optimisations on, as the sidecar says."""
        return SessionSpec("edgec.runtime.onnxruntime:open_session", {"optimise": True, "threads": threads})

    def write_session(self, artifact: Path, session: Mapping[str, Any]) -> None:
        """Rewrite ``STEM.session.json``."""
        from edgec.targets.onnxruntime.options import write_session_options

        write_session_options(artifact, session)

    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Operators with their counts, inputs, outputs, opset and IR version, read from the file."""
        import onnx

        proto = onnx.load(str(artifact), load_external_data=False)
        operators = Counter(
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in proto.graph.node
        )
        return {
            "format": "onnx",
            "opset": max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0),
            "ir_version": proto.ir_version,
            "operators": dict(sorted(operators.items())),
            "inputs": [_value(item) for item in proto.graph.input],
            "outputs": [_value(item) for item in proto.graph.output],
        }

    def knobs(self, circumstances: Circumstances) -> Knobs:
        """See :mod:`edgec.targets.onnxruntime.knobs`."""
        from edgec.targets.onnxruntime.knobs import knobs

        return knobs(circumstances)

    def doctor(self) -> list[Finding]:
        """Whether ONNX Runtime is there and runs a model."""
        found = described("onnxruntime")
        if found is None:
            return [Finding("onnxruntime", False, "not installed", "pip install onnxruntime")]
        try:
            from edgec.targets.onnxruntime.kernels import probe

            return [Finding("onnxruntime", True, f"{found}, {probe()}")]
        except (ImportError, RuntimeError) as error:
            return [Finding("onnxruntime", False, f"{found}: {error}", "pip install --force-reinstall onnxruntime")]


def _value(item: Any) -> dict[str, Any]:
    from edgec.ir.types import DataType

    tensor = item.type.tensor_type
    known = item.type.HasField("tensor_type")
    shape = None
    if known and tensor.HasField("shape"):
        shape = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim]
    return {"name": item.name, "dtype": DataType(tensor.elem_type).label if known else None, "shape": shape}


TARGET = OnnxRuntimeTarget()
