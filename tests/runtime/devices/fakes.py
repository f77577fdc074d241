"""Machines that are made up: files, libraries and tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.runtime.devices import Host
from edgec.runtime.process import Outcome


def write(root: Path, files: Mapping[str, str]) -> None:
    """Files with their text below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def nothing(name: str) -> Any:
    """No library."""
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


def host(
    root: Path,
    files: Mapping[str, str] | None = None,
    *,
    libraries: Mapping[str, Any] | None = None,
    tools: Mapping[str, Outcome] | None = None,
) -> Host:
    """A machine with these files, libraries by name, and tools by the name of the program or script."""
    write(root, files or {})

    def load(name: str) -> Any:
        return libraries[name] if libraries and name in libraries else nothing(name)

    def run(arguments: tuple[str, ...]) -> Outcome | None:
        for argument in arguments:
            if tools and Path(argument).name in tools:
                return tools[Path(argument).name]
        if any(Path(argument).suffix == ".py" for argument in arguments):
            return said(json.dumps({"platforms": [], "devices": [], "problem": "no such library"}))
        return None

    return Host(root, load, {}, run)


def said(output: str, status: int = 0) -> Outcome:
    """A tool that printed this."""
    return Outcome(status, None, False, output, 0.1)


def crashed(signal: str) -> Outcome:
    """A tool that a signal ended."""
    return Outcome(None, signal, False, "", 0.1)


class FakeNvml:
    """libnvidia-ml; `broken` maps a function to the status that it gives instead, `lost` is a GPU that fell off."""

    def __init__(
        self, broken: Mapping[str, int] | None = None, gpus: int = 1, lost: int | None = None, throttle: int = 0
    ):
        self.throttle = throttle
        self.broken, self.gpus, self.lost = dict(broken or {}), gpus, lost
        self.millijoules = 5_000

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name == "nvmlErrorString":
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name in self.broken:
                return self.broken[name]
            handler = getattr(FakeNvml, f"_{name}", None)
            return handler(self, *arguments) if handler else 0

        return call

    def _nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        return 15 if index.value == self.lost else 0

    def _nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        buffer.value = b"580.65"
        return 0

    def _nvmlSystemGetCudaDriverVersion(self, version: Any) -> int:
        version._obj.value = 13000
        return 0

    def _nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"NVIDIA H100"
        return 0

    def _nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"GPU-1234"
        return 0

    def _nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 9, 0
        return 0

    def _nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = 80 << 30, 1 << 30
        return 0

    def _nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:
        self.millijoules += 2_000
        energy._obj.value = self.millijoules
        return 0

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, mask: Any) -> int:
        mask._obj.value = self.throttle
        return 0

    def _nvmlDeviceGetTemperature(self, handle: Any, what: Any, value: Any) -> int:
        value._obj.value = 41
        return 0

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, entries: Any) -> int:
        count._obj.value = 1
        entries[0].pid, entries[0].memory = 77, 123 << 20
        return 0
