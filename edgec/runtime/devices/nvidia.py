"""NVIDIA GPUs, by NVML and the driver's device files."""

from __future__ import annotations

from typing import Final

from edgec.runtime.devices.base import Device, Host, Report, State, summary
from edgec.runtime.devices.nvml import Nvml, NvmlError

TITLE: Final = "NVIDIA GPU"
VENDOR: Final = "0x10de"


def probe(host: Host | None = None) -> Report:
    """Every GPU that the driver knows; without a working driver, whether a card or a half-installed driver is there."""
    host = host or Host()
    try:
        library = Nvml(host.load)
        driver = f"NVIDIA {library.driver()}, CUDA {library.cuda()}"
        count = library.count()
    except NvmlError as error:
        return _without_driver(host, error)
    devices = []
    for index in range(count):
        address = f"cuda:{index}"
        try:
            board = library.board(index)
        except NvmlError as error:
            devices.append(Device(f"GPU {index}", address, driver=driver, state=State.UNUSABLE, reason=str(error)))
            continue
        reason = "" if host.files("dev/nvidia[0-9]*") else "the driver is loaded, but there is no /dev/nvidia* here"
        devices.append(
            Device(
                board.name,
                address,
                f"compute capability {board.compute}",
                board.memory_total,
                driver,
                State.UNUSABLE if reason else State.PRESENT,
                reason,
                {
                    "uuid": board.uuid,
                    "memory_used": board.memory_used,
                    "temperature_c": board.temperature_c,
                    "clock_mhz": board.clock_mhz,
                    "clock_maximum_mhz": board.clock_maximum_mhz,
                },
            )
        )
    if not devices:
        return _without_driver(host, NvmlError("the driver runs, but lists no GPU"))
    help = "start the container with the GPU's device files (--gpus all)"
    return summary("nvidia", TITLE, tuple(devices), help=help)


def _without_driver(host: Host, error: NvmlError) -> Report:
    cards = [path for path in host.files("sys/bus/pci/devices/*/vendor") if path.read_text().strip() == VENDOR]
    files = host.files("dev/nvidia[0-9]*")
    loaded = (host.root / "proc/driver/nvidia/version").exists()
    if error.missing and not (cards or files or loaded):
        return Report("nvidia", TITLE, State.ABSENT, "no NVIDIA card, and no driver")
    found = [
        text for text, there in (("a card", cards), ("device files", files), ("the kernel module", loaded)) if there
    ]
    reason = f"there is {' and '.join(found)}, but {error}" if found else str(error)
    help = "install the NVIDIA driver of the host's version; in a container, start it with --gpus all"
    return Report("nvidia", TITLE, State.UNUSABLE, reason, help)
