"""The target ``ethosu``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from edgec.errors import EdgecError
from edgec.ir.quantization import QuantizationRules
from edgec.targets.base import Artifact, Finding, Lowered, SessionSpec, TargetOptions, Verdict
from edgec.targets.ethosu import compiler
from edgec.targets.ethosu.hardware import FAMILIES
from edgec.targets.ethosu.mapping import predict, shortened
from edgec.targets.ethosu.options import OPTIONS, VelaOptions
from edgec.targets.ethosu.package import decode, is_compiled
from edgec.targets.ethosu.rules import COMPILED
from edgec.targets.knobs import Circumstances, Knobs
from edgec.targets.tflite.accelerator import (
    REQUIRE_DEVICE,
    AcceleratorTarget,
    Payload,
    Prediction,
    without_device_option,
)
from edgec.targets.tflite.graph import FlatModel, read
from edgec.targets.tflite.target import TARGET as TFLITE

WIDE_EXPANDED: Final = ("HardSwish",)
"""Activations that have a kernel for 8 bits only."""
NAMED: Final = 4
"""How many operators a note names."""


class EthosU(AcceleratorTarget[VelaOptions]):
    """int8 and int16x8 LiteRT models compiled for Arm's Ethos-U55, U65 and U85 by Vela."""

    name: ClassVar[str] = "ethosu"
    title: ClassVar[str] = "Arm Ethos-U (int8 or int16x8 .tflite, compiled by Vela)"
    suffix: ClassVar[str] = "_vela.tflite"
    precisions: ClassVar[tuple[str, ...]] = ("int8", "int16x8", "mixed")
    raises: ClassVar[tuple[str, ...]] = ("int16x8",)
    option_names: ClassVar[tuple[str, ...]] = (*OPTIONS, REQUIRE_DEVICE)
    machine: ClassVar[str] = "the Ethos-U"
    unit: ClassVar[str] = "the NPU"
    float_rule: ClassVar[str] = "EDG431"
    compiled_rule: ClassVar[str] = COMPILED

    @property
    def pipeline(self) -> str:  # type: ignore[override]
        """That of the tflite target; what LiteRT has no operator for is written as operators that the NPU has."""
        return f"{TFLITE.pipeline},expand-activations{{ops=HardSigmoid}},quantize-between"

    def quantization(self, precision: str) -> QuantizationRules | None:
        """LiteRT's rules; what has no int16 kernel there is written as operators that have one."""
        rules = super().quantization(precision)
        return replace(rules, expanded=WIDE_EXPANDED) if rules is not None and precision == "int16x8" else rules

    def lacks_precision(self, precision: str) -> tuple[str, str]:
        """The NPU computes no floats."""
        why = "the NPU computes integers: float operators would run on the CPU"
        return why, "--precision int16x8, or mixed: int8 with activations of 16 bits where 8 lose too much"

    def asked(self, options: TargetOptions) -> VelaOptions:
        """Vela's options."""
        return VelaOptions.from_mapping(without_device_option(options))

    def predict(self, flat: FlatModel, options: VelaOptions | None = None) -> Prediction:
        """Where the operators of a file will run on the accelerator that was asked for, else on any."""
        found = predict(flat.main, FAMILIES if options is None else [options.family])
        return Prediction(found.nodes, found.facts(), tuple(found.describe()))

    def is_compiled(self, flat: FlatModel) -> bool:
        """Whether Vela wrote the file."""
        return is_compiled(flat)

    def introduction(self, options: VelaOptions) -> list[str]:
        """For which NPU, system and memories."""
        return [f"for {options.accelerator} in {options.system_configuration} with {options.memory_mode}"]

    # Vela

    def tool_plan(self, options: TargetOptions, stem: str) -> dict[str, Any]:
        """The run of Vela."""
        return compiler.plan(f"{stem}.tflite", self.asked(options)).to_json()

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Run Vela on ``STEM.tflite``, check and decode what it made; its table of estimates is a sidecar."""
        source = folder / f"{stem}.tflite"
        payload: Payload[VelaOptions] = lowered.payload
        result = compiler.compile_model(source, folder, payload.options)
        main, table = result.run.outputs
        tool = {
            "name": compiler.TOOL.name,
            "version": result.version,
            "command": compiler.plan(source.name, payload.options).command,
            **result.to_json(),
        }
        notes = [_estimate(result), *_left(read(source), result.left, payload.options)]
        notes.extend(f"{compiler.TOOL.name}: {line}" for line in result.transcript.warnings)
        return Artifact(main, (source, table), {"toolchain": tool}, tuple(notes))

    # the artifact

    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """A board runs it, this machine does not: opening it is EDG521."""
        return SessionSpec("edgec.targets.ethosu.session:open_session", {"threads": threads})

    def runs_here(self) -> bool:
        """Never."""
        return False

    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Operators left, inputs, outputs, and the decoded command streams: NPU, bytes of constants and arenas."""
        return {**TFLITE.inspect(artifact), "ethosu": decode(artifact).to_json()}

    def knobs(self, circumstances: Circumstances) -> Knobs:
        """See :mod:`edgec.targets.ethosu.knobs`."""
        from edgec.targets.ethosu.knobs import knobs

        return knobs(circumstances)

    def doctor(self) -> list[Finding]:
        """Vela and its version; it is not needed to check a model."""
        program = compiler.find()
        if program is None:
            return [Finding(compiler.TOOL.name, True, f"not found (needed to compile): {compiler.TOOL.install}")]
        try:
            with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
                version = compiler.version_of(program, Path(folder))
        except EdgecError as error:
            return [Finding(compiler.TOOL.name, False, error.why or error.message, error.help or compiler.TOOL.install)]
        return [Finding(compiler.TOOL.name, True, f"{version}, {program}")]


def _estimate(result: compiler.Compilation) -> str:
    used = ", ".join(
        f"{size / 1024:.1f} KiB of {memory.replace('_', ' ')}"
        for memory, size in result.summary.memory_bytes.items()
        if size
    )
    return (
        f"Vela estimates {result.summary.inference_s * 1e3:.3f} ms and {result.summary.cycles['total']} cycles for one "
        f"inference; it uses {used}"
    )


def _left(flat: FlatModel, left: Sequence[tuple[int, str]], options: VelaOptions) -> list[str]:
    """What Vela left to the CPU, with its reasons, and where it did otherwise than predicted."""
    operators = flat.main.operators
    notes = []
    if left:
        listed = "; ".join(
            f"{operators[index].title} '{shortened(operators[index].name)}' ({shortened(reason) or 'no reason given'})"
            for index, reason in left[:NAMED]
        )
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        notes.append(f"{len(left)} of {len(operators)} operators run on the CPU: {listed}{more}")
    on_cpu = {index for index, _ in left}
    for node in predict(flat.main, [options.family]).nodes:
        if node.verdict is not Verdict.UNCERTAIN and (node.index in on_cpu) is (node.verdict is Verdict.OK):
            place = "the CPU" if node.index in on_cpu else "the NPU"
            notes.append(f"{node.operator} '{shortened(node.name)}' is on {place}, against the prediction")
    return notes


TARGET = EthosU()
