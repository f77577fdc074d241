"""Recorded measurements instead of real ones: for tests of the search, and for comparing search methods."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgec.targets.knobs import Configuration
from edgec.tuner.measurements import Race, Reference, Standing
from edgec.tuner.space import key_of
from edgec.tuner.trials import TrialFailed

SPREAD = 0.02
"""Half of the interval around a ratio, relative, before it is divided by the root of the number of blocks."""


@dataclass
class Replay:
    """Plays a table back.

    Attributes:
        rows: key of a configuration to its recorded times of one run, milliseconds; one per block.
        failures: key to the kind and the reason of a failure.
        drops, memory: key to the share of quality lost, and to bytes.
        seconds: how long a block takes to play.
        asked: keys in the order in which they were raced, for tests.
    """

    rows: Mapping[str, Sequence[float]]
    failures: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    drops: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[str] = field(default_factory=list)
    basis: str = "replayed"
    _pinned: Sequence[float] = (1.0,)

    def drop(self, configuration: Configuration) -> float | None:
        """The recorded share."""
        return self.drops.get(key_of(configuration))

    def reference(self, configuration: Configuration) -> Reference:
        """The recorded times of the default."""
        self.pin(configuration)
        self.asked.append(key_of(configuration))
        time.sleep(self.seconds)
        latency = _median(self._pinned)
        memory = self.memory.get(key_of(configuration))
        return Reference(latency, latency * (1 - SPREAD), latency * (1 + SPREAD), memory, tuple(self._pinned))

    def pin(self, configuration: Configuration) -> None:
        """Race against this configuration."""
        self._pinned = self.rows[key_of(configuration)]

    @contextlib.contextmanager
    def race(
        self, configuration: Configuration, *, against: Configuration | None = None, fresh: bool = False
    ) -> Iterator[Race]:
        """One that plays a row."""
        key = key_of(configuration)
        self.asked.append(key)
        if key in self.failures:
            kind, reason = self.failures[key]
            raise TrialFailed(kind, reason)
        other = self._pinned if against is None else self.rows[key_of(against)]
        yield _Played(self.rows[key], other, self.memory.get(key), self.seconds)

    def close(self) -> None:
        """Nothing was started."""


class _Played:
    def __init__(self, row: Sequence[float], pinned: Sequence[float], memory: int | None, seconds: float):
        self.memory_bytes = memory
        self._row = row
        self._pinned = pinned
        self._seconds = seconds
        self._blocks = 0
        self.extra: Mapping[str, float] = {}

    @property
    def samples_ms(self) -> list[float]:
        return list(self._row[: self._blocks])

    def step(self) -> Standing:
        time.sleep(self._seconds)
        self._blocks += 1
        ratio = _median(self._row[: self._blocks]) / _median(self._pinned)
        spread = SPREAD / self._blocks**0.5
        settled = self._blocks >= len(self._row)
        return Standing(ratio, ratio * (1 - spread), ratio * (1 + spread), self._blocks, settled, self._blocks > 1)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
