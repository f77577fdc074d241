"""The target ``ethosu``."""

from __future__ import annotations

import shutil
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
from edgec.targets.ethosu import compiler
from edgec.targets.ethosu.hardware import FAMILIES, Family
from edgec.targets.ethosu.mapping import Mapping, predict, shortened
from edgec.targets.ethosu.options import OPTIONS, VelaOptions
from edgec.targets.ethosu.package import decode, is_compiled
from edgec.targets.ethosu.rules import COMPILED
from edgec.targets.knobs import Circumstances, Knobs
from edgec.targets.tflite.graph import FlatModel, read
from edgec.targets.tflite.program import Program
from edgec.targets.tflite.target import TARGET as TFLITE

NOT_QUANTIZED: Final = "EDG431"
REQUIRE_DEVICE: Final = "require-device"
QUANTIZING: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
HOW_TO_QUANTIZE: Final = "give calibration data: edgec convert MODEL --target ethosu --calibration DATA"
NAMED: Final = 4
"""How many operators a note names."""


@dataclass(frozen=True)
class Payload:
    """What goes into Vela: a program, or a file made elsewhere; and how Vela is asked."""

    program: Program | None
    file: Path | None
    options: VelaOptions


class EthosU(Target):
    """int8 LiteRT models compiled for Arm's Ethos-U55, U65 and U85 by Vela."""

    name: ClassVar[str] = "ethosu"
    title: ClassVar[str] = "Arm Ethos-U (int8 .tflite, compiled by Vela)"
    suffix: ClassVar[str] = "_vela.tflite"
    sidecars: ClassVar[tuple[str, ...]] = (".tflite",)
    static_shapes: ClassVar[bool] = True
    io_layout: ClassVar[str] = "NHWC"
    precisions: ClassVar[tuple[str, ...]] = ("int8",)
    io_dtype: ClassVar[str] = "int8"
    option_names: ClassVar[tuple[str, ...]] = (*OPTIONS, REQUIRE_DEVICE)

    @property
    def pipeline(self) -> str:  # type: ignore[override]
        """That of the tflite target."""
        return TFLITE.pipeline

    def quantization(self, precision: str) -> QuantizationRules | None:
        """LiteRT's int8 rules."""
        return TFLITE.quantization(precision)

    # from the IR

    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """What the LiteRT lowering refuses, and models without quantization."""
        vela_options(options)
        if not any(node.op in QUANTIZING or node.op.startswith("QLinear") for node in model.graph.nodes):
            return [
                Refusal("", "", (), NOT_QUANTIZED, "the NPU computes integers, the model is float", HOW_TO_QUANTIZE)
            ]
        found = TFLITE.refusals(model, options)
        if found or not options.extra.get(REQUIRE_DEVICE):
            return found
        return [refusal for _, refusal in self.placement(model, options).away]

    def placement(self, model: Model, options: TargetOptions) -> Placement:
        """Nodes that will, or may, run on the CPU."""
        program: Program = TFLITE.lower(model, options).payload
        mapping = predict(_flat(program).main, _families(options))
        found: list[tuple[Verdict, Refusal]] = []
        for node in mapping.nodes:
            if node.verdict is not Verdict.OK:
                found.append((node.verdict, _as_refusal(node, program.ops[node.index].sources)))
        return Placement(tuple(found), mapping.facts(), tuple(mapping.describe()))

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """The int8 LiteRT program for Vela.

        Raises:
            UnsupportedError: EDG431 when the model is not quantized, the rule of the first operator where nothing of it
                would run on the NPU; else what the LiteRT lowering refuses.
        """
        refused = self.refusals(model, options)
        if refused:
            raise _refuse(refused[0])
        chosen = vela_options(options)
        lowered = TFLITE.lower(model, options)
        mapping = predict(_flat(lowered.payload).main, [chosen.family])
        _require_mapped(mapping)
        lowered.payload = Payload(lowered.payload, None, chosen)
        lowered.notes.extend([_system(chosen), *mapping.describe()])
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
            UnsupportedError: EDG443 for a compiled file, the rule of its first operator where nothing would run on the
                NPU; with ``require-device`` that of the first operator that would not.
        """
        chosen = vela_options(options)
        flat = read(path)
        if is_compiled(flat):
            raise UnsupportedError(
                COMPILED,
                f"'{path.name}' is compiled for an Ethos-U already",
                where=str(path),
                help="give the int8 .tflite that it was made from",
                exit=EXIT_UNSUPPORTED,
            )
        mapping = predict(flat.main, [chosen.family])
        _require_mapped(mapping)
        away = [node for node in mapping.nodes if node.verdict is not Verdict.OK]
        if away and options.extra.get(REQUIRE_DEVICE):
            raise _refuse(_as_refusal(away[0], (away[0].name,)))
        return Lowered(Payload(None, path, chosen), [_system(chosen), *mapping.describe()])

    def support_lowered(self, path: Path) -> LoweredSupport:
        """The predicted place of every operator, index for index, on any Ethos-U."""
        flat = read(path)
        general = []
        if is_compiled(flat):
            general.append(Refusal("", "", (), COMPILED, "the file is compiled already", "give its source"))
        mapping = predict(flat.main)
        return LoweredSupport(mapping.nodes, tuple(general), mapping.facts(), tuple(mapping.describe()))

    # Vela

    def write_lowered(self, lowered: Lowered, folder: Path, stem: str) -> Path:
        """Write ``STEM.tflite``."""
        payload: Payload = lowered.payload
        target = folder / f"{stem}.tflite"
        if payload.program is not None:
            _write(payload.program, target)
        elif payload.file is not None:
            shutil.copyfile(payload.file, target)
        return target

    def tool_plan(self, options: TargetOptions, stem: str) -> dict[str, Any]:
        """The run of Vela."""
        return compiler.plan(f"{stem}.tflite", vela_options(options)).to_json()

    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Run Vela on ``STEM.tflite``, check and decode what it made; its table of estimates is a sidecar."""
        source = folder / f"{stem}.tflite"
        payload: Payload = lowered.payload
        result = compiler.compile_model(source, folder, payload.options)
        main, table = result.run.outputs
        tool = {
            "name": compiler.TOOL.name,
            "version": result.version,
            "command": compiler.plan(source.name, payload.options).command,
            **result.to_json(),
        }
        notes = [
            _estimate(result),
            *_left(read(source), result.left, predict(read(source).main, [payload.options.family])),
        ]
        notes.extend(f"{compiler.TOOL.name}: {line}" for line in result.transcript.warnings)
        return Artifact(main, (source, table), {"toolchain": tool}, tuple(notes))

    # the artifact

    def execute_lowered(self, file: Path, threads: int = 1) -> SessionSpec:
        """LiteRT's CPU interpreter."""
        return TFLITE.session(file, threads)

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
        """Vela; it is not needed to check a model."""
        program = compiler.find()
        place = "not found (needed to compile)" if program is None else str(program)
        return [Finding(compiler.TOOL.name, True, place, compiler.TOOL.install)]


