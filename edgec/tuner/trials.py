"""What is known of one trial, and how a trial fails."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgec.targets.knobs import Configuration

KEPT_SAMPLES: Final = 200
"""Run times that are kept of a trial, for the report's distributions."""


KILLED: Final = "killed"
"""Kind of a failure: the worker got SIGKILL, from a person or because memory ran out."""
LOST: Final = "lost"
"""Kind of a failure: the default's worker died while a candidate was measured against it."""
SAME: Final = "same"
"""Kind of a trial that need not be measured: its artifact is byte for byte that of another configuration."""
UNREACHABLE: Final = "unreachable"
"""Kind of a failure: no artifact keeps the loss that the configuration allows."""


class State(enum.StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    PRUNED = "pruned"
    RUNNING = "running"


class TrialFailed(Exception):
    """A trial that has no result.

    Attributes:
        kind: ``crash``, ``killed``, ``memory``, ``hang``, ``wrong``, ``refused``, ``unstable``, ``lost``, ``same``
            or ``unreachable``.
        reason: what happened, in words.
        part: the part of the configuration that caused it; configurations that hold it are not tried again.
    """

    def __init__(self, kind: str, reason: str, part: Configuration | None = None):
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.part = dict(part or {})


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it.

    Attributes:
        configuration: canonical.
        values: see :mod:`edgec.tuner.goals`; what was measured before it was pruned, or nothing after a failure.
        intervals: name of a value to its 95 % interval.
        reason: why it failed or was pruned.
        failure: kind of the failure and the part of the configuration that caused it.
        blocks: interleaved blocks that were measured.
        seconds: what it cost, without waiting for the device.
        samples_ms: some of the measured run times, milliseconds.
    """

    number: int
    state: State
    configuration: Configuration
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reason: str | None = None
    failure: tuple[str, Mapping[str, Any]] | None = None
    blocks: int = 0
    seconds: float = 0.0
    samples_ms: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the journal and the document hold it."""
        return {
            "number": self.number,
            "state": self.state.value,
            "configuration": dict(self.configuration),
            "values": dict(self.values),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "reason": self.reason,
            "failure": None if self.failure is None else {"kind": self.failure[0], "part": dict(self.failure[1])},
            "blocks": self.blocks,
            "seconds": self.seconds,
            "samples_ms": list(self.samples_ms),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Trial:
        """The reverse of :meth:`to_json`."""
        failure = entry["failure"]
        return cls(
            entry["number"],
            State(entry["state"]),
            entry["configuration"],
            entry["values"],
            {name: (low, high) for name, (low, high) in entry["intervals"].items()},
            entry["reason"],
            None if failure is None else (failure["kind"], failure["part"]),
            entry["blocks"],
            entry["seconds"],
            tuple(entry["samples_ms"]),
        )


def thinned(samples_ms: list[float]) -> tuple[float, ...]:
    """At most :data:`KEPT_SAMPLES` of the run times, evenly spaced over the measurement, five significant digits."""
    step = max(1, -(-len(samples_ms) // KEPT_SAMPLES))
    return tuple(float(f"{value:.5g}") for value in samples_ms[::step])
