"""Subjects that take no time: their seconds are drawn, and a clock of their own advances by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


class Clock:
    """A clock that only moves when somebody runs something."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """A noisy machine: at times everything takes `busy` times as long, for a while; it drifts; single runs jump."""

    def __init__(self, seed: int, *, busy: float = 1.6, episode_s: float = 0.5, drift: float = 0.1):
        self.random = np.random.default_rng(seed)
        self.clock = Clock()
        self.busy, self.episode_s, self.drift = busy, episode_s, drift
        self._until, self._factor = 0.0, 1.0

    def factor(self) -> float:
        """How much slower than at its best the machine is now."""
        if self.clock.now >= self._until:
            self._factor = self.busy if self.random.random() < 0.4 else 1.0
            self._until = self.clock.now + self.random.exponential(self.episode_s)
        return self._factor * (1 + self.drift * min(self.clock.now / 10, 1))

    def subject(self, seconds: float, *, jitter: float = 0.03, layout: float = 0.002) -> Synthetic:
        """A process: what it takes at best, and by how much the place of its memory changes that."""
        return Synthetic(self, seconds * float(np.exp(self.random.normal(0, layout))), jitter)

    @contextmanager
    def opened(self, seconds: float) -> Iterator[Synthetic]:
        """The same as a context manager."""
        yield self.subject(seconds)


class Synthetic:
    """See :class:`edgec.runtime.measurement.subject.Timed`."""

    def __init__(self, machine: Machine, seconds: float, jitter: float):
        self._machine, self._seconds, self._jitter = machine, seconds, jitter
        self.latency_s = seconds
        self.slots: list[int] = []

    def warm_up(self) -> Any:
        return None

    def time(self, count: int) -> Sequence[float]:
        random = self._machine.random
        self.slots.append(count)
        seconds = self._seconds * self._machine.factor() * np.exp(random.normal(0, self._jitter, count))
        seconds += np.where(random.random(count) < 0.05, random.exponential(0.004, count), 0.0)
        self._machine.clock.now += float(seconds.sum())
        found: list[float] = seconds.tolist()
        return found
