"""List OpenCL platforms and devices as JSON on standard output.

A program of its own: an OpenCL driver may abort the process that asks it (an incompatible compiler inside it, a broken
device), and that must not be edgec.  Source: the OpenCL 3.0 API specification, clGetPlatformIDs, clGetDeviceInfo.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import sys
from typing import Any

_PLATFORM_VERSION, _PLATFORM_NAME, _PLATFORM_VENDOR = 0x0901, 0x0902, 0x0903
_DEVICE_TYPE, _COMPUTE_UNITS, _GLOBAL_MEMORY, _AVAILABLE, _COMPILER = 0x1000, 0x1002, 0x101F, 0x1027, 0x1028
_DEVICE_NAME, _DEVICE_VENDOR, _DRIVER_VERSION, _DEVICE_VERSION = 0x102B, 0x102C, 0x102D, 0x102F
_EXTENSIONS, _HALF_WIDTH = 0x1030, 0x103C
_ALL_DEVICES = 0xFFFFFFFF
_TYPES = {1 << 1: "CPU", 1 << 2: "GPU", 1 << 3: "accelerator", 1 << 4: "custom"}


def list_platforms(library: Any) -> list[dict[str, Any]]:
    """Every platform with its devices; a platform without devices is listed too.

    Raises:
        RuntimeError: the loader answers with an error.
    """
    count = ctypes.c_uint()
    status = library.clGetPlatformIDs(0, None, ctypes.byref(count))
    if status == -1001:  # CL_PLATFORM_NOT_FOUND_KHR
        return []
    if status != 0:
        raise RuntimeError(f"clGetPlatformIDs: error {status}")
    platforms = (ctypes.c_void_p * max(count.value, 1))()
    library.clGetPlatformIDs(count.value, platforms, None)
    return [_platform(library, ctypes.c_void_p(handle)) for handle in platforms[: count.value]]


def _platform(library: Any, handle: ctypes.c_void_p) -> dict[str, Any]:
    def text(what: int) -> str:
        return _text(library.clGetPlatformInfo, handle, what)

    count = ctypes.c_uint()
    kinds = ctypes.c_ulonglong(_ALL_DEVICES)
    status = library.clGetDeviceIDs(handle, kinds, 0, None, ctypes.byref(count))
    number = count.value if status == 0 else 0
    devices = (ctypes.c_void_p * max(number, 1))()
    if number:
        library.clGetDeviceIDs(handle, kinds, number, devices, None)
    return {
        "name": text(_PLATFORM_NAME),
        "vendor": text(_PLATFORM_VENDOR),
        "version": text(_PLATFORM_VERSION),
        "devices": [_device(library, ctypes.c_void_p(device)) for device in devices[:number]],
    }


def _device(library: Any, handle: ctypes.c_void_p) -> dict[str, Any]:
    def text(what: int) -> str:
        return _text(library.clGetDeviceInfo, handle, what)

    def number(what: int, kind: Any) -> int:
        value = kind()
        library.clGetDeviceInfo(handle, what, ctypes.c_size_t(ctypes.sizeof(value)), ctypes.byref(value), None)
        return int(value.value)

    kinds = number(_DEVICE_TYPE, ctypes.c_ulonglong)
    return {
        "name": text(_DEVICE_NAME),
        "vendor": text(_DEVICE_VENDOR),
        "version": text(_DEVICE_VERSION),
        "driver": text(_DRIVER_VERSION),
        "type": next((name for bit, name in _TYPES.items() if kinds & bit), "other"),
        "compute_units": number(_COMPUTE_UNITS, ctypes.c_uint),
        "memory": number(_GLOBAL_MEMORY, ctypes.c_ulonglong),
        "available": bool(number(_AVAILABLE, ctypes.c_uint)),
        "compiler": bool(number(_COMPILER, ctypes.c_uint)),
        "float16": "cl_khr_fp16" in text(_EXTENSIONS).split(),
    }


def _text(function: Any, handle: ctypes.c_void_p, what: int) -> str:
    size = ctypes.c_size_t()
    if function(handle, what, ctypes.c_size_t(0), None, ctypes.byref(size)) != 0 or not size.value:
        return ""
    buffer = ctypes.create_string_buffer(size.value)
    function(handle, what, size, buffer, None)
    return buffer.value.decode("utf-8", "replace").strip()


def list_with_pyopencl(module: Any) -> list[dict[str, Any]]:
    """The same through pyopencl, whose wheels bring a loader of their own that finds other drivers than the system's.

    Raises:
        RuntimeError: the loader answers with an error.
    """
    try:
        platforms = module.get_platforms()
    except module.LogicError as error:
        if "PLATFORM_NOT_FOUND" in str(error):
            return []
        raise RuntimeError(str(error)) from error
    return [
        {
            "name": platform.name.strip(),
            "vendor": platform.vendor.strip(),
            "version": platform.version.strip(),
            "devices": [
                {
                    "name": device.name.strip(),
                    "vendor": device.vendor.strip(),
                    "version": device.version.strip(),
                    "driver": device.driver_version.strip(),
                    "type": next((name for bit, name in _TYPES.items() if device.type & bit), "other"),
                    "compute_units": device.max_compute_units,
                    "memory": device.global_mem_size,
                    "available": bool(device.available),
                    "compiler": bool(device.compiler_available),
                    "float16": "cl_khr_fp16" in device.extensions.split(),
                }
                for device in platform.get_devices()
            ],
        }
        for platform in platforms
    ]


def main() -> None:
    """``python opencl_list.py LIBRARY``: through pyopencl where it is installed, else through this library."""
    try:
        if importlib.util.find_spec("pyopencl") is not None:
            found = list_with_pyopencl(importlib.import_module("pyopencl"))
        else:
            found = list_platforms(ctypes.CDLL(sys.argv[1]))
        document = {"platforms": found, "problem": ""}
    except (ImportError, OSError, RuntimeError) as error:
        document = {"platforms": [], "problem": str(error)}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
