"""Targets whose artifact a vendor's compiler makes from an int8 LiteRT file, for an accelerator beside the CPU.

What is common to them: quantized graphs only, tflite's lowering, a prediction of where every operator will run, files
made elsewhere taken byte for byte, and LiteRT on the host for what goes into the compiler.  What differs is a few
methods: the options, the prediction, the compiler and the artifact.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from edgec.errors import EXIT_UNSUPPORTED, UnsupportedError, UsageError
from edgec.ir.graph import Model
from edgec.ir.quantization import QuantizationRules
from edgec.targets.base import (
    FileTarget,
    Lowered,
    LoweredSupport,
    NodeSupport,
    Placement,
    Refusal,
    SessionSpec,
    TargetOptions,
    Verdict,
)
from edgec.targets.tflite.graph import FlatModel, read
from edgec.targets.tflite.program import Program
from edgec.targets.tflite.target import TARGET as TFLITE
from edgec.targets.tflite.writer import write

REQUIRE_DEVICE: Final = "require-device"
"""Option: refuse what would not run on the accelerator as a whole."""
QUANTIZING: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})

Options = TypeVar("Options")


@dataclass(frozen=True)
class Prediction:
    """Where every operator of a file will run, index for index.

    Attributes:
        nodes: ``ok`` means predicted on the accelerator.
        facts, notes: what else is predicted, as JSON holds it and in sentences.
    """

    nodes: tuple[NodeSupport, ...]
    facts: Mapping[str, Any]
    notes: tuple[str, ...]

    def positions(self, *verdicts: Verdict) -> list[int]:
        """The operators with one of the verdicts."""
        return [node.index for node in self.nodes if node.verdict in verdicts]

    @property
    def away(self) -> list[NodeSupport]:
        """What will, or may, run on the CPU."""
        return [node for node in self.nodes if node.verdict is not Verdict.OK]


@dataclass(frozen=True)
class Payload(Generic[Options]):
    """What goes into the compiler: a program, or a file made elsewhere; and how the compiler is asked."""

    program: Program | None
    file: Path | None
    options: Options


class AcceleratorTarget(FileTarget, Generic[Options]):
    """An accelerator that runs what its compiler makes of an int8 LiteRT file.

    Attributes:
        machine: the accelerator in a sentence, such as ``the Edge TPU``.
        unit: the part of it that computes, such as ``the NPU``.
        float_rule, compiled_rule: codes of the rules that refuse float models and files that are compiled already.
    """

    sidecars: ClassVar[tuple[str, ...]] = (".tflite",)
    static_shapes: ClassVar[bool] = True
    io_layout: ClassVar[str] = "NHWC"
    precisions: ClassVar[tuple[str, ...]] = ("int8",)
    io_dtype: ClassVar[str] = "int8"
    floats: ClassVar[bool] = False
    machine: ClassVar[str]
    unit: ClassVar[str]
    float_rule: ClassVar[str]
    compiled_rule: ClassVar[str]

    # what differs

    @abstractmethod
    def asked(self, options: TargetOptions) -> Options:
        """The options of this target.

        Raises:
            UsageError: EDG001.
        """

    @abstractmethod
    def predict(self, flat: FlatModel, options: Options | None = None) -> Prediction:
        """Where the operators of a file will run; without options, on any accelerator of the kind."""

    @abstractmethod
    def is_compiled(self, flat: FlatModel) -> bool:
        """Whether the file came out of the compiler."""

    def introduction(self, options: Options) -> list[str]:
        """Notes on what the compiler is asked for."""
        return []

    # from the IR

    def quantization(self, precision: str) -> QuantizationRules | None:
        """LiteRT's int8 rules."""
        return TFLITE.quantization(precision)

    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """What the LiteRT lowering refuses, and models without quantization."""
        self.asked(options)
        if not any(node.op in QUANTIZING or node.op.startswith("QLinear") for node in model.graph.nodes):
            reason = f"{self.unit} computes int8 only, the model is float"
            return [Refusal("", "", (), self.float_rule, reason, self._how_to_quantize)]
        found = TFLITE.refusals(model, options, integers_only=True)
        if found or not options.extra.get(REQUIRE_DEVICE):
            return found
        return [refusal for _, refusal in self.placement(model, options).away]

    def placement(self, model: Model, options: TargetOptions) -> Placement:
        """Nodes that will, or may, run on the CPU, and what else is predicted."""
        program: Program = TFLITE.lower(model, options, integers_only=True).payload
        found = self.predict(as_written(program), self.asked(options) if options.extra else None)
        away = tuple((node.verdict, as_refusal(node, program.ops[node.index].sources)) for node in found.away)
        return Placement(away, found.facts, found.notes)

    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """The int8 LiteRT program for the compiler.

        Raises:
            UnsupportedError: :attr:`float_rule` when the model is not quantized, the rule of the first operator where
                nothing of it would run on the accelerator; else what the LiteRT lowering refuses.
        """
        refused = self.refusals(model, options)
        if refused:
            raise self._refuse(refused[0])
        chosen = self.asked(options)
        lowered = TFLITE.lower(model, options, integers_only=True)
        found = self.predict(as_written(lowered.payload), chosen)
        self._require_some(found)
        lowered.payload = Payload(lowered.payload, None, chosen)
        lowered.notes.extend([*self.introduction(chosen), *found.notes])
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
            UnsupportedError: :attr:`compiled_rule` for a compiled file, the rule of its first operator where nothing
                would run on the accelerator; with ``require-device`` that of the first operator that would not.
        """
        chosen = self.asked(options)
        flat = read(path)
        if self.is_compiled(flat):
            raise UnsupportedError(
                self.compiled_rule,
                f"'{path.name}' is compiled for {self.machine} already",
                where=str(path),
                help="give the int8 .tflite that it was made from",
                exit=EXIT_UNSUPPORTED,
            )
        found = self.predict(flat, chosen)
        self._require_some(found)
        if found.away and options.extra.get(REQUIRE_DEVICE):
            raise self._refuse(as_refusal(found.away[0], (found.away[0].name,)))
        return Lowered(Payload(None, path, chosen), [*self.introduction(chosen), *found.notes])

    def support_lowered(self, path: Path, options: TargetOptions) -> LoweredSupport:
        """The predicted place of every operator, index for index."""
        chosen = self.asked(options)
        flat = read(path)
        general = []
        if self.is_compiled(flat):
            general.append(Refusal("", "", (), self.compiled_rule, "the file is compiled already", "give its source"))
        found = self.predict(flat, chosen if options.extra else None)
        return LoweredSupport(found.nodes, tuple(general), found.facts, found.notes)

    # what goes into the compiler

    def write_lowered(self, lowered: Lowered, folder: Path, stem: str) -> Path:
        """Write ``STEM.tflite``."""
        payload: Payload[Options] = lowered.payload
        target = folder / f"{stem}.tflite"
        if payload.program is not None:
            write(payload.program, target, "edgec")
        elif payload.file is not None:
            shutil.copyfile(payload.file, target)
        return target

    def execute_lowered(self, file: Path, threads: int = 1) -> SessionSpec:
        """LiteRT's CPU interpreter."""
        return TFLITE.session(file, threads)

    # refusing

    @property
    def _how_to_quantize(self) -> str:
        return f"give calibration data: edgec convert MODEL --target {self.name} --calibration DATA"

    def _require_some(self, found: Prediction) -> None:
        """Refuse a model of which nothing would run on the accelerator."""
        if not found.nodes:
            raise UsageError("EDG001", "the model has no operators")
        if not found.positions(Verdict.OK, Verdict.UNCERTAIN):
            first = next((node for node in found.nodes if node.rule == self.float_rule), found.nodes[0])
            message = f"no operator of the model would run on {self.unit}"
            raise self._refuse(as_refusal(first, (first.name,)), message)

    def _refuse(self, refusal: Refusal, message: str = "") -> UnsupportedError:
        subject = f"'{refusal.node}' ({refusal.operator})" if refusal.operator else "the model"
        return UnsupportedError(
            refusal.rule,
            message or f"{self.machine} cannot hold {subject}",
            where=f"first: {subject}" if message else None,
            why=refusal.reason,
            help=refusal.help or self._how_to_quantize,
            details={"node": refusal.node, "operator": refusal.operator, "rule": refusal.rule},
            exit=EXIT_UNSUPPORTED,
        )


def without_device_option(options: TargetOptions) -> dict[str, Any]:
    """The options that go to the compiler."""
    return {key: value for key, value in options.extra.items() if key != REQUIRE_DEVICE}


def as_written(program: Program) -> FlatModel:
    """A program as the compiler will read it."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        file = Path(folder) / "model.tflite"
        write(program, file, "edgec")
        return read(file)


def as_refusal(node: NodeSupport, sources: Sequence[str]) -> Refusal:
    """The verdict on an operator of the file as one on the nodes that it came from."""
    return Refusal(node.name, node.operator, tuple(sources), node.rule, node.reason, node.help)
