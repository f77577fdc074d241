"""How a lowering says that it cannot express its node."""

from __future__ import annotations

from typing import NoReturn


class Refused(Exception):
    """A lowering cannot express its node; carries the rule, the reason and what would help."""

    def __init__(self, reason: str, help: str = "", rule: str = "EDG231"):
        super().__init__(reason)
        self.reason, self.help, self.rule = reason, help, rule


def refuse(reason: str, help: str = "", rule: str = "EDG231") -> NoReturn:
    """Refuse the node at hand."""
    raise Refused(reason, help, rule)
