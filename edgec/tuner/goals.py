"""What a study is after: objectives, and limits that the winner must keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LATENCY: Final = "latency_ms"
THROUGHPUT: Final = "throughput_per_s"
MEMORY: Final = "memory_bytes"
DEVICE_MEMORY: Final = "device_memory_bytes"
DROP: Final = "drop"

OBJECTIVES: Final[dict[str, str]] = {"latency": LATENCY, "throughput": THROUGHPUT, "memory": MEMORY}
"""Name of an objective on the command line to the value of a trial that it is about."""
LIMITED: Final[dict[str, str]] = {
    "latency": LATENCY,
    "memory": MEMORY,
    "device_memory": DEVICE_MEMORY,
    "drop": DROP,
}
"""Name of a limit to the value of a trial that must not exceed it."""


@dataclass(frozen=True)
class Goals:
    """Objectives and limits.

    Attributes:
        objectives: keys of :data:`OBJECTIVES`, the most important first.
        limits: key of :data:`LIMITED` to its limit: milliseconds, bytes, share (0.005 is half a per cent).
    """

    objectives: tuple[str, ...] = ("latency",)
    limits: Mapping[str, float] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", dict(self.limits or {}))

    def costs(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """The logarithms to minimise, one per objective; infinity where a value is missing."""
        found = []
        for objective in self.objectives:
            value = values.get(OBJECTIVES[objective])
            if value is None or value <= 0:
                found.append(math.inf)
            else:
                found.append(-math.log(value) if objective == "throughput" else math.log(value))
        return tuple(found)

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Limit to by how much it is exceeded, relative to the limit; at most 0 where it is kept."""
        found = {}
        for name, limit in self.limits.items():
            value = values.get(LIMITED[name])
            if value is not None:
                found[name] = (value - limit) / limit if limit else value
        return found

    def is_feasible(self, values: Mapping[str, float]) -> bool:
        """Whether every limit is kept, and known to be kept."""
        if any(LIMITED[name] not in values for name in self.limits):
            return False
        return all(excess <= 0 for excess in self.violations(values).values())

    def to_json(self) -> dict[str, Any]:
        """For the journal and the document."""
        return {"objectives": list(self.objectives), "limits": dict(self.limits)}


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether the first costs are nowhere higher and somewhere lower."""
    return all(a <= b for a, b in zip(first, second)) and first != second
