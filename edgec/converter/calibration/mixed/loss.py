"""What a conversion loses: a score where the data has labels, else the relative L2 of the worst output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.converter.calibration.mixed.options import CLASSES, RELATIVE_L2, Metric
from edgec.converter.verification.metrics import Difference, class_axis
from edgec.errors import UsageError
from edgec.ir.types import Array

WIDEST: Final = 10 ** (-15 / 20)
"""Relative L2 that the verification accepts (15 dB), whatever else is asked for."""

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Loss:
    """How far a run of all samples is from the float model's.

    Attributes:
        value: score of the float model less that of the artifact (negative where the artifact is better), or the
            relative L2 of the worst output.
        relative_l2: of the worst output, whatever the metric.
        score: of the artifact, where the metric is one.
    """

    value: float
    relative_l2: float
    score: float | None = None

    def within(self, limit: float) -> bool:
        """Whether a loss may be accepted: inside the limit, and close enough for the verification."""
        return self.value <= limit and self.relative_l2 <= WIDEST


class Judge:
    """Compares the outputs of artifacts with those of the float model on the same samples.

    Args:
        expected: outputs of the float model, per sample.
        labels: true classes, per sample; None where the data has none.
        metric: see :class:`edgec.converter.calibration.mixed.options.MixedOptions`.

    Attributes:
        metric: its name.
        float_score: the float model's, None for the relative L2.

    Raises:
        UsageError: EDG037 for a metric that needs labels where there are none, or that do not fit any output.
    """

    def __init__(
        self, expected: Sequence[Outputs], labels: Sequence[Array] | None = None, metric: str | Metric | None = None
    ):
        self.expected, self.labels = expected, labels
        chosen = metric or (next(iter(CLASSES)) if labels is not None else RELATIVE_L2)
        self.metric = chosen if isinstance(chosen, str) else getattr(chosen, "__name__", "function")
        self._score: Metric | None = None
        if chosen != RELATIVE_L2:
            if labels is None:
                raise UsageError("EDG037", f"the metric {self.metric} needs labels", help="in the .npz of --data")
            self._score = chosen if callable(chosen) else Top(CLASSES[chosen], _classes(expected[0], labels[0].size))
        self.float_score = self._scored(expected)

    def loss(self, outputs: Sequence[Outputs]) -> Loss:
        """The loss of an artifact that gave these outputs."""
        found: dict[str, Difference] = {}
        for wanted, actual in zip(self.expected, outputs, strict=True):
            for name, array in wanted.items():
                if array.dtype.kind == "f":
                    found.setdefault(name, Difference()).add(array, actual[name])
        worst = max((_relative(item) for item in found.values()), default=0.0)
        score = self._scored(outputs)
        if score is None or self.float_score is None:
            return Loss(worst, worst)
        return Loss(self.float_score - score, worst, score)

    def _scored(self, outputs: Sequence[Outputs]) -> float | None:
        return None if self._score is None or self.labels is None else float(self._score(outputs, self.labels))


@dataclass(frozen=True)
class Top:
    """The share of labels that are among the ``count`` largest classes of an output."""

    count: int
    output: str

    def __call__(self, outputs: Sequence[Mapping[str, Array]], labels: Sequence[Array]) -> float:
        right = total = 0
        for sample, wanted in zip(outputs, labels, strict=True):
            array = sample[self.output]
            axis = class_axis(array.ndim)
            rows = np.moveaxis(array, -1 if axis is None else axis, -1)
            rows = rows.reshape(-1, rows.shape[-1])
            best = np.argsort(-rows, axis=1, kind="stable")[:, : self.count]
            right += int(np.count_nonzero((best == wanted.reshape(-1, 1)).any(axis=1)))
            total += wanted.size
        return right / total


def _relative(difference: Difference) -> float:
    return math.inf if difference.shapes is not None or difference.infinities else difference.relative_l2


def _classes(outputs: Mapping[str, Array], predictions: int) -> str:
    """The first output that gives as many classes as there are labels.

    Raises:
        UsageError: EDG037 where none does.
    """
    for name, array in outputs.items():
        axis = class_axis(array.ndim)
        extent = array.shape[-1 if axis is None else axis] if array.ndim else 1
        if array.dtype.kind == "f" and extent > 1 and array.size // extent == predictions:
            return name
    shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in outputs.items())
    raise UsageError(
        "EDG037",
        f"the data has {predictions} labels per sample, but no output gives as many classes",
        why=f"outputs: {shapes}",
        help="leave the labels out: the loss is then the relative L2 of the outputs",
    )
