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
        extra: options of this target only.
    """

    io_layout: str = "ONNX"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Lowered:
    """The exact bytes for the artifact, not yet written: ``payload`` belongs to the target.

    Attributes:
        payload: what :meth:`Target.compile` writes.
        notes: everything the user should know (layout changes, approximations asked for, ...).
        layouts: graph input or output name to the permutation applied to it, where it is not the identity.
    """

    payload: Any
    notes: list[str] = field(default_factory=list)
    layouts: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """Files that a target wrote; ``main`` is the one to deploy, ``sidecars`` stand beside it."""

    main: Path
    sidecars: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SessionSpec:
    """How to open an artifact in a (possibly isolated) process: ``factory`` is ``"module:function"``, called as
    ``function(path, **options)`` and returning an :class:`edgec.runtime.session.Session`."""

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)


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

    @abstractmethod
    def refusals(self, model: Model, options: TargetOptions) -> list[Refusal]:
        """Every canonical node that :meth:`lower` would refuse; empty when the target can hold the model."""

    @abstractmethod
    def lower(self, model: Model, options: TargetOptions) -> Lowered:
        """Turn a canonical model into the artifact's contents; pure, needs no vendor tool.

        Raises:
            UnsupportedError: the first of :meth:`refusals`.
        """

    @abstractmethod
    def compile(self, lowered: Lowered, folder: Path, stem: str) -> Artifact:
        """Write the artifact into ``folder`` (a temporary one that the caller moves into place)."""

    @abstractmethod
    def session(self, artifact: Path, threads: int = 1) -> SessionSpec:
        """How to run the artifact on this machine."""

    @abstractmethod
    def inspect(self, artifact: Path) -> dict[str, Any]:
        """Facts parsed from the artifact's bytes: operators and their counts, inputs, outputs, sizes."""

    @abstractmethod
    def doctor(self) -> list[Finding]:
        """What this target needs on the machine."""
