"""Read what Vela says: its console, and the table that it writes.

Source: ``stats_writer.py`` of ethos-u-vela 5.2.0 (``print_regor_performance_metrics`` and the CSV beside it: one line
of headings, one of numbers; memory in KiB, the core clock in Hz, times in seconds).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_COUNT: Final = re.compile(r"^(CPU|NPU) operators = (\d+) \(", re.MULTILINE)
_KEPT: Final = re.compile(r"^Warning \(supported operators\) operator: (.+), ofm: '(.*)'$")
_WARNING: Final = re.compile(r"^Warning: (.+)$", re.MULTILINE)
_ERROR: Final = re.compile(r"^(?:[\w.]*(?:Error|Exception)): (.+)$", re.MULTILINE)

KIB: Final = 1024
MEMORIES: Final = ("sram", "dram", "on_chip_flash", "off_chip_flash")


@dataclass(frozen=True)
class KeptBack:
    """An operator that Vela leaves to the CPU: what it is, the name of its result, why."""

    operator: str
    result: str
    reason: str


@dataclass(frozen=True)
class Transcript:
    """What the console says.

    Attributes:
        on_cpu, on_npu: numbers of operators; the latter are those of the NPU, many for one of LiteRT. None: not said.
        kept: operators that Vela says it leaves to the CPU, with its reasons.
        warnings: its other warnings.
        errors: the messages of Python exceptions, the last one last.
    """

    on_cpu: int | None
    on_npu: int | None
    kept: tuple[KeptBack, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def parse(text: str) -> Transcript:
    """Read a console; what is not known in it is passed over."""
    counts = {side: int(count) for side, count in _COUNT.findall(text)}
    errors = tuple(found.strip().strip("'") for found in _ERROR.findall(text))
    return Transcript(counts.get("CPU"), counts.get("NPU"), _kept(text), tuple(_WARNING.findall(text)), errors)


def _kept(text: str) -> tuple[KeptBack, ...]:
    """The reason stands below the warning, in one line or with a list below it, up to a blank line."""
    found: list[KeptBack] = []
    lines = text.splitlines()
    for position, line in enumerate(lines):
        match = _KEPT.match(line.strip())
        if match is None:
            continue
        reason = lines[position + 1].strip().removeprefix("Reason: ") if position + 1 < len(lines) else ""
        found.append(KeptBack(match[1], match[2], reason))
    return tuple(found)


@dataclass(frozen=True)
class Summary:
    """What Vela estimates of one inference.

    Attributes:
        accelerator: as Vela writes it, ``Ethos_U55_128``.
        inference_s: seconds.
        cycles: of the NPU's clock; all of them, and those of the NPU and of each memory (which overlap).
        memory_bytes: bytes of each memory that are used.
        multiplications: of the network (Vela's nn_macs).
    """

    accelerator: str
    system: str
    memory_mode: str
    clock_hz: float
    inference_s: float
    cycles: Mapping[str, int]
    memory_bytes: Mapping[str, int]
    multiplications: int

    def to_json(self) -> dict[str, Any]:
        """For the manifest; they are Vela's estimates, not measurements."""
        return {
            "accelerator": self.accelerator,
            "system_configuration": self.system,
            "memory_mode": self.memory_mode,
            "clock_hz": self.clock_hz,
            "inference_ms": round(self.inference_s * 1e3, 6),
            "cycles": dict(self.cycles),
            "memory_bytes": dict(self.memory_bytes),
            "multiplications": self.multiplications,
        }


def parse_summary(text: str) -> Summary:
    """Read ``STEM_summary_SYSTEM.csv``.

    Raises:
        ValueError: it is not such a table.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} lines of numbers, not one")
    row = rows[0]
    try:
        cycles = {
            name: round(float(row[f"cycles_{name}"]))
            for name in ("total", "npu", *(f"{memory}_access" for memory in MEMORIES))
        }
        return Summary(
            row["accelerator_configuration"],
            row["system_config"],
            row["memory_mode"],
            float(row["core_clock"]),
            float(row["inference_time"]),
            cycles,
            {memory: round(float(row[f"{memory}_memory_used"]) * KIB) for memory in MEMORIES},
            round(float(row["nn_macs"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the column {error} is missing") from error
