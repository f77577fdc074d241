"""Edge TPUs on this machine, through the C interface of ``libedgetpu``.

Source: tflite/public/edgetpu_c.h of github.com/google-coral/libedgetpu.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Final

LIBRARIES: Final = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}
VARIABLE: Final = "EDGEC_EDGETPU_LIBRARY"
INSTALL: Final = (
    "install libedgetpu1-std of Google's Coral repository, or build github.com/google-coral/libedgetpu; "
    f"${VARIABLE} names another file"
)
KINDS: Final = ("pci", "usb")
LOCK_OUT: Final = "plug the device in, or let this user open it (udev rule 99-edgetpu-accelerator.rules, group plugdev)"


@dataclass(frozen=True)
class Device:
    """An Edge TPU: ``usb`` or ``pci``, and where it is.  ``usb:N`` and ``pci:N`` select it in a session."""

    kind: str
    path: str


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        library: the library that was tried.
        version: what it says of itself, empty where it cannot be used.
        problem, help: why it cannot be used, and what to do.
    """

    library: str
    version: str = ""
    devices: tuple[Device, ...] = ()
    problem: str = ""
    help: str = ""


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def library_name(given: str | None = None) -> str:
    """The library: the one given, the one ``$EDGEC_EDGETPU_LIBRARY`` names, or the system's usual name."""
    return given or os.environ.get(VARIABLE) or LIBRARIES.get(sys.platform, LIBRARIES["linux"])


def probe(library: str | None = None) -> Probe:
    """Load the library and ask it for devices; what is missing is in the result, nothing is raised."""
    name = library_name(library)
    try:
        loaded = ctypes.CDLL(name)
    except OSError as error:
        return Probe(name, problem=str(error), help=INSTALL)
    try:
        loaded.edgetpu_version.restype = ctypes.c_char_p
        loaded.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        loaded.edgetpu_list_devices.argtypes = (ctypes.POINTER(ctypes.c_size_t),)
        loaded.edgetpu_free_devices.argtypes = (ctypes.POINTER(_Device),)
        loaded.edgetpu_free_devices.restype = None
        version = (loaded.edgetpu_version() or b"").decode("utf-8", "replace")
        count = ctypes.c_size_t(0)
        listed = loaded.edgetpu_list_devices(ctypes.byref(count))
    except AttributeError as error:
        return Probe(name, problem=f"it is no libedgetpu: {error}", help=INSTALL)
    devices = []
    if listed:
        for index in range(count.value):
            entry = listed[index]
            kind = KINDS[entry.type] if 0 <= entry.type < len(KINDS) else "unknown"
            devices.append(Device(kind, (entry.path or b"").decode("utf-8", "replace")))
        loaded.edgetpu_free_devices(listed)
    return Probe(name, version, tuple(devices), "" if devices else "no device answers", "" if devices else LOCK_OUT)
