"""List Vulkan devices as JSON on standard output.

A program of its own, as drivers may crash the process that asks them.  Source: the Vulkan specification,
VkInstanceCreateInfo, VkPhysicalDeviceProperties, VkPhysicalDeviceMemoryProperties.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

_TYPES = ("other", "integrated GPU", "discrete GPU", "virtual GPU", "CPU")
_DEVICE_LOCAL = 1
_RESULTS = {-1: "out of host memory", -3: "initialisation failed", -9: "the driver is incompatible (no driver)"}


class _Application(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api", ctypes.c_uint32),
    )


class _Create(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_Application)),
        ("layers", ctypes.c_uint32),
        ("layer_names", ctypes.c_void_p),
        ("extensions", ctypes.c_uint32),
        ("extension_names", ctypes.c_void_p),
    )


def list_devices(library: Any) -> list[dict[str, Any]]:
    """Every physical device.

    Raises:
        RuntimeError: the loader answers with an error.
    """
    application = _Application(0, None, b"edgec", 1, b"edgec", 1, 1 << 22)
    create = _Create(1, None, 0, ctypes.pointer(application), 0, None, 0, None)
    instance = ctypes.c_void_p()
    result = library.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance))
    if result != 0:
        raise RuntimeError(f"vkCreateInstance: {_RESULTS.get(result, f'error {result}')}")
    try:
        count = ctypes.c_uint32()
        result = library.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        if result != 0:
            raise RuntimeError(f"vkEnumeratePhysicalDevices: {_RESULTS.get(result, f'error {result}')}")
        handles = (ctypes.c_void_p * max(count.value, 1))()
        library.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        return [_device(library, ctypes.c_void_p(handle)) for handle in handles[: count.value]]
    finally:
        library.vkDestroyInstance(instance, None)


def _device(library: Any, handle: ctypes.c_void_p) -> dict[str, Any]:
    properties = ctypes.create_string_buffer(4096)
    library.vkGetPhysicalDeviceProperties(handle, properties)
    api, driver, vendor, device, kind = struct.unpack_from("=5I", properties.raw)
    memory = ctypes.create_string_buffer(4096)
    library.vkGetPhysicalDeviceMemoryProperties(handle, memory)
    return {
        "name": properties.raw[20:276].partition(b"\0")[0].decode("utf-8", "replace"),
        "api": f"{api >> 22 & 0x7F}.{api >> 12 & 0x3FF}.{api & 0xFFF}",
        "driver": f"{driver:#x}",
        "vendor": f"{vendor:#06x}",
        "device": f"{device:#06x}",
        "type": _TYPES[kind] if kind < len(_TYPES) else "other",
        "memory": local_memory(memory.raw),
    }


def local_memory(raw: bytes) -> int:
    """Bytes of the heaps that are on the device, from VkPhysicalDeviceMemoryProperties."""
    (heaps,) = struct.unpack_from("=I", raw, 4 + 32 * 8)
    total = 0
    for index in range(min(heaps, 16)):
        size, flags = struct.unpack_from("=QI", raw, 264 + 16 * index)
        total += size if flags & _DEVICE_LOCAL else 0
    return total


def main() -> None:
    """``python vulkan_list.py LIBRARY``."""
    try:
        document = {"devices": list_devices(ctypes.CDLL(sys.argv[1])), "problem": ""}
    except (OSError, RuntimeError) as error:
        document = {"devices": [], "problem": str(error)}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
