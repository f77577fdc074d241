"""The form of the Edge TPU's rules, and what they ask of an operator.

A rule is one fact and one small function, whose docstring is the documentation.  It sees one operator of an int8
LiteRT graph.  What the rules say of an operator alone, and what becomes of it behind its neighbours (EDG419), is put
together in :mod:`edgec.targets.edgetpu.mapping`.

Sources named in the rules: "model requirements" is coral.ai/docs/edgetpu/models-intro; "real pairs" are source and
compiled models of github.com/google-coral/test_data, made by compiler 1.0 to 16; "issue N" is of
github.com/google-coral/edgetpu; a "log" is a table of operators that edgetpu_compiler printed and somebody published.
docs/edgetpu-evidence.md holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from edgec.targets.judging import Judgement, JudgingRule, Rulebook
from edgec.targets.tflite.graph import FlatOperator, FlatTensor

TARGET: Final = "edgetpu"

Judge = Callable[[FlatOperator], Judgement]
Rule = JudgingRule[Judge]


def new_book() -> Rulebook[Judge]:
    """Rules of this target, each of which sees one operator."""
    return Rulebook(TARGET)


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
