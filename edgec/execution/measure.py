"""One artifact in one setting: everything that is measured of it, and whether the numbers may be quoted."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.errors import EXIT_TOOL_MISSING, EXIT_USAGE, EdgecError
from edgec.execution.samples import BatchError
from edgec.runtime.measurement import Latency, LatencyRules, PeakMemory, Stability, Subject, measure_latency
from edgec.runtime.measurement.conditions import between, look, reasons
from edgec.runtime.measurement.energy import open_meter
from edgec.runtime.measurement.gpu import device_memory, gpu_reasons, look_at_gpu
from edgec.runtime.session import Assignment


class RowStatus(enum.StrEnum):
    """What came of a setting."""

    OK = "ok"
    UNSTABLE = "unstable"
    """Measured, but the number may not be quoted."""
    UNSUPPORTED = "unsupported"
    """The artifact cannot take the batch."""
    FAILED = "failed"
    """It did not load, or crashed, hung or reported an error."""


@dataclass(frozen=True)
class Energy:
    """Joules per run: the mean power of the package or board while measuring, times the latency.

    Attributes:
        joules: None where nothing counts it.
        scope: what is counted; other work and idling are in it.
        problem: why there is no number.
    """

    joules: float | None
    scope: str
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """A setting and what was measured in it.

    Attributes:
        batch, threads: as they were asked for; None for the default.
        samples: samples per run.
        shapes: input name to the extents that a run has.
        options: of the session.
        status, reasons: what came of it, and why it is not ok.
        latency: seconds per run.
        memory: of the worker process.
        device_memory: bytes on the device, where the driver tells.
        cold_start_s: loading and the first run, the runtime being imported, seconds.
        load_s: loading alone.
        energy: per run.
        conditions: what the machine was like meanwhile, as JSON.
        assignment: what the delegates, the accelerator or the provider took, where one was asked for.
    """

    batch: int | None
    threads: int | None
    options: Mapping[str, Any]
    status: RowStatus
    reasons: tuple[str, ...] = ()
    code: str | None = None
    samples: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    latency: Latency | None = None
    memory: PeakMemory | None = None
    device_memory: int | None = None
    cold_start_s: float | None = None
    load_s: float | None = None
    energy: Energy | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    assignment: Assignment | None = None

    @property
    def throughput(self) -> float | None:
        """Samples per second, runs one after the other."""
        return None if self.latency is None else self.samples / self.latency.median.value

    def to_json(self) -> dict[str, Any]:
        """As the documents hold it."""
        energy = self.energy
        return {
            "batch": self.batch,
            "threads": self.threads,
            "samples_per_run": self.samples,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "options": dict(self.options),
            "status": str(self.status),
            "reasons": list(self.reasons),
            "code": self.code,
            "latency": None if self.latency is None else self.latency.to_json(),
            "throughput": self.throughput,
            "memory": None if self.memory is None else {"total": self.memory.total, "added": self.memory.added},
            "device_memory": self.device_memory,
            "cold_start_s": self.cold_start_s,
            "load_s": self.load_s,
            "energy": None
            if energy is None
            else {"joules_per_run": energy.joules, "scope": energy.scope, "problem": energy.problem},
            "conditions": dict(self.conditions),
            "assignment": None if self.assignment is None else self.assignment.to_json(),
        }


def measure_row(
    opener: Callable[[], Subject],
    batch: int | None,
    threads: int | None,
    options: Mapping[str, Any],
    device: str,
    rules: LatencyRules,
) -> Row:
    """Open, warm up and time one setting; what goes wrong with it is in the row.

    Raises:
        EdgecError: what would go wrong in every setting: EDG040 for a session option that does not exist or contradicts
            another; a delegate, accelerator or execution provider that is missing.
    """
    try:
        with opener() as subject:
            return _measured(subject, batch, threads, options, device, rules)
    except BatchError as error:
        why = f"{error.message}; {error.help}" if error.help else error.message
        return Row(batch, threads, options, RowStatus.UNSUPPORTED, (why,), error.code, batch or 1)
    except EdgecError as error:
        if error.exit_code in (EXIT_USAGE, EXIT_TOOL_MISSING):
            raise
        why = f"{error.message}: {error.why}" if error.why else error.message
        return Row(batch, threads, options, RowStatus.FAILED, (why,), error.code, batch or 1)


def _measured(
    subject: Subject,
    batch: int | None,
    threads: int | None,
    options: Mapping[str, Any],
    device: str,
    rules: LatencyRules,
) -> Row:
    subject.warm_up()
    meter = open_meter(device if device.startswith("cuda") else "cpu")
    before, joules = look(), meter.read()
    latency = measure_latency(
        subject, rules, reasons=lambda: reasons(before, look()) + gpu_reasons(look_at_gpu(device))
    )
    after, spent = look(), meter.read()
    energy = Energy(None, meter.scope, meter.problem)
    if joules is not None and spent is not None:
        energy = Energy((spent - joules) / max(after.at - before.at, 1e-9) * latency.median.value, meter.scope)
    stable = latency.status is Stability.STABLE
    return Row(
        batch,
        threads,
        options,
        RowStatus.OK if stable else RowStatus.UNSTABLE,
        latency.reasons,
        None if stable else "EDG702",
        subject.samples_per_run,
        subject.shapes,
        latency,
        subject.peak_memory,
        device_memory(device, subject.process),
        subject.cold_start,
        subject.load_s,
        energy,
        between(before, after, subject.cpu_s) | {"gpu": look_at_gpu(device)},
        subject.assignment() if device != "cpu" or {"delegates", "accelerator", "provider"} & set(options) else None,
    )
