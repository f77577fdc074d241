"""OpenCL devices of every vendor, through the loader (``libOpenCL``), asked in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from edgec.runtime.devices.base import Device, Host, Report, State, failure, summary

TITLE: Final = "OpenCL device"
LIBRARIES: Final = {"linux": "libOpenCL.so.1", "darwin": "/System/Library/Frameworks/OpenCL.framework/OpenCL"}
INSTALL: Final = (
    "install an OpenCL loader and a driver: ocl-icd-libopencl1 and the vendor's package, or pocl-opencl-icd"
)
VENDORS: Final = "etc/OpenCL/vendors"


def probe(host: Host | None = None) -> Report:
    """Every device of every platform."""
    host = host or Host()
    platforms, problem = platforms_of(host)
    if problem:
        drivers = [host.name_of(path) for path in host.files(f"{VENDORS}/*.icd")]
        if drivers:
            reason = f"drivers are registered ({', '.join(drivers)}), but {problem}"
            return Report("opencl", TITLE, State.UNUSABLE, reason, INSTALL)
        return Report("opencl", TITLE, State.ABSENT, problem, INSTALL)
    devices = tuple(
        describe(platform, entry, f"opencl:{number}.{index}")
        for number, platform in enumerate(platforms)
        for index, entry in enumerate(platform["devices"])
    )
    if devices:
        return summary("opencl", TITLE, devices)
    if platforms:
        names = ", ".join(platform["name"] for platform in platforms)
        return Report("opencl", TITLE, State.UNUSABLE, f"platforms without a device: {names}", "check the driver")
    return Report("opencl", TITLE, State.ABSENT, "the OpenCL loader finds no driver", INSTALL)


def describe(platform: dict[str, Any], entry: dict[str, Any], address: str) -> Device:
    """One device of a platform."""
    reason = ""
    if not entry["available"]:
        reason = "the driver says that it is not available"
    elif not entry["compiler"]:
        reason = "the driver has no compiler"
    half = ", float16" if entry["float16"] else ""
    return Device(
        entry["name"],
        address,
        f"{entry['type']}, {entry['compute_units']} compute units{half}, {entry['version']}",
        entry["memory"],
        f"{platform['name']}, {entry['driver']}",
        State.UNUSABLE if reason else State.PRESENT,
        reason,
        {"platform": platform["name"], "vendor": entry["vendor"], "type": entry["type"], "float16": entry["float16"]},
    )


def platforms_of(host: Host) -> tuple[list[dict[str, Any]], str]:
    """What :mod:`edgec.runtime.devices.opencl_list` lists, and why it could not."""
    answer = _listed(host) if host.run is not Host().run else _listed_once()
    return answer


def _listed(host: Host) -> tuple[list[dict[str, Any]], str]:
    library = LIBRARIES.get(sys.platform, LIBRARIES["linux"])
    script = Path(__file__).with_name("opencl_list.py")
    outcome = host.run((sys.executable, "-I", str(script), library))
    if outcome is None:
        return [], f"{sys.executable} cannot be run"
    problem = failure(outcome)
    if problem:
        return [], f"asking the OpenCL drivers failed: {problem}"
    try:
        document = json.loads(outcome.output.strip().splitlines()[-1])
        return list(document["platforms"]), str(document["problem"])
    except (ValueError, KeyError, IndexError):
        return [], "asking the OpenCL drivers gave no answer"


@lru_cache(maxsize=1)
def _listed_once() -> tuple[list[dict[str, Any]], str]:
    """Several kinds of devices ask; the machine is asked once."""
    return _listed(Host())
