"""Arm Mali and Immortalis GPUs: the kernel driver's device file, and OpenCL on top of it."""

from __future__ import annotations

from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, summary
from edgec.runtime.devices.opencl import describe, platforms_of

TITLE: Final = "Arm Mali GPU"
FILES: Final = "dev/mali[0-9]*"
INSTALL: Final = (
    "install the vendor's user-space driver (libmali with OpenCL); Mesa's panfrost has no OpenCL by default"
)


def probe(host: Host | None = None) -> Report:
    """The GPUs that OpenCL lists as Mali; else whether there is one that OpenCL does not reach."""
    host = host or Host()
    platforms, problem = platforms_of(host)
    devices = tuple(
        describe(platform, entry, f"mali:{index}")
        for platform in platforms
        for index, entry in enumerate(platform["devices"])
        if "mali" in entry["name"].lower() or "immortalis" in entry["name"].lower()
    )
    if devices:
        return summary("mali", TITLE, devices)
    files = host.files(FILES)
    panfrost = [
        path
        for path in host.files("sys/class/drm/renderD*/device/uevent")
        if "panfrost" in path.read_text() or "panthor" in path.read_text()
    ]
    if not files and not panfrost:
        return Report("mali", TITLE, State.ABSENT, "no /dev/mali0, and no panfrost or panthor driver")
    if files:
        reason = host.refusal(files[0]) or f"{host.name_of(files[0])} is there, but OpenCL lists no Mali"
    else:
        reason = "the open driver (panfrost or panthor) runs it, but OpenCL lists no Mali"
    reason += f": {problem}" if problem else ""
    device = Device("Mali", "mali:0", state=State.UNUSABLE, reason=reason)
    return summary("mali", TITLE, (device,), reason, INSTALL)
