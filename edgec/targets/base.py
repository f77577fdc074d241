"""The contract between edgec and one kind of artifact.

A target says which graphs it can hold (:meth:`Target.support`), turns one into bytes (:meth:`Target.lower`), writes
them (:meth:`Target.compile`) and opens the result as a session (:meth:`Target.open_spec`).  ``support`` and ``lower``
apply the same rules: what the first calls ok, the second converts; what it calls unsupported, the second refuses with
the same rule.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgec.ir.graph import Model
from edgec.ir.quantization import Affine, QuantizationRules
from edgec.targets.knobs import Circumstances, Knobs, batch_knob


class Verdict(enum.StrEnum):
    """What a target can say of a node before converting."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class NodeSupport:
    """The verdict on one node of the user's model.

    Attributes:
        index: position in the source graph.
        rule: code of the rule that decided (``EDG231``, ``EDG4xx``), empty when ok.
        reason: why, in terms of the user's graph.
        help: what would help.
    """

    index: int
    name: str
    operator: str
    verdict: Verdict
    rule: str = ""
    reason: str = ""
    help: str = ""


@dataclass(frozen=True)
class Refusal:
    """One canonical node that the target cannot hold: the node's name, the names of the source nodes behind it, why."""

    node: str
    operator: str
    sources: tuple[str, ...]
    rule: str
    reason: str
    help: str = ""


@dataclass(frozen=True)
class TargetOptions:
    """Options of a conversion that a target reads.

    Attributes:
        io_layout: ``ONNX`` keeps the model's shapes; ``NHWC`` turns 4-D image inputs and outputs channels-last.
        precision: one of :attr:`Target.precisions`; where it is written as QDQ, the graph that is lowered has it.
        raise_to: of ``mixed``, the precision of the nodes that are not integers; one of :attr:`Target.raises`.
        extra: options of this target only.
    """

    io_layout: str = "ONNX"
    precision: str = "float32"
    extra: Mapping[str, Any] = field(default_factory=dict)
    raise_to: str = "float32"


@dataclass
class Lowered:
    """The exact bytes for the artifact, not yet written: ``payload`` belongs to the target.

    Attributes:
        payload: what :meth:`Target.compile` writes.
        notes: everything the user should know (layout changes, approximations asked for, ...).
        layouts: graph input or output name to the permutation applied to it, where it is not the identity.
        quantized_io: graph input or output name to how its integers stand for the model's floats.
    """

    payload: Any
    notes: list[str] = field(default_factory=list)
    layouts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    quantized_io: Mapping[str, Affine] = field(default_factory=dict)


