"""Vulkan devices, which LiteRT's GPU accelerator on Linux runs on, asked in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, failure, summary

TITLE: Final = "Vulkan device"
LIBRARIES: Final = {"linux": "libvulkan.so.1", "darwin": "libvulkan.1.dylib"}
INSTALL: Final = "install the Vulkan loader (libvulkan1) and the GPU's driver (mesa-vulkan-drivers or the vendor's)"


def probe(host: Host | None = None) -> Report:
    """Every physical device that the loader lists."""
    host = host or Host()
    library = LIBRARIES.get(sys.platform, LIBRARIES["linux"])
    outcome = host.run((sys.executable, "-I", str(Path(__file__).with_name("vulkan_list.py")), library))
    problem = failure(outcome) if outcome is not None else f"{sys.executable} cannot be run"
    if outcome is not None and not problem:
        try:
            document = json.loads(outcome.output.strip().splitlines()[-1])
            entries, problem = document["devices"], document["problem"]
        except (ValueError, KeyError, IndexError):
            problem = "asking the Vulkan drivers gave no answer"
    if problem:
        drivers = host.files("usr/share/vulkan/icd.d/*.json") + host.files("etc/vulkan/icd.d/*.json")
        if drivers:
            names = ", ".join(host.name_of(path) for path in drivers)
            return Report("vulkan", TITLE, State.UNUSABLE, f"drivers are registered ({names}), but {problem}", INSTALL)
        return Report("vulkan", TITLE, State.ABSENT, problem, INSTALL)
    devices = tuple(
        Device(
            entry["name"],
            f"vulkan:{index}",
            f"{entry['type']}, Vulkan {entry['api']}",
            entry["memory"] or None,
            f"driver {entry['driver']}",
            facts={"vendor": entry["vendor"], "device": entry["device"], "type": entry["type"]},
        )
        for index, entry in enumerate(entries)
    )
    return summary("vulkan", TITLE, devices, "the Vulkan loader lists no device", INSTALL)
