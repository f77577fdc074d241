"""Huawei Ascend NPUs: device files, ``npu-smi``, and the run-time library of CANN."""

from __future__ import annotations

import re
from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, failure, summary

TITLE: Final = "Ascend NPU"
LIBRARY: Final = "libascendcl.so"
CANN: Final = "install CANN of the driver's version and source its set_env.sh"
_ROW = re.compile(r"^\|\s*(\d+)\s+([0-9A-Za-z_-]+)\s*\|\s*(OK|Warning|Alarm|Critical|UNKNOWN|[A-Za-z]+)\s*\|")


def probe(host: Host | None = None) -> Report:
    """Every NPU that has a device file, with its name where ``npu-smi info`` tells it."""
    host = host or Host()
    files = [path for path in host.files("dev/davinci[0-9]*") if path.name.removeprefix("davinci").isdigit()]
    outcome = host.run(("npu-smi", "info"))
    if not files:
        if outcome is None and not host.files("dev/davinci_manager"):
            return Report("ascend", TITLE, State.ABSENT, "no /dev/davinci*, and no npu-smi")
        found = "npu-smi" if outcome is not None else "/dev/davinci_manager"
        reason = f"there is {found}, but no /dev/davinci0"
        return Report("ascend", TITLE, State.UNUSABLE, reason, "give the container the NPU's device files")
    names = rows(outcome.output) if outcome is not None and not failure(outcome) else {}
    library = _library(host)
    devices = []
    for path in files:
        number = int(path.name.removeprefix("davinci"))
        name, health = names.get(number, ("", ""))
        reason = host.refusal(path) or library
        if not reason and health not in ("", "OK"):
            reason = f"npu-smi reports {health}"
        devices.append(
            Device(
                f"Ascend{name}" if name else "Ascend NPU",
                f"npu:{number}",
                f"Ascend{name}" if name else "",
                driver=_version(host),
                state=State.UNUSABLE if reason else State.PRESENT,
                reason=reason,
                facts={"file": host.name_of(path), "health": health},
            )
        )
    help = "add the user to the group HwHiAiUser" if "opened" in devices[0].reason else CANN
    return summary("ascend", TITLE, tuple(devices), help=help)


def rows(text: str) -> dict[int, tuple[str, str]]:
    """NPU number to name and health, from the table of ``npu-smi info``."""
    found: dict[int, tuple[str, str]] = {}
    for line in text.splitlines():
        match = _ROW.match(line)
        if match and int(match[1]) not in found:
            found[int(match[1])] = (match[2], match[3])
    return found


def _library(host: Host) -> str:
    try:
        host.load(LIBRARY)
    except OSError as error:
        return f"the run-time library cannot be loaded: {error}"
    return ""


def _version(host: Host) -> str:
    for line in host.text("usr/local/Ascend/driver/version.info").splitlines():
        if line.startswith("Version="):
            return f"driver {line.partition('=')[2]}"
    return ""