@dataclass(frozen=True)
class LoweredSupport:
    """What a target says of a file that it takes as it is.

    Attributes:
        nodes: one verdict per operator of the file, index for index.
        general: refusals that belong to no single operator.
        facts: what else the target predicts (memory, data that crosses to the CPU), for reports.
        notes: what the user should know.
    """

    nodes: tuple[NodeSupport, ...]
    general: tuple[Refusal, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """What a target predicts of a model that it can hold.

    Attributes:
        away: nodes that will (unsupported), or may (uncertain), run on the CPU instead of the device.
        facts, notes: as in :class:`LoweredSupport`.
    """

    away: tuple[tuple[Verdict, Refusal], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """Files that a target wrote; ``main`` is the one to deploy, ``sidecars`` stand beside it.

    Attributes:
        facts: what a vendor's tool said of the artifact, for the manifest.
        notes: what the user should know of it.
    """

    main: Path
    sidecars: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionSpec:
    """How to open an artifact in a (possibly isolated) process.

    Attributes:
        factory: ``"module:function"``, called as ``function(path, **options)`` and returning an
            :class:`edgec.runtime.session.Session`.
        shared: ``"module:function"``, called without arguments before: imports that take long, which a process that
            forks for sessions does once. It must leave a process behind that can be forked: no threads, no device.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: str | None = None


@dataclass(frozen=True)
class Finding:
    """One line of ``edgec doctor``: what was looked for, whether it is usable, and what to do if not."""

    subject: str
    ok: bool
    detail: str
    help: str = ""


class Target(ABC):
    """One kind of artifact."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    """File suffix of the artifact, with the dot; the artifact is called ``model`` + suffix."""
    sidecars: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the files that always stand beside the artifact, with the dot."""
    static_shapes: ClassVar[bool] = True
    """Whether every shape must be known before lowering (EDG202 otherwise)."""
    pipeline: ClassVar[str]
    """The default passes, see :func:`edgec.ir.passes.base.parse_pipeline`."""
    io_layout: ClassVar[str] = "ONNX"
    """Layout of inputs and outputs where the user does not ask for one."""
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    """What :option:`--precision` takes for the target; the first is the default."""
    io_dtype: ClassVar[str] = "float32"
    """Element type of float inputs and outputs of a quantized artifact where the user does not ask for one."""
    raises: ClassVar[tuple[str, ...]] = ()
    """What ``mixed`` precision raises nodes to that integers are too coarse for; the first is the default."""
    floats: ClassVar[bool] = True
    """Whether it computes floats: where not, ``mixed`` keeps at 8 bits what has no form at 16 bits."""
    float16_graph: ClassVar[bool] = False
    """Whether ``float16`` is lowered from a graph with float16 values; otherwise only constants are stored in it."""
    option_names: ClassVar[tuple[str, ...]] = ()
    """Keys of :attr:`TargetOptions.extra` that the target reads; others are a usage error."""

    @abstractmethod
    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """Every canonical node that :meth:`lower` would refuse; empty when the target can hold the model."""

    def placement(self, model: Model, options: TargetOptions) -> Placement:
        """Which canonical nodes that :meth:`lower` takes will run beside the device, and what else is predicted."""
        return Placement()

    @abstractmethod
    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """Turn a canonical model into the artifact's contents; pure, needs no vendor tool.

        Raises:
            UnsupportedError: the first of :meth:`refusals`.
        """

    @abstractmethod
    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Write the artifact into ``folder`` (a temporary one that the caller moves into place).

        Targets with a vendor's tool run it here, on the file that :meth:`write_lowered` left in ``folder``.

        Raises:
            EdgecError: EDG510 where the tool is missing, with its plan in ``details["plan"]``; EDG501 to EDG512.
        """

    def lacks_precision(self, precision: str) -> tuple[str, str]:
        """Why the target does not have a precision, and what to ask for instead; empty where nothing is to be said."""
        return "", ""

    def quantization(self, precision: str) -> QuantizationRules | None:
        """How a float graph is quantized for one of :attr:`precisions`; None for those that are not quantized."""
        return None

    # Targets whose artifact a vendor's tool makes

    def write_lowered(self, lowered: Lowered, folder: Path, stem: str) -> Path | None:
        """Write the exact bytes for the vendor's tool; None for a target without one."""
        return None

    def tool_plan(self, options: TargetOptions, stem: str) -> dict[str, Any] | None:
        """The run of the vendor's tool as JSON holds it, for ``--plan``; None for a target without one."""
        return None

    def execute_lowered(self, file: Path, threads: int = 1) -> SessionSpec:
        """How to run, on the host, what :meth:`write_lowered` wrote."""
        return self.session(file, threads)

    def write_session(self, artifact: Path, session: Mapping[str, Any]) -> None:
        """Write the options that the artifact is to be opened with into its sidecar, for targets that have one."""
        return None

    def runs_here(self) -> bool:
        """Whether :meth:`session` can run an artifact on this machine."""
        return True

    @abstractmethod
    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """How to run the artifact on this machine."""

    def knobs(self, circumstances: Circumstances) -> Knobs:
        """What the tuner may change; nothing but the batch unless the target says more."""
        return Knobs(tuple(batch_knob(circumstances)))

    @abstractmethod
    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Facts parsed from the artifact's bytes: operators and their counts, inputs, outputs, sizes."""

    @abstractmethod
    def doctor(self) -> list[Finding]:
        """What this target needs on the machine."""


class FileTarget(Target):
    """A target that also takes files made elsewhere, byte for byte and without the IR, such as an int8 .tflite."""

    @abstractmethod
    def takes(self, path: Path) -> bool:
        """Whether :meth:`import_lowered` reads the file."""

    @abstractmethod
    def import_lowered(self, path: Path, options: TargetOptions) -> Lowered:
        """A file that is already what the vendor's tool takes.

        Raises:
            EdgecError: it is damaged, or nothing in it would run on the device.
        """

    @abstractmethod
    def support_lowered(self, path: Path, options: TargetOptions) -> LoweredSupport:
        """The verdict on every operator of such a file.

        Raises:
            EdgecError: it is damaged, or the options are none of this target's.
        """


def taking(target: Target, path: Path) -> FileTarget | None:
    """The target, where it takes the file as it is; None where the file has to go through the IR."""
    return target if isinstance(target, FileTarget) and target.takes(path) else None
