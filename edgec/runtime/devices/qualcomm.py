"""Qualcomm's Hexagon NPU: the FastRPC device files, and the QNN execution provider of ONNX Runtime."""

from __future__ import annotations

import importlib.metadata
from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, summary

TITLE: Final = "Qualcomm Hexagon NPU"
FILES: Final = ("dev/fastrpc-cdsp*", "dev/fastrpc-adsp*", "dev/adsprpc-smd*", "dev/cdsprpc-smd*")
PACKAGE: Final = "onnxruntime-qnn"
LIBRARY: Final = "libQnnHtp.so"


def probe(host: Host | None = None) -> Report:
    """Whether this is a Snapdragon with its NPU reachable, and whether something here can drive it."""
    host = host or Host()
    files = [path for pattern in FILES for path in host.files(pattern)]
    version = _package()
    library = _library(host)
    if not files:
        reason = "no /dev/fastrpc-cdsp: this is no Snapdragon, or its FastRPC driver is not loaded"
        if version:
            reason += f" ({PACKAGE} {version} is installed; it compiles for the NPU, and runs on its own CPU backend)"
        return Report("hexagon", TITLE, State.ABSENT, reason)
    reason = host.refusal(files[0])
    help = "add this user to the group that owns the device file"
    if not reason and version is None and library:
        reason, help = f"neither {PACKAGE} nor {LIBRARY} is here", f"pip install {PACKAGE}, or install the QAIRT SDK"
    chip = host.text("sys/devices/soc0/machine") or host.text("sys/firmware/devicetree/base/model").strip("\0")
    device = Device(
        chip or "Snapdragon",
        "htp:0",
        f"soc id {host.text('sys/devices/soc0/soc_id')}" if host.text("sys/devices/soc0/soc_id") else "",
        driver=f"{PACKAGE} {version}" if version else ("" if library else LIBRARY),
        state=State.UNUSABLE if reason else State.PRESENT,
        reason=reason,
        facts={"files": [host.name_of(path) for path in files]},
    )
    return summary("hexagon", TITLE, (device,), help=help)


def _package() -> str | None:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def _library(host: Host) -> str:
    """Why the library of the SDK cannot be loaded; empty when it can."""
    try:
        host.load(LIBRARY)
    except OSError as error:
        return str(error)
    return ""
