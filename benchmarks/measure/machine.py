"""A description of the machine, so that a number can be read later."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from edgec.runtime.packages import described

PACKAGES = ("ai-edge-litert", "onnxruntime", "onnx", "numpy")


def describe() -> dict[str, object]:
    """Processor, cores, memory, system, load and the versions of the packages that take part."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: described(name) or "not installed" for name in PACKAGES},
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
