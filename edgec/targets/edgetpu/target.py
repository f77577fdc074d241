"""The target ``edgetpu``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from edgec.errors import EXIT_UNSUPPORTED, UnsupportedError, UsageError
from edgec.ir.graph import Model
from edgec.ir.quantization import QuantizationRules
from edgec.targets.base import (
    Artifact,
    Finding,
    Lowered,
    LoweredSupport,
    NodeSupport,
    Placement,
    Refusal,
    SessionSpec,
    Target,
    TargetOptions,
    Verdict,
)
from edgec.targets.edgetpu import compiler
from edgec.targets.edgetpu.compiler import CompilerOptions
from edgec.targets.edgetpu.mapping import Mapping, predict
from edgec.targets.edgetpu.package import decode, is_compiled
from edgec.targets.edgetpu.report import compared, describe, facts
from edgec.targets.rules import define
from edgec.targets.tflite.graph import FlatModel, read
from edgec.targets.tflite.program import Program
from edgec.targets.tflite.target import TARGET as TFLITE

NOT_QUANTIZED: Final = "EDG410"
ALREADY_COMPILED: Final = "EDG427"
REQUIRE_DEVICE: Final = "require-device"
QUANTIZING: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
HOW_TO_QUANTIZE: Final = "give calibration data: edgec convert MODEL --target edgetpu --calibration DATA"

define(
    ALREADY_COMPILED,
    target="edgetpu",
    title="model that is compiled already",
    documentation="""
    The .tflite file came out of the Edge TPU compiler. It is run as it is; to compile it again, the int8 .tflite that
    it was made from is needed.

    Source: the custom operator edgetpu-custom-op, which only the compiler writes.
    """,
)


@dataclass(frozen=True)
class Payload:
    """What goes into the compiler: a program, or a file made elsewhere; and how the compiler is asked."""

    program: Program | None
    file: Path | None
    options: CompilerOptions


class EdgeTPU(Target):
    """int8 LiteRT models compiled for Google's Coral Edge TPU by ``edgetpu_compiler``."""

    name: ClassVar[str] = "edgetpu"
    title: ClassVar[str] = "Coral Edge TPU (int8 .tflite, compiled)"
    suffix: ClassVar[str] = "_edgetpu.tflite"
    sidecars: ClassVar[tuple[str, ...]] = (".tflite", "_edgetpu.log")
    static_shapes: ClassVar[bool] = True
    io_layout: ClassVar[str] = "NHWC"
    precisions: ClassVar[tuple[str, ...]] = ("int8",)
    io_dtype: ClassVar[str] = "int8"
    option_names: ClassVar[tuple[str, ...]] = (*compiler.OPTIONS, REQUIRE_DEVICE)

    @property
    def pipeline(self) -> str:  # type: ignore[override]
        """That of the tflite target; what the Edge TPU lacks is written as operators that it has."""
        return f"{TFLITE.pipeline},expand-activations,slice-unequal-splits,split-means,split-resizes"

    def quantization(self, precision: str) -> QuantizationRules | None:
        """LiteRT's int8 rules."""
        return TFLITE.quantization(precision)

    # from the IR

    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """What the LiteRT lowering refuses, and models without quantization."""
        compiler_options(options)
        if not any(node.op in QUANTIZING or node.op.startswith("QLinear") for node in model.graph.nodes):
            return [
                Refusal(
                    "", "", (), NOT_QUANTIZED, "the Edge TPU computes int8 only, the model is float", HOW_TO_QUANTIZE
                )
            ]
        found = TFLITE.refusals(model, options)
        if found or not options.extra.get(REQUIRE_DEVICE):
            return found
        return [refusal for _, refusal in self.placement(model, options).away]

    def placement(self, model: Model, options: TargetOptions) -> Placement:
        """Nodes that will, or may, run on the CPU; parameter memory as ranges."""
        program: Program = TFLITE.lower(model, options).payload
        flat = _flat(program)
        mapping = predict(flat.main)
        found: list[tuple[Verdict, Refusal]] = []
        for node in mapping.nodes:
            if node.verdict is not Verdict.OK:
                sources = program.ops[node.index].sources
                found.append((node.verdict, _as_refusal(node, sources)))
        return Placement(tuple(found), facts(flat, mapping), tuple(describe(flat, mapping)))

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """The int8 LiteRT program for the compiler.

        Raises:
            UnsupportedError: EDG410 when the model is not quantized or nothing of it would run on the Edge TPU; else
                what the LiteRT lowering refuses.
        """
        refused = self.refusals(model, options)
        if refused:
            raise _refuse(refused[0])
        lowered = TFLITE.lower(model, options)
        flat = _flat(lowered.payload)
        mapping = predict(flat.main)
        _require_mapped(mapping)
        lowered.payload = Payload(lowered.payload, None, compiler_options(options))
        lowered.notes.extend(describe(flat, mapping))
        return lowered

    # from a .tflite made elsewhere

    def takes(self, path: Path) -> bool:
        """Whether it is a LiteRT flatbuffer."""
        try:
            with path.open("rb") as file:
                head = file.read(8)
        except OSError:
            return False
        return head[4:8] == b"TFL3"

    def import_lowered(self, path: Path, options: TargetOptions) -> Lowered:
        """An int8 .tflite, byte for byte.

        Raises:
            ModelError: EDG109 or EDG114 for a damaged file.
            UnsupportedError: EDG427 for a compiled file, the rule of its first operator where nothing would run on the
                Edge TPU; with ``require-device`` that of the first operator that would not.
        """
        chosen = compiler_options(options)
        flat = read(path)
        _require_source(flat, path)
        mapping = predict(flat.main)
        _require_mapped(mapping)
        if options.extra.get(REQUIRE_DEVICE):
            away = [node for node in mapping.nodes if node.verdict is not Verdict.OK]
            if away:
                raise _refuse(_as_refusal(away[0], (away[0].name,)))
        return Lowered(Payload(None, path, chosen), describe(flat, mapping))

    def support_lowered(self, path: Path) -> LoweredSupport:
        """The predicted place of every operator, index for index, and the parameter memory as ranges."""
        flat = read(path)
        general = []
        if is_compiled(flat):
            general.append(Refusal("", "", (), ALREADY_COMPILED, "the file is compiled already", "give its source"))
        mapping = predict(flat.main)
        return LoweredSupport(mapping.nodes, tuple(general), facts(flat, mapping), tuple(describe(flat, mapping)))

    # the compiler

    def write_lowered(self, lowered: Lowered, folder: Path, stem: str) -> Path:
        """Write ``STEM.tflite``."""
        payload: Payload = lowered.payload
        target = folder / f"{stem}.tflite"
        if payload.program is not None:
            from edgec.targets.tflite.writer import write

            write(payload.program, target, "edgec")
        else:
            assert payload.file is not None
            import shutil

            shutil.copyfile(payload.file, target)
        return target

    def tool_plan(self, options: TargetOptions, stem: str) -> dict[str, Any]:
        """The run of ``edgetpu_compiler`` 16."""
        return compiler.plan([f"{stem}.tflite"], compiler_options(options)).to_json()

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Run ``edgetpu_compiler`` on ``STEM.tflite``, check and decode what it made.

        Several files are made with ``segments``: the first is the artifact, the others are sidecars.
        """
        source = folder / f"{stem}.tflite"
        payload: Payload = lowered.payload
        result = compiler.compile_models([source], folder, payload.options)
        main, *others = result.run.outputs
        flat = read(source)
        tool = {
            "name": compiler.TOOL.name,
            "version": result.version,
            "command": compiler.plan([source.name], payload.options, result.transcript.major).command,
            "models": [report.to_json() for report in result.transcript.models],
            "warnings": list(result.transcript.warnings),
        }
        notes = [f"{compiler.TOOL.name}: {line}" for line in result.transcript.warnings]
        if result.left is not None:
            notes.extend(compared(flat, result.left))
        return Artifact(main, (*others, source, *result.run.extras), {"toolchain": tool}, tuple(notes))

    # the artifact

    def execute_lowered(self, file: Path, threads: int = 1) -> SessionSpec:
        """LiteRT's CPU interpreter."""
        return TFLITE.session(file, threads)

    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """LiteRT with the Edge TPU's delegate; needs a device."""
        return SessionSpec("edgec.targets.edgetpu.session:open_session", {"threads": threads})

    def runs_here(self) -> bool:
        """Whether an Edge TPU answers."""
        from edgec.targets.edgetpu.devices import probe

        return bool(probe().devices)

    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Operators left, inputs, outputs, and the decoded program: runtime version, chip, parameter bytes."""
        return {**TFLITE.inspect(artifact), "edgetpu": decode(artifact).to_json()}

    def doctor(self) -> list[Finding]:
        """The compiler, the runtime library and the devices; none of them is needed to check a model."""
        from edgec.targets.edgetpu.devices import probe

        program = compiler.TOOL.find()
        found = probe()
        place = "not found (needed to compile)" if program is None else str(program)
        seen = ", ".join(f"{item.kind} {item.path}" for item in found.devices) or "none (needed to run compiled models)"
        return [
            Finding(compiler.TOOL.name, True, place, compiler.TOOL.install),
            Finding("libedgetpu", True, found.version or f"not usable: {found.problem}", found.help),
            Finding("devices", True, seen),
        ]


def compiler_options(options: TargetOptions) -> CompilerOptions:
    """The options of this target.

    Raises:
        UsageError: EDG001.
    """
    given = {key: value for key, value in options.extra.items() if key != REQUIRE_DEVICE}
    return CompilerOptions.from_mapping(given)


def _flat(program: Program) -> FlatModel:
    """The program as the compiler will read it."""
    from edgec.targets.tflite.writer import write

    descriptor, name = tempfile.mkstemp(suffix=".tflite")
    os.close(descriptor)
    file = Path(name)
    try:
        write(program, file, "edgec")
        return read(file)
    finally:
        file.unlink()


def _require_source(flat: FlatModel, path: Path) -> None:
    if is_compiled(flat):
        raise UnsupportedError(
            ALREADY_COMPILED,
            f"'{path.name}' is compiled for the Edge TPU already",
            where=str(path),
            help="give the int8 .tflite that it was made from",
            exit=EXIT_UNSUPPORTED,
        )


def _require_mapped(mapping: Mapping) -> None:
    """Refuse a model of which nothing would run on the Edge TPU."""
    if not mapping.nodes:
        raise UsageError("EDG001", "the model has no operators")
    if not mapping.positions(Verdict.OK, Verdict.UNCERTAIN):
        first = next((node for node in mapping.nodes if node.rule == NOT_QUANTIZED), mapping.nodes[0])
        raise _refuse(_as_refusal(first, (first.name,)), "no operator of the model would run on the Edge TPU")


def _as_refusal(node: NodeSupport, sources: Sequence[str]) -> Refusal:
    return Refusal(node.name, node.operator, tuple(sources), node.rule, node.reason, node.help)


def _refuse(refusal: Refusal, message: str = "") -> UnsupportedError:
    subject = f"'{refusal.node}' ({refusal.operator})" if refusal.operator else "the model"
    return UnsupportedError(
        refusal.rule,
        message or f"the Edge TPU cannot hold {subject}",
        where=f"first: {subject}" if message else None,
        why=refusal.reason,
        help=refusal.help or HOW_TO_QUANTIZE,
        details={"node": refusal.node, "operator": refusal.operator, "rule": refusal.rule},
        exit=EXIT_UNSUPPORTED,
    )


TARGET = EdgeTPU()