def vela_options(options: TargetOptions) -> VelaOptions:
    """The options of this target.

    Raises:
        UsageError: EDG001.
    """
    return VelaOptions.from_mapping({key: value for key, value in options.extra.items() if key != REQUIRE_DEVICE})


def _families(options: TargetOptions) -> Sequence[Family]:
    """That of the accelerator asked for, or all."""
    return [vela_options(options).family] if "accelerator" in options.extra else FAMILIES


def _system(options: VelaOptions) -> str:
    return f"for {options.accelerator} in {options.system_configuration} with {options.memory_mode}"


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


def _left(flat: FlatModel, left: Sequence[tuple[int, str]], mapping: Mapping) -> list[str]:
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
    for node in mapping.nodes:
        if node.verdict is not Verdict.UNCERTAIN and (node.index in on_cpu) is (node.verdict is Verdict.OK):
            place = "the CPU" if node.index in on_cpu else "the NPU"
            notes.append(f"{node.operator} '{shortened(node.name)}' is on {place}, against the prediction")
    return notes


def _write(program: Program, target: Path) -> None:
    from edgec.targets.tflite.writer import write

    write(program, target, "edgec")


def _flat(program: Program) -> FlatModel:
    """The program as Vela will read it."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        file = Path(folder) / "model.tflite"
        _write(program, file)
        return read(file)


def _require_mapped(mapping: Mapping) -> None:
    """Refuse a model of which nothing would run on the NPU."""
    if not mapping.nodes:
        raise UsageError("EDG001", "the model has no operators")
    if not mapping.positions(Verdict.OK, Verdict.UNCERTAIN):
        first = next((node for node in mapping.nodes if node.rule == NOT_QUANTIZED), mapping.nodes[0])
        raise _refuse(_as_refusal(first, (first.name,)), "no operator of the model would run on the NPU")


def _as_refusal(node: NodeSupport, sources: Sequence[str]) -> Refusal:
    return Refusal(node.name, node.operator, tuple(sources), node.rule, node.reason, node.help)


def _refuse(refusal: Refusal, message: str = "") -> UnsupportedError:
    subject = f"'{refusal.node}' ({refusal.operator})" if refusal.operator else "the model"
    return UnsupportedError(
        refusal.rule,
        message or f"the Ethos-U cannot hold {subject}",
        where=f"first: {subject}" if message else None,
        why=refusal.reason,
        help=refusal.help or HOW_TO_QUANTIZE,
        details={"node": refusal.node, "operator": refusal.operator, "rule": refusal.rule},
        exit=EXIT_UNSUPPORTED,
    )


TARGET = EthosU()
