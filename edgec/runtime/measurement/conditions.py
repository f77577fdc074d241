"""What the machine was like while something was measured: load, clocks, governor, temperature, throttling, limits.

Everything comes from files that the kernel offers to everyone; what is not there is None.
Source: the kernel's cpufreq, thermal, cgroup-v1 and cgroup-v2 documentation, and proc(5).
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

STOLEN_ABOVE: Final = 0.05
"""Part of the processors' time that the hypervisor may take away."""
THROTTLED_ABOVE: Final = 0.01
"""Part of the time that the container may be held back by its limit."""
CLOCK_ABOVE: Final = 0.10
"""How much the median clock may change, as a part."""


@dataclass(frozen=True)
class Limits:
    """What this process may use: processors (by affinity and by the container's quota), memory in bytes."""

    processors: int
    quota: float | None
    memory: int | None

    @property
    def usable(self) -> float:
        """Processors that it can keep busy."""
        return min(self.processors, self.quota) if self.quota else float(self.processors)


@dataclass(frozen=True)
class Conditions:
    """One look at the machine.

    Attributes:
        at: seconds of the monotonic clock.
        load: load average over one minute.
        busy_s, stolen_s, total_s: processor seconds since boot: not idle; taken by the hypervisor; all of them.
        clocks_mhz: of every processor, where cpufreq tells them.
        governors: the clock governors in use.
        temperatures_c: by the name of the thermal zone.
        throttled: how often processors were throttled because of heat, since boot.
        held_back_s: seconds that the container's limit held this process back, since it began.
        limits: see there.
    """

    at: float
    load: float | None
    busy_s: float | None
    stolen_s: float | None
    total_s: float | None
    clocks_mhz: tuple[float, ...]
    governors: tuple[str, ...]
    temperatures_c: dict[str, float]
    throttled: int | None
    held_back_s: float | None
    limits: Limits

    def to_json(self) -> dict[str, Any]:
        """What is worth keeping beside a number."""
        return {
            "load": self.load,
            "clock_mhz": statistics.median(self.clocks_mhz) if self.clocks_mhz else None,
            "governors": list(self.governors),
            "temperatures_c": self.temperatures_c,
            "limits": asdict(self.limits) | {"usable": self.limits.usable},
        }


def look(root: Path = Path("/")) -> Conditions:
    """The machine as it is now; `root` stands for the file system's."""
    busy, stolen, total = _processors(root)
    return Conditions(
        time.monotonic(),
        _load(root),
        busy,
        stolen,
        total,
        tuple(_number(path) / 1000 for path in _policies(root, "scaling_cur_freq") if _number(path)),
        tuple(sorted({_text(path) for path in _policies(root, "scaling_governor")} - {""})),
        _temperatures(root),
        _throttled(root),
        _held_back(root),
        limits(root),
    )


def between(before: Conditions, after: Conditions, own_s: float = 0.0) -> dict[str, Any]:
    """What happened from one look to the next, as JSON.

    Args:
        own_s: processor seconds that the measured process spent itself.
    """
    seconds = max(after.at - before.at, 1e-9)
    document = after.to_json() | {"seconds": seconds, "busy": None, "others": None, "stolen": None}
    if None not in (before.total_s, after.total_s, before.busy_s, after.busy_s):
        total = max((after.total_s or 0) - (before.total_s or 0), 1e-9)
        busy = (after.busy_s or 0) - (before.busy_s or 0)
        document["busy"] = busy / total
        document["others"] = max(busy - own_s, 0.0) / total
        document["stolen"] = ((after.stolen_s or 0) - (before.stolen_s or 0)) / total
    document["throttled"] = _difference(before.throttled, after.throttled)
    held = _difference(before.held_back_s, after.held_back_s)
    document["held_back"] = held / seconds if held is not None else None
    return document


