"""NVIDIA's management library, called through ctypes: the driver brings it, no package is needed.

Source: NVML API reference, nvml.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

LIBRARY: Final = "libnvidia-ml.so.1"
NOT_SUPPORTED: Final = 3
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
_GPU_TEMPERATURE = 0
_NAME_BYTES = 96


class NvmlError(Exception):
    """NVML cannot be loaded or refuses; the message says why.  ``missing`` tells that there is no driver at all."""

    def __init__(self, message: str, *, missing: bool = False):
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True)
class Board:
    """One GPU as NVML sees it; memory in bytes, clocks in MHz, None where it does not tell."""

    index: int
    name: str
    uuid: str
    compute: str
    memory_total: int
    memory_used: int
    temperature_c: int | None
    clock_mhz: int | None
    clock_maximum_mhz: int | None


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Nvml:
    """The library, initialised.

    Args:
        load: how the library is loaded; tests bring their own.

    Raises:
        NvmlError: there is no driver, or it does not answer.
    """

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL):
        try:
            self._library = load(LIBRARY)
        except OSError as error:
            raise NvmlError(f"no NVIDIA driver: {error}", missing=True) from error
        self._call("nvmlInit_v2")

    def driver(self) -> str:
        """The driver's version."""
        return self._text("nvmlSystemGetDriverVersion")

    def cuda(self) -> str:
        """The newest CUDA that the driver serves, such as ``13.0``."""
        version = ctypes.c_int()
        self._call("nvmlSystemGetCudaDriverVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def count(self) -> int:
        """How many GPUs there are."""
        number = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(number))
        return number.value

    def board(self, index: int) -> Board:
        """What is to be known of one GPU."""
        handle = self._handle(index)
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
        return Board(
            index,
            self._text("nvmlDeviceGetName", handle),
            self._text("nvmlDeviceGetUUID", handle),
            f"{major.value}.{minor.value}",
            memory.total,
            memory.used,
            self._optional("nvmlDeviceGetTemperature", handle, _GPU_TEMPERATURE),
            self._optional("nvmlDeviceGetClockInfo", handle, _SM_CLOCK),
            self._optional("nvmlDeviceGetMaxClockInfo", handle, _SM_CLOCK),
        )

    def energy_joules(self, index: int) -> float:
        """Joules since the driver was loaded.

        Raises:
            NvmlError: GPUs before Volta do not count them.
        """
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle(index), ctypes.byref(millijoules))
        return millijoules.value / 1000

    def throttle_reasons(self, index: int) -> int:
        """Bit mask of why clocks are not higher (nvmlClocksThrottleReason...)."""
        mask = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle(index), ctypes.byref(mask))
        return mask.value

    def memory_used(self, index: int) -> int:
        """Bytes in use on the GPU, by everybody."""
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle(index), ctypes.byref(memory))
        return int(memory.used)

    def process_memory(self, index: int, pid: int) -> int | None:
        """Bytes that a process holds; None where the driver does not tell (inside most containers)."""
        count = ctypes.c_uint(64)
        entries = (_Process * 64)()
        self._call("nvmlDeviceGetComputeRunningProcesses_v3", self._handle(index), ctypes.byref(count), entries)
        for entry in entries[: min(count.value, 64)]:
            if entry.pid == pid and entry.memory != 2**64 - 1:
                return int(entry.memory)
        return None

    def _handle(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def _text(self, function: str, *arguments: Any) -> str:
        buffer = ctypes.create_string_buffer(_NAME_BYTES)
        self._call(function, *arguments, buffer, ctypes.c_uint(_NAME_BYTES))
        return buffer.value.decode("utf-8", "replace")

    def _optional(self, function: str, handle: ctypes.c_void_p, what: int) -> int | None:
        value = ctypes.c_uint()
        try:
            self._call(function, handle, ctypes.c_uint(what), ctypes.byref(value))
        except NvmlError:
            return None
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        try:
            status = getattr(self._library, function)(*arguments)
        except AttributeError as error:
            raise NvmlError(f"the driver is too old: {LIBRARY} has no {function}") from error
        if status != 0:
            raise NvmlError(f"{function}: {self._message(status)}")

    def _message(self, status: int) -> str:
        describe = getattr(self._library, "nvmlErrorString", None)
        if describe is None:
            return f"status {status}"
        describe.restype = ctypes.c_char_p
        text = describe(status)
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else f"status {status}"
