"""What keeps an operator off the Edge TPU: all rules, in the order in which they are asked."""

from __future__ import annotations

from typing import Final

from edgec.targets.edgetpu import forms, general, sizes
from edgec.targets.edgetpu.general import KNOWN
from edgec.targets.edgetpu.judging import TARGET, Rule
from edgec.targets.rules import define

__all__ = ["KNOWN", "RULES", "SINGLE_SUBGRAPH"]

RULES: Final[tuple[Rule, ...]] = (*general.BOOK, *forms.BOOK, *sizes.BOOK)
"""The first that says unsupported decides, then the first uncertain one."""

SINGLE_SUBGRAPH: Final = "EDG419"

define(
    SINGLE_SUBGRAPH,
    target=TARGET,
    title="single-subgraph",
    documentation="""
    The compiler makes one Edge TPU subgraph. An operator that has an operator on the CPU before it, which itself has
    one on the Edge TPU before it, would need a second subgraph and stays on the CPU, however simple it is. Operators on
    the CPU at the very start (the QUANTIZE of a float input) strand nothing.

    Source: model requirements (the graph is partitioned once, at the first operation that is not supported); the
    compiler's log says "More than one subgraph is not supported". With this rule all 48 distinct real pairs come out
    right, and so do the counts of the published logs in tests/targets/edgetpu/test_published_logs.py.
    """,
)
