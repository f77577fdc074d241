"""Capability rules: small functions that judge one node, whose docstrings are the user's documentation.

    @rule("EDG412", target="edgetpu", title="resize factor")
    def resize_factor(node: Node) -> Judgement:
        '''Bilinear resize by up to 2 maps to the Edge TPU, by 15 and more it does not.

        Source: ...
        '''

``edgec explain EDG412``, ``edgec check`` and the manifest speak from this one place.  A target registers its rules
when its package is imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edgec.errors import CODES, EXIT_UNSUPPORTED, Code
from edgec.ir.graph import Node
from edgec.targets.base import Verdict


@dataclass(frozen=True)
class Judgement:
    """What a rule says of one node: the verdict, the reason in terms of the user's graph, and what would help."""

    verdict: Verdict = Verdict.OK
    reason: str = ""
    help: str = ""


OK = Judgement()


def unsupported(reason: str, help: str = "") -> Judgement:
    """The target cannot hold the node."""
    return Judgement(Verdict.UNSUPPORTED, reason, help)


def uncertain(reason: str, help: str = "") -> Judgement:
    """Nobody knows until it is tried."""
    return Judgement(Verdict.UNCERTAIN, reason, help)


@dataclass(frozen=True)
class Rule:
    """A registered rule: its code, the target it belongs to, and the function that judges."""

    code: str
    target: str
    title: str
    documentation: str
    judge: Callable[[Node], Judgement]


RULES: dict[str, Rule] = {}

Judge = TypeVar("Judge", bound=Callable[[Node], Judgement])


def rule(code: str, *, target: str, title: str) -> Callable[[Judge], Judge]:
    """Register a function under a stable code (``EDG4xx``).

    Raises:
        ValueError: the code is malformed or taken, or the function has no docstring.
    """

    def register(judge: Judge) -> Judge:
        documentation = inspect.getdoc(judge) or ""
        if not re.fullmatch(r"EDG4\d\d", code) or code in RULES or code in CODES:
            raise ValueError(f"'{code}' is no free rule code EDG4xx")
        if not documentation:
            raise ValueError(f"the rule {code} has no docstring, and that is its documentation")
        RULES[code] = Rule(code, target, title, documentation, judge)
        return judge

    return register


def as_code(entry: Rule) -> Code:
    """The rule in the form of an error code, for ``edgec explain``."""
    return Code(entry.code, EXIT_UNSUPPORTED, f"{entry.title} ({entry.target})", entry.documentation)
