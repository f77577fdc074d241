"""The LiteRT (TensorFlow Lite) target: a flatbuffer written directly, no TensorFlow involved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import EXIT_UNSUPPORTED, UnsupportedError
from edgec.ir.graph import Model
from edgec.ir.quantization import QuantizationRules
from edgec.targets.base import Artifact, Finding, Lowered, Refusal, SessionSpec, Target, TargetOptions
from edgec.targets.knobs import Circumstances, Knobs

if TYPE_CHECKING:
    from edgec.targets.tflite.lowering import Lowerer


class TFLite(Target):
    """LiteRT flatbuffers for the CPU (XNNPACK) and for everything that starts from them."""

    name = "tflite"
    title = "LiteRT (TensorFlow Lite)"
    suffix = ".tflite"
    static_shapes = True
    precisions = ("float32", "int8", "int16x8", "float16", "dynamic-int8", "mixed")
    raises = ("float32", "float16", "int16x8")

    def quantization(self, precision: str) -> QuantizationRules | None:
        """LiteRT's rules, see :mod:`edgec.targets.tflite.quantization`."""
        from edgec.targets.tflite.quantization import rules

        return rules(precision)

    @property
    def pipeline(self) -> str:  # type: ignore[override]
        """The default passes; operators without a row in the lowering table are expanded into their ONNX bodies."""
        from edgec.ir.passes import DEFAULT

        expand = f"expand-functions{{ops={'+'.join(expanded_operators())}}}"
        standard = "rewrite-ml,select-branches,fuse-layernorm,fuse-upsample"
        quantized = "expand-qlinear,wrap-moves"
        return f"{DEFAULT},{standard},{expand},eliminate-identity,merge-reshapes,{quantized},eliminate-dead-code"

    def refusals(self, model: Model, options: TargetOptions, integers_only: bool = False) -> list[Refusal]:
        """Every node that :meth:`lower` would refuse: the same walk, without writing."""
        lowerer = _lowerer(model, options, integers_only)
        lowerer.run()
        return lowerer.refusals

    def lower(self, model: Model, options: TargetOptions, integers_only: bool = False) -> Lowered:
        """The program of a canonical model, transposes minimised, activations fused.

        A model that arrived quantized and is asked for in no other precision gets ONNX's integers, see
        :mod:`edgec.targets.tflite.integer.exactness`.

        Args:
            integers_only: use LiteRT's integer kernels also where they round otherwise, and no operator that the
                compilers of accelerators lack where another will do.

        Raises:
            UnsupportedError: the first of :meth:`refusals`.
        """
        from edgec.ir.passes.quantize_between import inner_scale_notes
        from edgec.targets.tflite.integer.lowering import NO_FORM
        from edgec.targets.tflite.peephole import tidy
        from edgec.targets.tflite.weights import store_float16, store_int8

        lowerer = _lowerer(model, options, integers_only)
        program = lowerer.run()
        if lowerer.refusals:
            first = lowerer.refusals[0]
            raise UnsupportedError(
                first.rule,
                f"{self.name} cannot hold '{first.node}' ({first.operator})",
                why=first.reason,
                help=first.help or None,
                exit=EXIT_UNSUPPORTED,
            )
        tidy(program)
        notes = [*inner_scale_notes(model), *lowerer.notes, *_exactness_notes(lowerer.integers.avoided)]
        if options.precision == "mixed":  # floats between integers are what was chosen, and listed as such
            notes = [note for note in notes if not note.endswith(NO_FORM)]
        if options.precision == "float16" or (options.precision == "mixed" and options.raise_to == "float16"):
            notes += store_float16(program)
        elif options.precision == "dynamic-int8":
            notes += store_int8(program)
        return Lowered(program, notes, dict(lowerer.layouts))

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Write ``stem.tflite``."""
        from edgec.targets.tflite.writer import write

        path = folder / f"{stem}{self.suffix}"
        write(lowered.payload, path, "edgec")
        return Artifact(path)

    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """LiteRT's CPU interpreter."""
        return SessionSpec("edgec.targets.tflite.session:open_session", {"threads": threads})

    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Operators, tensors and sizes, read from the flatbuffer."""
        from edgec.targets.tflite.facts import inspect

        return inspect(artifact)

    def knobs(self, circumstances: Circumstances) -> Knobs:
        """See :mod:`edgec.targets.tflite.knobs`."""
        from edgec.targets.tflite.knobs import knobs

        return knobs(circumstances)

    def doctor(self) -> list[Finding]:
        """Whether the LiteRT runtime is installed."""
        from importlib import metadata

        try:
            version = metadata.version("ai-edge-litert")
        except metadata.PackageNotFoundError:
            return [Finding("ai-edge-litert", False, "not installed", "pip install ai-edge-litert")]
        return [Finding("ai-edge-litert", True, version)]


def _lowerer(model: Model, options: TargetOptions, integers_only: bool) -> Lowerer:
    """The walk for LiteRT on the CPU, or with ``integers_only`` for the compiler of an accelerator."""
    from edgec.targets.tflite.lowering import Lowerer

    exact = _is_exact(model, options, integers_only)
    return Lowerer(model.graph, options.io_layout, exact, depth_to_space=not integers_only)


def _is_exact(model: Model, options: TargetOptions, integers_only: bool) -> bool:
    """Whether integer kernels that round otherwise than the model are avoided: unless integers were asked for."""
    from edgec.targets.tflite.integer.exactness import means_real_numbers

    return options.precision == "float32" and not integers_only and means_real_numbers(model)


def _exactness_notes(avoided: Mapping[str, int]) -> list[str]:
    """What is computed in float32 although LiteRT has integer kernels for it."""
    if not avoided:
        return []
    found = ", ".join(f"{count} {op}" for op, count in sorted(avoided.items()))
    return [
        f"computed in float32 between DEQUANTIZE and QUANTIZE, because LiteRT's integer kernels round otherwise than "
        f"the model: {found} (--precision int8 keeps them on integers)"
    ]


@lru_cache(maxsize=1)
def expanded_operators() -> tuple[str, ...]:
    """The standard's function operators that the lowering table has no row for."""
    import onnx

    from edgec.ir.passes.expand_functions import NEVER, is_function
    from edgec.targets.tflite.table import load_table

    table = load_table()
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    return tuple(sorted(op for op in names if op not in table and op not in NEVER and is_function(op)))


TARGET = TFLite()
