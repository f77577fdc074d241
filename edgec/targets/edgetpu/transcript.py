"""Read what ``edgetpu_compiler`` prints, versions 2 to 16, and its operation log.

Source: transcripts in github.com/google-coral/edgetpu issues 75, 147, 411, 420, 433, 512, 557, 643, 656 and 708, and
tests/edgetpu_compiler_tests.py of the same repository.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = re.compile(r"^Edge TPU Compiler version (\d+(?:\.\d+)*)", re.MULTILINE)
_SIZE: Final = re.compile(r"^([0-9.]+)\s*(B|KiB|MiB|GiB)$")
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ROW: Final = re.compile(r"^(\S+)\s+(\d+)\s{2,}(\S.*?)\s*$")

MAPPED: Final = "Mapped to Edge TPU"


@dataclass(frozen=True)
class OperatorRow:
    """A row of the operation table: the same operator stands in one row per status."""

    operator: str
    count: int
    status: str


@dataclass(frozen=True)
class ModelReport:
    """What the compiler says of one model that it compiled; None where it did not say.

    Attributes:
        cached_bytes, remaining_bytes, streamed_bytes: parameter memory; rounded, as they are printed in two decimals.
        on_device, on_cpu: numbers of operators; a full mapping prints neither.
    """

    input: str
    output: str = ""
    log: str = ""
    milliseconds: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    cached_bytes: int | None = None
    remaining_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operators: int | None = None
    on_device: int | None = None
    on_cpu: int | None = None
    rows: tuple[OperatorRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the manifest; the time that it took is left out, so that manifests do not change from run to run."""
        return {
            "input": self.input,
            "output": self.output,
            "cached_bytes": self.cached_bytes,
            "remaining_bytes": self.remaining_bytes,
            "streamed_bytes": self.streamed_bytes,
            "subgraphs": self.subgraphs,
            "operators": self.operators,
            "on_device": self.on_device,
            "on_cpu": self.on_cpu,
            "rows": [{"operator": row.operator, "count": row.count, "status": row.status} for row in self.rows],
        }


@dataclass(frozen=True)
class Transcript:
    """A whole run.

    Attributes:
        version: ``16.0.384591198``, or empty.
        models: in the order in which they were compiled.
        failures: the lines that say why something was not compiled.
        warnings: lines that begin with a warning.
    """

    version: str
    models: tuple[ModelReport, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def major(self) -> int:
        """16, or 0 where the version is unknown."""
        return int(self.version.split(".")[0]) if self.version else 0


FAILURES: Final = (
    "Invalid model",
    "Model not quantized",
    "Model could not be parsed",
    "Internal compiler error",
    "Compilation failed",
    "ERROR:",
    "Error opening file",
    "Segmentation fault",
    "Compilation timed out",
)
"""What lines contain that speak of a failure."""

_NUMBERS: Final = {
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operators",
    "Number of operations that will run on Edge TPU": "on_device",
    "Number of operations that will run on CPU": "on_cpu",
}
_TEXTS: Final = {"Output model": "output", "Operation log": "log"}
_SIZES: Final = {
    "Input size": "input_bytes",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "remaining_bytes",
    "On-chip memory available for caching model parameters": "remaining_bytes",
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
}


def parse(text: str) -> Transcript:
    """Read a transcript; whatever is not known in it is passed over."""
    version = VERSION.search(text)
    models: list[dict[str, Any]] = []
    failures: list[str] = []
    warnings: list[str] = []
    milliseconds: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        done = re.match(r"Model compiled successfully in (\d+) ms", stripped)
        if done:
            milliseconds = int(done[1])
            continue
        if any(mark in stripped for mark in FAILURES):
            failures.append(stripped)
            continue
        if stripped.startswith("Warning"):
            warnings.append(stripped)
            continue
        label, separator, value = stripped.partition(": ")
        if separator and label == "Input model":
            models.append({"input": value, "milliseconds": milliseconds, "rows": []})
            milliseconds = None
        elif models:
            _add(models[-1], label, value, line)
    reports = tuple(ModelReport(**{**model, "rows": tuple(model["rows"])}) for model in models)
    return Transcript(version[1] if version else "", reports, tuple(failures), tuple(warnings))


def _add(model: dict[str, Any], label: str, value: str, line: str) -> None:
    if label in _TEXTS:
        model[_TEXTS[label]] = value.strip()
    elif label in _SIZES:
        model[_SIZES[label]] = size(value)
    elif label in _NUMBERS and value.strip().isdigit():
        model[_NUMBERS[label]] = int(value)
    else:
        row = _row(line)
        if row is not None:
            model["rows"].append(row)


def size(text: str) -> int | None:
    """Bytes of ``4.21MiB`` or ``0.00B``, None for anything else."""
    found = _SIZE.match(text.strip())
    return None if found is None else round(float(found[1]) * _UNITS[found[2]])


def _row(line: str) -> OperatorRow | None:
    found = _ROW.match(line)
    if found is None or not found[1].replace("_", "").isupper():
        return None
    return OperatorRow(found[1], int(found[2]), found[3])


def parse_log(text: str) -> tuple[OperatorRow, ...]:
    """The rows of an operation log (``*_edgetpu.log``)."""
    return tuple(row for row in map(_row, text.splitlines()) if row is not None)
