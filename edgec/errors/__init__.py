"""Every error that edgec can end with: a stable code, an exit code, and what to do next.

The table :data:`CODES` is the single source: exceptions carry a code from it, ``edgec explain CODE`` prints its text,
and ``docs/errors.md`` is generated from it.  Target capability rules have codes too (``EDG4xx``); they register
themselves in ``edgec.targets.rules``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgec.errors import converting, running, usage  # noqa: F401  (they fill CODES)
from edgec.errors.code import (
    CODES,
    EXIT_FAILED,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_MODEL,
    EXIT_OK,
    EXIT_PIPE,
    EXIT_TOOL_FAILED,
    EXIT_TOOL_MISSING,
    EXIT_UNSTABLE,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    Code,
)

__all__ = [
    "CODES",
    "EXIT_FAILED",
    "EXIT_INTERNAL",
    "EXIT_INTERRUPTED",
    "EXIT_MODEL",
    "EXIT_OK",
    "EXIT_PIPE",
    "EXIT_TOOL_FAILED",
    "EXIT_TOOL_MISSING",
    "EXIT_UNSTABLE",
    "EXIT_UNSUPPORTED",
    "EXIT_USAGE",
    "Code",
    "EdgecError",
    "ModelError",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
]


@dataclass
class EdgecError(Exception):
    """An error that a user can act on.

    ``code`` is a key of :data:`CODES` (or of a target's rules); ``message`` says what; ``where`` names the node or
    file; ``why`` gives the reason; ``help`` says what to do next.
    """

    code: str
    message: str
    where: str | None = None
    why: str | None = None
    help: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    exit: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def exit_code(self) -> int:
        if self.exit is not None:
            return self.exit
        known = CODES.get(self.code)
        return known.exit if known else EXIT_INTERNAL

    def __str__(self) -> str:
        lines = [f"{self.code}  {self.message}"]
        for text in (self.where, self.why):
            if text:
                lines.append(f"        {text}")
        if self.help:
            lines.append(f"        Try: {self.help}")
        lines.append(f"        More: edgec explain {self.code}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The error as the ``error`` member of every JSON document."""
        return {
            "code": self.code,
            "exit": self.exit_code,
            "message": self.message,
            "where": self.where,
            "why": self.why,
            "help": self.help,
            "details": self.details,
        }


class ModelError(EdgecError):
    """The model is invalid or hostile (exit 3)."""


class UsageError(EdgecError):
    """The caller asked for something that makes no sense (exit 2)."""


class UnsupportedError(EdgecError):
    """The importer or the target cannot hold the model (exit 4)."""


class VerificationError(EdgecError):
    """The artifact is not what was asked for (exit 1)."""
