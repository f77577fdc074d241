"""Checks that the session options of every runtime share; each raises EDG040 and says what would fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgec.errors import UsageError


def check_count(name: str, value: Any, unit: str = "") -> None:
    """A whole number of at least 1.

    Raises:
        UsageError: EDG040.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        wanted = f"a number of {unit}" if unit else "a whole number"
        raise UsageError("EDG040", f"{name} must be {wanted}, at least 1, not {value!r}")


def check_flag(name: str, value: Any) -> None:
    """True or False.

    Raises:
        UsageError: EDG040.
    """
    if not isinstance(value, bool):
        raise UsageError("EDG040", f"{name} must be true or false, not {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """One of some words.

    Raises:
        UsageError: EDG040.
    """
    known = list(choices)
    if value not in known:
        raise UsageError("EDG040", f"{name} has no value {value!r}", why=f"known: {', '.join(known)}")
