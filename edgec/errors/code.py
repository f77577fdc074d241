"""What a kind of error is: a stable code, the exit code that it ends with, and what ``edgec explain`` says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_MODEL: Final = 3
EXIT_UNSUPPORTED: Final = 4
EXIT_TOOL_MISSING: Final = 5
EXIT_TOOL_FAILED: Final = 6
EXIT_UNSTABLE: Final = 7
EXIT_INTERNAL: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE: Final = 141
"""Whoever read the output has gone, such as ``head``: what a shell says of a tool that SIGPIPE (13) ended."""


@dataclass(frozen=True)
class Code:
    """One kind of error: its stable code, the exit code it ends with, a title and the text of ``edgec explain``."""

    code: str
    exit: int
    title: str
    explanation: str


CODES: dict[str, Code] = {}


def define(code: str, exit: int, title: str, explanation: str) -> None:
    """Enter a kind of error into :data:`CODES`."""
    CODES[code] = Code(code, exit, title, explanation)
