"""The devices of this machine, one module per kind; each answers present, absent, or present but unusable because."""

from __future__ import annotations

import importlib
from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State

KINDS: Final = ("cpu", "nvidia", "opencl", "vulkan", "mali", "fpga", "ascend", "qualcomm", "ethosu")
"""The modules, in the order of a report."""

__all__ = ["KINDS", "Device", "Host", "Report", "State", "probe"]


def probe(kind: str, host: Host | None = None) -> Report:
    """The answer of one kind."""
    module = importlib.import_module(f"edgec.runtime.devices.{kind}")
    report: Report = module.probe(host)
    return report
