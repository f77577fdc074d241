"""Energy, where the hardware counts it: RAPL for processors, NVML for NVIDIA GPUs.

The counters are those of the whole package or board: other work and idling are in them.
Source: the kernel's Documentation/power/powercap; NVML API, nvmlDeviceGetTotalEnergyConsumption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Meter:
    """A counter of joules.

    Attributes:
        scope: what is counted, such as ``processor packages``.
        problem: why nothing can be read; empty when it can.
    """

    scope: str
    problem: str = ""
    _read: Callable[[], float] | None = None

    def read(self) -> float | None:
        """Joules since some moment in the past; None where nothing can be read."""
        return self._read() if self._read is not None else None


def open_meter(device: str = "cpu", *, root: Path = Path("/")) -> Meter:
    """The meter of a device: ``cpu``, or ``cuda:N``."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return _processors(root)
    if kind == "cuda":
        return _board(int(index or 0))
    return Meter(device, f"nothing counts the energy of '{device}'")


def _processors(root: Path) -> Meter:
    scope = "processor packages"
    zones = sorted(
        zone
        for zone in (root / "sys/class/powercap").glob("intel-rapl:*")
        if zone.name.count(":") == 1 and (zone / "energy_uj").exists()
    )
    if not zones:
        return Meter(scope, "the kernel offers no RAPL counters (virtual machines have none)")
    try:
        packages = [_Package(zone) for zone in zones]
    except PermissionError:
        return Meter(scope, f"{zones[0] / 'energy_uj'} may be read by root only (since CVE-2020-8694)")
    except (OSError, ValueError) as error:
        return Meter(scope, f"RAPL cannot be read: {error}")
    return Meter(scope, "", lambda: sum(package.joules() for package in packages))


class _Package:
    """One RAPL zone; its counter begins anew at ``max_energy_range_uj``, so it is followed."""

    def __init__(self, zone: Path):
        self._path = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._path.read_text())
        self._total = 0

    def joules(self) -> float:
        """Joules since the meter was opened; right as long as it is read once per turn of the counter (minutes)."""
        now = int(self._path.read_text())
        self._total += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now
        return self._total / 1e6


def _board(index: int) -> Meter:
    from edgec.runtime.devices.nvml import Nvml, NvmlError

    scope = "GPU board"
    try:
        library = Nvml()
        library.energy_joules(index)
    except NvmlError as error:
        return Meter(scope, str(error))
    return Meter(scope, "", lambda: library.energy_joules(index))
