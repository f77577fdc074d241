"""Capability rules: the named reasons for which a target refuses a node, with the text that users read.

    define("EDG412", target="edgetpu", title="resize factor", documentation=\"""
        Bilinear resize by up to 2 maps to the Edge TPU, by 15 and more it does not.

        Source: ...
    \""")

A target defines its rules when its package is imported, and refuses nodes by their codes
(:class:`edgec.targets.base.Refusal`).  ``edgec explain EDG412``, ``edgec check`` and ``docs/support/`` speak from this
one place.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from edgec.errors import CODES, EXIT_UNSUPPORTED, Code


@dataclass(frozen=True)
class Rule:
    """A rule: its code, the target it belongs to, a title, and its documentation, which ends with the source."""

    code: str
    target: str
    title: str
    documentation: str


RULES: dict[str, Rule] = {}


def define(code: str, *, target: str, title: str, documentation: str) -> None:
    """Register a rule under a stable code (``EDG4xx``).

    Raises:
        ValueError: the code is malformed or taken, or the documentation names no source.
    """
    text = inspect.cleandoc(documentation)
    if not re.fullmatch(r"EDG4\d\d", code) or code in RULES or code in CODES:
        raise ValueError(f"'{code}' is no free rule code EDG4xx")
    if "\nSource: " not in text:
        raise ValueError(f"the documentation of the rule {code} names no source")
    RULES[code] = Rule(code, target, title, text)


def rules_of(target: str) -> list[Rule]:
    """The rules of a target in the order of their codes."""
    return sorted((rule for rule in RULES.values() if rule.target == target), key=lambda rule: rule.code)


def as_code(rule: Rule) -> Code:
    """The rule in the form of an error code, for ``edgec explain``."""
    return Code(rule.code, EXIT_UNSUPPORTED, f"{rule.title} ({rule.target})", rule.documentation)
