"""What an interrupted command says: that nothing half-written was left, and more where there is more to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from edgec.errors import EdgecError


class Advice(NamedTuple):
    """What was left behind, and what to do next."""

    why: str
    help: str | None = None


PLAIN: Final = Advice("nothing half-written was left")
_known: list[Callable[[], Advice]] = []


def advise(make: Callable[[], Advice]) -> None:
    """Let ``make`` say what the interruption of this command leaves; it is called after the clean-up."""
    _known.append(make)


def forget() -> None:
    """Before a command."""
    _known.clear()


def interrupted(where: str | None = None) -> EdgecError:
    """The error of an interrupted command (EDG020)."""
    advice = _known[-1]() if _known else PLAIN
    return EdgecError("EDG020", "interrupted", where=where, why=advice.why, help=advice.help)
