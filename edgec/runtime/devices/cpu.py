"""Processors: model, cores, instruction sets that kernels are written for, governor, and what a container allows."""

from __future__ import annotations

import os
import platform
from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State
from edgec.runtime.measurement.conditions import limits, look

FEATURES: Final = (
    "sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 "
    "amx_bf16 neon asimd fp asimdhp fphp asimddp asimdfhm i8mm bf16 sve sve2 sme rvv v"
).split()
"""Flags of /proc/cpuinfo that kernels of ONNX Runtime, XNNPACK or OpenCL runtimes choose by."""


def probe(host: Host | None = None) -> Report:
    """The processor of this machine; there always is one."""
    host = host or Host()
    information = _information(host)
    allowed = limits(host.root)
    conditions = look(host.root)
    flags = set((information.get("flags") or information.get("Features") or "").split())
    features = [feature for feature in FEATURES if feature in flags]
    name = information.get("model name") or _part(information) or platform.processor() or platform.machine()
    facts = {
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "allowed": allowed.processors,
        "quota": allowed.quota,
        "usable": allowed.usable,
        "memory_limit": allowed.memory,
        "features": features,
        "governors": list(conditions.governors),
        "clock_mhz": list(conditions.clocks_mhz),
        "temperatures_c": conditions.temperatures_c,
        "load": conditions.load,
        "virtual": "hypervisor" in flags,
    }
    cores = f"{allowed.processors} cores" + (f", limited to {allowed.quota:g}" if allowed.quota else "")
    device = Device(
        name.strip(),
        "cpu",
        f"{cores}; {' '.join(_shown(features))}".rstrip("; "),
        _memory(host, allowed.memory),
        platform.release() if host.root == Host().root else "",
        facts=facts,
    )
    return Report("cpu", "processor", State.PRESENT, devices=(device,))


def _information(host: Host) -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo."""
    found: dict[str, str] = {}
    for line in host.text("proc/cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() not in found:
            found[key.strip()] = value.strip()
    return found


def _part(information: dict[str, str]) -> str:
    """Arm gives numbers instead of a name."""
    if "CPU part" not in information:
        return ""
    return f"Arm implementer {information.get('CPU implementer', '?')} part {information['CPU part']}"


def _shown(features: list[str]) -> list[str]:
    """Without what newer ones imply."""
    implied = {"avx2": ("sse4_2", "avx", "f16c", "fma"), "avx512f": ("avx2",), "asimd": ("fp", "neon")}
    hidden = {old for new, olds in implied.items() if new in features for old in olds}
    return [feature for feature in features if feature not in hidden]


def _memory(host: Host, limit: int | None) -> int | None:
    for line in host.text("proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
            return min(total, limit) if limit else total
    return limit
