"""Estimates of a vendor's compiler instead of measurements: no device is on this machine, and every value is called so.

For the Ethos-U that is Vela's table: cycles, the time of one inference at the system's clock, and the bytes of memory
that can be written.  Two compilations of the same input agree to the byte, so there are no intervals and no races.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgec.errors import EdgecError
from edgec.targets.knobs import Configuration
from edgec.tuner.conversions import Conversions
from edgec.tuner.measurements import Race, Reference, Standing

CYCLES: Final = "estimated_cycles"
WRITABLE: Final = ("sram", "dram")


@dataclass
class Estimates:
    """Reads what the compiler estimated from the manifests; see :class:`edgec.tuner.measurements.Measurements`."""

    conversions: Conversions
    basis: str = "estimated by vela"
    _default_ms: float = field(default=1.0)

    def drop(self, configuration: Configuration) -> float | None:
        """Convert; the artifact is not run, so nothing is known of its quality but what the verification says."""
        self.conversions.get(configuration)
        return None

    def reference(self, configuration: Configuration) -> Reference:
        """What is estimated of the default."""
        self.pin(configuration)
        latency, memory, cycles = self._estimate(configuration)
        return Reference(latency, latency, latency, memory, (), None, {CYCLES: cycles})

    def pin(self, configuration: Configuration) -> None:
        """Compare with this configuration."""
        self._default_ms = self._estimate(configuration)[0]

    @contextlib.contextmanager
    def race(
        self, configuration: Configuration, *, against: Configuration | None = None, fresh: bool = False
    ) -> Iterator[Race]:
        """One look at the table."""
        latency, memory, cycles = self._estimate(configuration)
        other = self._default_ms if against is None else self._estimate(against)[0]
        yield _Estimated(latency / other, memory, {CYCLES: cycles})

    def close(self) -> None:
        """Nothing was started."""

    def _estimate(self, configuration: Configuration) -> tuple[float, int, float]:
        """Milliseconds, bytes that are written to, cycles."""
        manifest = self.conversions.get(configuration).manifest
        try:
            estimate: Mapping[str, Any] = manifest["artifact"]["toolchain"]["estimate"]
            memory = sum(int(estimate["memory_bytes"][name]) for name in WRITABLE)
            return float(estimate["inference_ms"]), memory, float(estimate["cycles"]["total"])
        except KeyError as error:
            problem = "the manifest of the conversion holds no estimate"
            raise EdgecError("EDG817", problem, why=f"{error} is missing") from error


@dataclass
class _Estimated:
    ratio: float
    memory_bytes: int | None
    extra: Mapping[str, float]
    samples_ms: list[float] = field(default_factory=list)

    def step(self) -> Standing:
        return Standing(self.ratio, self.ratio, self.ratio, 1, True)
