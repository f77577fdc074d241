"""What the user says of mixed precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgec.ir.types import Array

RELATIVE_L2: Final = "relative-l2"
CLASSES: Final = {"top-1": 1, "top-5": 5}
"""Metrics of data with labels: how many of the largest classes may be the right one."""
METRICS: Final = (*CLASSES, RELATIVE_L2)

Metric = Callable[[Sequence[Mapping[str, Array]], Sequence[Array]], float]
"""A score, larger is better, of the outputs and the labels of all samples."""


def default_limit(metric: str) -> float:
    """``--max-drop`` where it is not given: 5 % of relative L2, 1 % of a score."""
    return 0.05 if metric == RELATIVE_L2 else 0.01


@dataclass(frozen=True)
class MixedOptions:
    """What a mixed artifact shall lose at most.

    Attributes:
        max_drop: of the loss, a share; see :func:`default_limit`.
        metric: one of :data:`METRICS`, or a function; by default ``top-1`` where the data has labels.
        raise_to: the precision of nodes that are not integers; one of the target's
            :attr:`edgec.targets.base.Target.raises`.
        data: samples to measure the loss on, with labels for accuracy; the calibration's by default.
        isolate: run artifacts in a process of their own.
    """

    max_drop: float | None = None
    metric: str | Metric | None = None
    raise_to: str = "float32"
    data: Path | None = None
    isolate: bool = True
