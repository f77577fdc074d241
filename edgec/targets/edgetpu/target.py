"""The target ``edgetpu``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

from edgec.targets.base import Artifact, Finding, Lowered, SessionSpec, TargetOptions
from edgec.targets.edgetpu import compiler
from edgec.targets.edgetpu.compiler import CompilerOptions
from edgec.targets.edgetpu.mapping import predict
from edgec.targets.edgetpu.package import decode, is_compiled
from edgec.targets.edgetpu.report import compared, describe, facts
from edgec.targets.rules import define
from edgec.targets.tflite.accelerator import (
    REQUIRE_DEVICE,
    AcceleratorTarget,
    Payload,
    Prediction,
    without_device_option,
)
from edgec.targets.tflite.graph import FlatModel, read
from edgec.targets.tflite.target import TARGET as TFLITE

ALREADY_COMPILED: Final = "EDG427"

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


class EdgeTPU(AcceleratorTarget[CompilerOptions]):
    """int8 LiteRT models compiled for Google's Coral Edge TPU by ``edgetpu_compiler``."""

    name: ClassVar[str] = "edgetpu"
    title: ClassVar[str] = "Coral Edge TPU (int8 .tflite, compiled)"
    suffix: ClassVar[str] = "_edgetpu.tflite"
    sidecars: ClassVar[tuple[str, ...]] = (".tflite", "_edgetpu.log")
    option_names: ClassVar[tuple[str, ...]] = (*compiler.OPTIONS, REQUIRE_DEVICE)
    machine: ClassVar[str] = "the Edge TPU"
    unit: ClassVar[str] = "the Edge TPU"
    float_rule: ClassVar[str] = "EDG410"
    compiled_rule: ClassVar[str] = ALREADY_COMPILED

    @property
    def pipeline(self) -> str:  # type: ignore[override]
        """That of the tflite target; what the Edge TPU lacks is written as operators that it has."""
        lacking = "expand-activations,quantize-between,slice-unequal-splits,split-means,split-resizes"
        return f"{TFLITE.pipeline},{lacking}"

    def lacks_precision(self, precision: str) -> tuple[str, str]:
        """The Edge TPU computes 8 bits only, and a model leaves it once."""
        why = "the Edge TPU computes int8 only, and what follows the first operator of another type runs on the CPU too"
        return why, (
            "--precision int8, with --method auto and more typical samples where it loses too much; edgec bisect shows "
            "where; --target tflite --precision mixed runs on the CPU"
        )

    def asked(self, options: TargetOptions) -> CompilerOptions:
        """The options of ``edgetpu_compiler``."""
        return CompilerOptions.from_mapping(without_device_option(options))

    def predict(self, flat: FlatModel, options: CompilerOptions | None = None) -> Prediction:
        """Where the operators of a file will run, and the parameter memory as ranges."""
        mapping = predict(flat.main)
        return Prediction(mapping.nodes, facts(flat, mapping), tuple(describe(flat, mapping)))

    def is_compiled(self, flat: FlatModel) -> bool:
        """Whether the compiler wrote the file."""
        return is_compiled(flat)

    # the compiler

    def tool_plan(self, options: TargetOptions, stem: str) -> dict[str, Any]:
        """The run of ``edgetpu_compiler`` 16."""
        return compiler.plan([f"{stem}.tflite"], self.asked(options)).to_json()

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Run ``edgetpu_compiler`` on ``STEM.tflite``, check and decode what it made.

        Several files are made with ``segments``: the first is the artifact, the others are sidecars.
        """
        source = folder / f"{stem}.tflite"
        payload: Payload[CompilerOptions] = lowered.payload
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
        place = f"not found (needed to compile): {compiler.TOOL.install}" if program is None else str(program)
        seen = ", ".join(f"{item.kind} {item.path}" for item in found.devices) or "none (needed to run compiled models)"
        return [
            Finding(compiler.TOOL.name, True, place, compiler.TOOL.install),
            Finding("libedgetpu", True, found.version or f"not usable: {found.problem}; {found.help}", found.help),
            Finding("devices", True, seen),
        ]


TARGET = EdgeTPU()
