"""What an NVIDIA GPU was like while something was measured on it.

Source: NVML API, nvmlClocksEventReasons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edgec.runtime.devices.nvml import Nvml, NvmlError

THROTTLES: Final = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
FORBID: Final = frozenset({"hardware slowdown", "heat", "heat (hardware)", "power brake"})
"""A power cap is how a GPU always runs under load; these are not."""


def look_at_gpu(device: str, open_library: Callable[[], Nvml] = Nvml) -> dict[str, Any] | None:
    """Clock, temperature and throttling of ``cuda:N`` now, as JSON; None for other devices and a silent NVML."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return None
    try:
        library = open_library()
        board = library.board(int(index or 0))
        mask = library.throttle_reasons(board.index)
    except NvmlError:
        return None
    return {
        "clock_mhz": board.clock_mhz,
        "temperature_c": board.temperature_c,
        "memory_used": board.memory_used,
        "throttled_by": [name for bit, name in THROTTLES.items() if mask & bit],
    }


def device_memory(device: str, process: int, open_library: Callable[[], Nvml] | None = None) -> int | None:
    """Bytes that a process holds on NVIDIA GPUs now; None for devices other than ``cuda:N``, and where NVML is silent.

    What ONNX Runtime's arena and cuDNN have taken stays with the process, so after a warm-up this is the peak.  All
    boards are asked: NVML counts them otherwise than a process with ``CUDA_VISIBLE_DEVICES`` does.
    """
    if not device.startswith("cuda"):
        return None
    try:
        library = (open_library or Nvml)()
        held = [library.process_memory(board, process) for board in range(library.count())]
    except NvmlError:
        return None
    known = [size for size in held if size is not None]
    return sum(known) if known else None


def gpu_reasons(found: dict[str, Any] | None) -> list[str]:
    """What of it forbids quoting a number."""
    held = [name for name in (found or {}).get("throttled_by", ()) if name in FORBID]
    return [f"the GPU was throttled: {', '.join(held)}"] if held else []
