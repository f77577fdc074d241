"""What the search asks of whoever measures: a runtime on this machine, a vendor's estimate, or a recorded table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from edgec.targets.knobs import Configuration


@dataclass(frozen=True)
class Standing:
    """How a configuration stands against the one that it races against, after some interleaved blocks.

    Attributes:
        ratio, low, high: median time of one run, divided by the other's, and its 95 % interval.
        settled: whether more blocks would not say more, or the time for this trial is over.
        credible: whether there are enough blocks to believe the interval, so that a candidate may be given up.
        unstable: why no number should be drawn from it, or None.
        wide: that the interval is wide though it is certain who is ahead, in words, or None.
        alone_ms, other_ms: median time of one run of this configuration and of the other, milliseconds, each by itself.
            Given where the ratio times what the other took at another time is no time of this one: a host that wavers
            does not slow down alike what waits for it and what waits for a device.
    """

    ratio: float
    low: float
    high: float
    blocks: int
    settled: bool
    credible: bool = True
    unstable: str | None = None
    alone_ms: float | None = None
    other_ms: float | None = None
    wide: str | None = None


@dataclass(frozen=True)
class Reference:
    """The default configuration, measured alone.

    Attributes:
        latency_ms, low_ms, high_ms: median time of one run and its 95 % interval.
        memory_bytes: peak memory of its process; None where it is not known.
        samples_ms: run times.
        extra: further values, such as estimated cycles, or the memory on the device.
        note: why the absolute time should not be quoted, where it is unstable.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    memory_bytes: int | None = None
    samples_ms: tuple[float, ...] = ()
    note: str | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


class Race(Protocol):
    """A configuration, opened beside another."""

    @property
    def memory_bytes(self) -> int | None:
        """Peak memory of its process after warming up; None where it is not known."""

    @property
    def samples_ms(self) -> list[float]:
        """Its run times so far."""

    @property
    def extra(self) -> Mapping[str, float]:
        """Further values, such as estimated cycles, or the memory on the device."""

    def step(self) -> Standing:
        """Measure one more interleaved block.

        Raises:
            TrialFailed: it crashed, hung, or ran out of memory.
        """


class Measurements(Protocol):
    """Measures configurations of one model; everything it does with a device happens under the device's lease."""

    @property
    def basis(self) -> str:
        """``measured``, ``replayed``, or whose estimate the values are."""

    def drop(self, configuration: Configuration) -> float | None:
        """Convert for a configuration, as far as that has not been done, and say how much of the quality is lost.

        Returns:
            The share lost (0.01: one per cent); None where nothing is asked of it.

        Raises:
            TrialFailed: no artifact, or one that computes something else.
            EdgecError: the study cannot go on: a tool is missing, the disk is full.
        """

    def reference(self, configuration: Configuration) -> Reference:
        """Measure the default configuration alone; races are run against it from now on.

        Raises:
            EdgecError: it cannot be measured.
        """

    def pin(self, configuration: Configuration) -> None:
        """Run races against this configuration from now on; it stays open between them."""

    def race(
        self, configuration: Configuration, *, against: Configuration | None = None, fresh: bool = False
    ) -> AbstractContextManager[Race]:
        """Open a configuration beside the pinned one, or beside the one that ``against`` names.

        ``fresh`` opens both anew, and takes longer to settle.

        Raises:
            TrialFailed: it does not open.
        """

    def close(self) -> None:
        """End every process that was started."""
