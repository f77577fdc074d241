"""What a target's rules say of one operator, and the book in which they are kept.

    BOOK = Rulebook[Callable[[FlatOperator], Judgement]]("edgetpu")

    @BOOK.rule("EDG412", "resize factor", operators="RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR")
    def resize_factor(operator: FlatOperator) -> Judgement:
        ...  # its docstring is the documentation

What else a rule has to know than the operator is the target's: it says so in the type of its rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from edgec.targets.base import Verdict
from edgec.targets.rules import define


@dataclass(frozen=True)
class Judgement:
    """What a rule says of one operator: the verdict, the reason, and what would help."""

    verdict: Verdict = Verdict.OK
    reason: str = ""
    help: str = ""


OK: Final = Judgement()


def unsupported(reason: str, help: str = "") -> Judgement:
    """The operator runs on the CPU."""
    return Judgement(Verdict.UNSUPPORTED, reason, help)


def uncertain(reason: str, help: str = "") -> Judgement:
    """Nobody knows until it is compiled."""
    return Judgement(Verdict.UNCERTAIN, reason, help)


Judge = TypeVar("Judge", bound=Callable[..., Judgement])


@dataclass(frozen=True)
class JudgingRule(Generic[Judge]):
    """A rule of a target: its code, and for which operators it is asked (empty for all)."""

    code: str
    judge: Judge
    operators: tuple[str, ...] = ()


class Rulebook(list[JudgingRule[Judge]]):
    """Rules of one target in the order in which they are asked."""

    def __init__(self, target: str):
        super().__init__()
        self.target: Final = target

    def rule(self, code: str, title: str, operators: str = "") -> Callable[[Judge], Judge]:
        """Register a rule for the operators named (separated by blanks), or for all.

        Raises:
            ValueError: the code is malformed or taken, or the documentation names no source.
        """

        def register(judge: Judge) -> Judge:
            define(code, target=self.target, title=title, documentation=inspect.getdoc(judge) or "")
            self.append(JudgingRule(code, judge, tuple(operators.split())))
            return judge

        return register
