"""What a rule says of an operator, and the books in which rules are kept.

A rule is one fact and one small function, whose docstring is the documentation.  It sees one operator of an int8
LiteRT graph.  What the rules say of an operator alone, and what becomes of it behind its neighbours (EDG419), is put
together in :mod:`edgec.targets.edgetpu.mapping`.

Sources named in the rules: "model requirements" is coral.ai/docs/edgetpu/models-intro; "real pairs" are source and
compiled models of github.com/google-coral/test_data, made by compiler 1.0 to 16; "issue N" is of
github.com/google-coral/edgetpu; a "log" is a table of operators that edgetpu_compiler printed and somebody published.
docs/edgetpu-evidence.md holds them against each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.targets.base import Verdict
from edgec.targets.rules import define
from edgec.targets.tflite.graph import FlatOperator, FlatTensor

TARGET: Final = "edgetpu"


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


Judge = Callable[[FlatOperator], Judgement]


@dataclass(frozen=True)
class Rule:
    """A rule of this target: its code, and for which operators it is asked (empty for all)."""

    code: str
    judge: Judge
    operators: tuple[str, ...] = ()


class Rulebook(list[Rule]):
    """Rules in the order in which they are asked."""

    def rule(self, code: str, title: str, operators: str = "") -> Callable[[Judge], Judge]:
        """Register a rule for the operators named (separated by blanks), or for all."""

        def register(judge: Judge) -> Judge:
            define(code, target=TARGET, title=title, documentation=inspect.getdoc(judge) or "")
            self.append(Rule(code, judge, tuple(operators.split())))
            return judge

        return register


def computed(operator: FlatOperator) -> list[FlatTensor]:
    """Operands and results that are no constants."""
    operands = [tensor for tensor in operator.inputs if tensor is not None and not tensor.constant]
    return [*operands, *operator.outputs]


def first(operator: FlatOperator) -> FlatTensor | None:
    """The first operand, None where there is none."""
    return operator.inputs[0] if operator.inputs else None


def parameter(operator: FlatOperator, position: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """A constant operand, None where there is none."""
    tensor = operator.inputs[position] if position < len(operator.inputs) else None
    return None if tensor is None else tensor.values()


def proper(tensor: FlatTensor) -> tuple[int, ...]:
    """The extents that are not 1, an open batch counted as 1."""
    return tuple(extent for extent in tensor.shape if extent not in (1, -1))
