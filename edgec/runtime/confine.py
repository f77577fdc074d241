"""Take from a process what it does not need: writing outside of its own folder, and TCP connections (Linux only).

A process that loads somebody's model with somebody's library confines itself first, so that a flaw in the library does
not become a file in the user's home.  It is a second line of defence: where the kernel has no Landlock, the checks made
before remain the only one.  Source: the Linux kernel's userspace-api/landlock and include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1 << 0
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

_WRITE_FILE = 1 << 1
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Writing into files; removing files and folders; making files, folders, links, sockets, pipes and devices."""
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_BIND, _CONNECT = 1 << 0, 1 << 1


def confine(folders: Sequence[str | os.PathLike[str]]) -> bool:
    """Let this thread, and all that it starts, write into these folders and to devices only, and not use TCP.

    Returns:
        Whether the kernel does it.  What it cannot do (older kernels do not know TCP) is left out.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return False
    rights = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    handled = struct.pack("QQ", rights, _BIND | _CONNECT) if version >= 4 else struct.pack("Q", rights)
    ruleset = library.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for folder in folders:
            _allow(library, ruleset, folder, rights)
        _allow(library, ruleset, "/dev", _WRITE_FILE | (_TRUNCATE if version >= 3 else 0))
        if os.path.isdir("/dev/shm"):
            _allow(library, ruleset, "/dev/shm", rights)
        if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        return bool(library.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _allow(library: ctypes.CDLL, ruleset: int, folder: str | os.PathLike[str], rights: int) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        if library.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(folder))
    finally:
        os.close(descriptor)
