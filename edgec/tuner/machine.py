"""The machine that a study belongs to: times of another one do not compare."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from edgec.converter.manifest import package_version

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "ethos-u-vela", "optuna", "numpy")


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Bytes of the machine's memory, which no worker has to exceed; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def describe_machine() -> dict[str, Any]:
    """Processor, how many of them, system, and the versions of what is measured with."""
    return {
        "processor": _processor(),
        "processors": processors(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := package_version(name)) is not None},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
