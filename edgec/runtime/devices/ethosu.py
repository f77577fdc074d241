"""Arm Ethos-U NPUs: part of microcontrollers, and on Linux systems with one behind the kernel's ethosu driver."""

from __future__ import annotations

from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, summary

TITLE: Final = "Arm Ethos-U NPU"


def probe(host: Host | None = None) -> Report:
    """The NPUs of a Linux system that has one (i.MX 93); on every other host there is none."""
    host = host or Host()
    devices = []
    for number, path in enumerate(host.files("dev/ethosu[0-9]*")):
        reason = host.refusal(path)
        state = State.UNUSABLE if reason else State.PRESENT
        devices.append(Device("Ethos-U", f"ethosu:{number}", state=state, reason=reason, driver="ethosu kernel driver"))
    reason = "none on this host: it is part of microcontrollers; the target compiles and its compiler estimates cycles"
    return summary("ethosu", TITLE, tuple(devices), "" if devices else reason)
