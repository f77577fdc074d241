"""Every kind of device on this machine: those that the runtime looks for, and those that a target talks to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from edgec.runtime import devices as runtime
from edgec.runtime.devices import Device, Host, Report, State

if TYPE_CHECKING:
    from edgec.targets.edgetpu import devices as edgetpu

USB: Final = frozenset({("1a6e", "089a"), ("18d1", "9302")})
"""Vendor and product of the Coral accelerator, before and after its firmware is loaded."""
TITLE: Final = "Google Edge TPU"


def discover(host: Host | None = None) -> list[Report]:
    """One report per kind, in a fixed order; nothing that is missing or broken raises."""
    reports = [runtime.probe(kind, host) for kind in runtime.KINDS]
    reports.insert(runtime.KINDS.index("fpga"), edge_tpu(host))
    return reports


def edge_tpu(host: Host | None = None, probe: Callable[[], edgetpu.Probe] | None = None) -> Report:
    """Edge TPUs by libedgetpu; without it, whether one is plugged in."""
    host = host or Host()
    try:
        from edgec.targets.edgetpu import devices
    except ImportError as error:  # LiteRT is missing: what the others are is worth knowing all the same
        return Report("edgetpu", TITLE, State.UNUSABLE, f"the target edgetpu cannot be loaded: {error}", "edgec doctor")
    found = (probe or devices.probe)()
    if found.devices:
        listed = tuple(
            Device(
                f"Edge TPU ({device.kind.upper()})",
                f"{device.kind}:{number}",
                driver=f"{found.library} {found.version}".strip(),
                facts={"path": device.path},
            )
            for number, device in enumerate(found.devices)
        )
        return Report("edgetpu", TITLE, State.PRESENT, devices=listed)
    plugged = [
        path.parent
        for path in host.files("sys/bus/usb/devices/*/idVendor")
        if (path.read_text().strip(), host.text(str((path.parent / "idProduct").relative_to(host.root)))) in USB
    ]
    boards = host.files("dev/apex_*")
    if plugged or boards:
        where = host.name_of((boards or plugged)[0])
        return Report("edgetpu", TITLE, State.UNUSABLE, f"there is one at {where}, but {found.problem}", found.help)
    if found.version:
        return Report("edgetpu", TITLE, State.ABSENT, f"{found.library} is installed, but {found.problem}", found.help)
    return Report("edgetpu", TITLE, State.ABSENT, "none is plugged in, and libedgetpu is not installed", found.help)


def to_json(reports: list[Report]) -> dict[str, Any]:
    """The document of ``edgec devices --json``."""
    kinds = [{**asdict(report), "devices": [asdict(device) for device in report.devices]} for report in reports]
    return {"schema": "edgec-devices-1", "status": "ok", "kinds": kinds}