def reasons(before: Conditions, after: Conditions) -> list[str]:
    """What happened to the machine that forbids quoting a number."""
    happened = between(before, after)
    found = []
    if happened["throttled"]:
        found.append(f"processors were throttled because of heat {happened['throttled']} times")
    if (happened["held_back"] or 0) > THROTTLED_ABOVE:
        found.append(f"the container's processor limit held it back {happened['held_back']:.0%} of the time")
    if (happened["stolen"] or 0) > STOLEN_ABOVE:
        found.append(f"the hypervisor took away {happened['stolen']:.0%} of the processors' time")
    if before.clocks_mhz and after.clocks_mhz:
        first, last = statistics.median(before.clocks_mhz), statistics.median(after.clocks_mhz)
        if abs(last / first - 1) > CLOCK_ABOVE and "performance" not in after.governors:
            found.append(f"the clock went from {first:.0f} to {last:.0f} MHz (governor {', '.join(after.governors)})")
    if before.governors != after.governors:
        found.append(f"the governor went from {', '.join(before.governors)} to {', '.join(after.governors)}")
    return found


def limits(root: Path = Path("/")) -> Limits:
    """What the affinity and the container let this process use, the narrowest of all enclosing groups."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas: list[float] = []
    memories: list[int] = []
    for folder in _groups(root, "cpu", "cpuacct"):
        maximum = _text(folder / "cpu.max").split()
        if len(maximum) == 2 and maximum[0].isdigit():
            quotas.append(int(maximum[0]) / int(maximum[1]))
        period, quota = _number(folder / "cpu.cfs_period_us"), _number(folder / "cpu.cfs_quota_us")
        if period > 0 and quota > 0:
            quotas.append(quota / period)
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            value = _number(folder / name)
            if 0 < value < 1 << 62:
                memories.append(int(value))
    return Limits(affinity, min(quotas, default=None), min(memories, default=None))


def _groups(root: Path, *controllers: str) -> list[Path]:
    """The folders of this process's control group and of all that enclose it: version 2, then the controller's own."""
    found: list[Path] = []
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (line.split(":", 2) + ["", ""])[:3]
        if names and not set(names.split(",")) & set(controllers):
            continue
        for top in (base, base / "unified") if not names else (base / names, base / names.split(",")[0]):
            inner = (top / path.lstrip("/")).parts
            found.extend(Path(*inner[:length]) for length in range(len(inner), len(top.parts) - 1, -1))
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _processors(root: Path) -> tuple[float | None, float | None, float | None]:
    fields = _text(root / "proc/stat").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None, None, None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, waiting, hard, soft, stolen = (int(field) / ticks for field in fields[1:9])
    busy = user + nice + system + hard + soft + stolen
    return busy, stolen, busy + idle + waiting


def _load(root: Path) -> float | None:
    text = _text(root / "proc/loadavg").split()
    return float(text[0]) if text else None


def _policies(root: Path, name: str) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}"))


def _temperatures(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _text(zone / "temp")
        if value.lstrip("-").isdigit():
            name = _text(zone / "type") or zone.name
            found[name if name not in found else f"{name} {zone.name}"] = int(value) / 1000
    return found


def _throttled(root: Path) -> int | None:
    paths = list((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return sum(int(_number(path)) for path in paths) if paths else None


def _held_back(root: Path) -> float | None:
    """Seconds; ``throttled_usec`` of version 2, ``throttled_time`` (nanoseconds) of version 1."""
    for folder in _groups(root, "cpu", "cpuacct"):
        entries = dict(line.split(None, 1) for line in _text(folder / "cpu.stat").splitlines() if " " in line)
        if "throttled_usec" in entries:
            return int(entries["throttled_usec"]) / 1e6
        if "throttled_time" in entries:
            return int(entries["throttled_time"]) / 1e9
    return None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not offered by this kernel, or not to this user
        return ""


def _number(path: Path) -> float:
    """The number in a file; 0 where there is none."""
    text = _text(path)
    return float(text) if text.lstrip("-").isdigit() else 0.0
