"""Intel (Altera) FPGAs: boards and the emulator, which are OpenCL platforms, and the tools of the SDK."""

from __future__ import annotations

from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, failure, summary
from edgec.runtime.devices.opencl import describe, platforms_of

TITLE: Final = "Intel FPGA"
FILES: Final = ("dev/dfl-fme.*", "dev/intel-fpga-fme.*", "dev/acla*", "dev/aclnalla*")


def probe(host: Host | None = None) -> Report:
    """The boards and the emulator that OpenCL lists as FPGA; else whether a board or the tools are there."""
    host = host or Host()
    platforms, problem = platforms_of(host)
    devices = tuple(
        describe(platform, entry, f"fpga:{index}")
        for platform in platforms
        if "FPGA" in platform["name"]
        for index, entry in enumerate(platform["devices"])
    )
    if devices:
        return summary("fpga", TITLE, devices)
    files = [path for pattern in FILES for path in host.files(pattern)]
    version = host.run(("aocl", "version"))
    if files:
        reason = f"{host.name_of(files[0])} is there, but OpenCL lists no FPGA platform"
        device = Device(
            "FPGA board", "fpga:0", state=State.UNUSABLE, reason=reason + (f": {problem}" if problem else "")
        )
        help = "install the board support package and the FPGA runtime for OpenCL"
        return summary("fpga", TITLE, (device,), help=help)
    if version is not None:
        why = failure(version) or (version.last_lines or ["installed"])[0]
        reason = f"the SDK is here (aocl: {why}), but no board and no emulator platform"
        return Report("fpga", TITLE, State.UNUSABLE, reason, "install a board, or the emulator platform of the SDK")
    return Report("fpga", TITLE, State.ABSENT, "no FPGA platform in OpenCL, no board, and no aocl")
