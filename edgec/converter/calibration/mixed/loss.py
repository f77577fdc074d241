"""What a conversion loses: top-1 accuracy where the data has labels, else the relative L2 of the worst output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgec.converter.calibration.mixed.options import ACCURACY, RELATIVE_L2
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
        value: accuracy of the float model less that of the artifact (negative where the artifact is better), or the
            relative L2 of the worst output.
        relative_l2: of the worst output, whatever the metric.
        accuracy: of the artifact, where there are labels.
    """

    value: float
    relative_l2: float
    accuracy: float | None = None

    def within(self, limit: float) -> bool:
        """Whether a loss may be accepted: inside the limit, and close enough for the verification."""
        return self.value <= limit and self.relative_l2 <= WIDEST


@dataclass
class Judge:
    """Compares the outputs of artifacts with those of the float model on the same samples.

    Attributes:
        expected: outputs of the float model, per sample.
        labels: true classes, per sample one per prediction; None for the relative L2.
    """

    expected: Sequence[Outputs]
    labels: Sequence[Array] | None = None
    output: str | None = field(default=None, init=False)
    float_accuracy: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.labels is not None:
            self.output = _classes(self.expected[0], self.labels[0].size)
            self.float_accuracy = self._accuracy(self.expected)

    @property
    def metric(self) -> str:
        """What the loss is measured in."""
        return RELATIVE_L2 if self.labels is None else ACCURACY

    def loss(self, outputs: Sequence[Outputs]) -> Loss:
        """The loss of an artifact that gave these outputs."""
        found: dict[str, Difference] = {}
        for wanted, actual in zip(self.expected, outputs, strict=True):
            for name, array in wanted.items():
                if array.dtype.kind == "f":
                    found.setdefault(name, Difference()).add(array, actual[name])
        worst = max((_relative(item) for item in found.values()), default=0.0)
        if self.labels is None or self.float_accuracy is None:
            return Loss(worst, worst)
        accuracy = self._accuracy(outputs)
        return Loss(self.float_accuracy - accuracy, worst, accuracy)

    def _accuracy(self, outputs: Sequence[Outputs]) -> float:
        assert self.labels is not None and self.output is not None
        right = total = 0
        for sample, labels in zip(outputs, self.labels, strict=True):
            array = sample[self.output]
            axis = class_axis(array.ndim)
            predicted = np.argmax(array, -1 if axis is None else axis).reshape(-1)
            right += int(np.count_nonzero(predicted == labels.reshape(-1)))
            total += labels.size
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
