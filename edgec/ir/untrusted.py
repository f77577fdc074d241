"""Files that may come from anybody: how they are opened, and what their faults are reported as."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edgec.errors import EdgecError, ModelError

STUMBLES: Final[tuple[type[Exception], ...]] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Python and NumPy raise on contents that contradict themselves."""
CHECKSUM: Final = "get the file again and compare its checksum"


def map_file(file: Path, help: str) -> mmap.mmap:
    """A regular file's bytes, memory-mapped; pipes and devices are not waited for.

    Args:
        help: what to give instead of a folder.

    Raises:
        ModelError: EDG101 when there is no such file, EDG102 when it is empty.
    """
    where = str(file)
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ModelError("EDG101", f"there is no file '{file}'", where=where, help="check the path") from None
    except (OSError, ValueError) as error:
        raise ModelError("EDG101", f"cannot open '{file}'", where=where, why=str(error)) from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ModelError("EDG101", f"'{file}' is no file", where=where, help=help)
        if about.st_size == 0:
            raise ModelError("EDG102", f"'{file}' is empty", where=where, help="copy or export the model again")
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


@contextmanager
def malformed_as_error(path: Path, *more: type[Exception], help: str = CHECKSUM) -> Iterator[None]:
    """Report what malformed contents make Python or NumPy stumble over as EDG109; no file may crash edgec.

    Args:
        more: further exceptions that a parser raises.
    """
    try:
        yield
    except EdgecError:
        raise
    except (*STUMBLES, *more) as error:
        raise ModelError(
            "EDG109",
            f"'{path.name}' is malformed",
            where=str(path),
            why=f"{type(error).__name__}: {str(error).strip()[:300]}",
            help=help,
        ) from error
