"""How far quantized models are from the float one on calibration samples.

They run in ONNX Runtime without integer kernels, so that the figure is that of the numbers and not of a machine's
kernels.  A candidate that is clearly no better than its rival on the first samples is not run on the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from math import inf, sqrt
from pathlib import Path
from typing import Final

import numpy as np

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.verification.metrics import Difference
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.quantize import Quantize
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.runtime.session import Session

SAMPLES: Final = 8
"""Most calibration samples that candidates are compared on."""
FIRST: Final = 4
"""Samples after which a candidate may be given up."""
DOUBT: Final = 3.18
"""Standard errors that the mean of :data:`FIRST` differences may be off: the 97.5 % quantile of Student's t for 3
degrees of freedom."""
BYTES: Final = 64 * 2**20
"""Samples are taken until they and the float model's outputs, which stay in memory, fill this."""
THREADS: Final = 2
IN_FLOAT: Final = {"session.disable_quant_qdq": "1"}
"""Computes QuantizeLinear and DequantizeLinear as they stand and everything between them in float, with constants
dequantized once, when the model is loaded.  Source: onnxruntime_session_options_config_keys.h,
``kOrtSessionOptionsDisableQuantQDQ``."""

Feeds = Mapping[str, Array]


@dataclass
class Floats:
    """Calibration samples, taken evenly from all, and what the float model gives for them.

    Attributes:
        outputs: names of the float outputs.
        step: every how many samples one is taken; 0 for none.
        feeds: the samples; fewer where they and the outputs take more than :data:`BYTES`.
        wanted: the float outputs for each of them.
    """

    outputs: list[str]
    step: int
    feeds: list[Feeds] = field(default_factory=list)
    wanted: list[Mapping[str, Array]] = field(default_factory=list)
    _left: int = field(default_factory=lambda: BYTES)

    @classmethod
    def of(cls, model: Model, samples: int | None) -> Floats:
        """Nothing yet.

        Args:
            samples: how many there are; None where that is not known, so that none can be taken.
        """
        graph = model.graph
        outputs = [name for name, value in zip(graph.output_names, graph.outputs) if value.dtype.is_float]
        return cls(outputs, -(-samples // SAMPLES) if samples and outputs else 0)

    @property
    def full(self) -> bool:
        """Whether no more are taken."""
        return self._left <= 0

    def take(self, number: int, feeds: Feeds, results: Mapping[str, Array]) -> None:
        """Keep a sample, if it is one of them, with its results."""
        if not self.step or number % self.step or self.full:
            return
        self.feeds.append(feeds)
        # copies: an array of ONNX Runtime keeps the arena that it lies in, which holds all that was handed out
        self.wanted.append({name: results[name].copy() for name in self.outputs})
        self._left -= sum(array.nbytes for array in (*feeds.values(), *self.wanted[-1].values()))

    @property
    def order(self) -> list[int]:
        """The numbers of the samples, every second one first: those that come first are taken evenly, too."""
        numbers = range(len(self.feeds))
        return [*numbers[::2], *numbers[1::2]]


@dataclass
class Scored:
    """A quantized model and its distance from the float one.

    Attributes:
        model: with QDQ.
        differences: of every sample that was run, in :attr:`Floats.order`, by output.
        gain: over its rival in dB, on these samples; None without a rival.
        given_up: whether the other samples were left out.
    """

    model: Model
    differences: list[Mapping[str, Difference]] = field(default_factory=list)
    gain: float | None = None
    given_up: bool = False

    @property
    def sqnr_db(self) -> float:
        """SQNR in dB of the worst output, all samples taken together."""
        return self._sqnr_of(len(self.differences))

    def gain_over(self, rival: Scored) -> float:
        """What is gained over a rival in dB, on the samples that this was run on."""
        return self.sqnr_db - rival._sqnr_of(len(self.differences))

    def is_hopeless(self, rival: Scored, least: float) -> bool:
        """Whether it does not gain ``least`` dB over a rival, nor would on more samples, as far as these tell."""
        seen = len(self.differences)
        ours, theirs = (np.array([_worst(item) for item in scored.differences[:seen]]) for scored in (self, rival))
        if seen < 2 or not (np.isfinite(ours) & np.isfinite(theirs)).all():
            return False
        gains = ours - theirs
        most = float(gains.mean()) + DOUBT * float(gains.std(ddof=1)) / sqrt(seen)
        return max(most, self.gain_over(rival)) < least

    def _sqnr_of(self, samples: int) -> float:
        together: dict[str, Difference] = {}
        for differences in self.differences[:samples]:
            for name, item in differences.items():
                total = together.setdefault(name, Difference())
                total.error_energy += item.error_energy
                total.reference_energy += item.reference_energy
        return _worst(together)


def _worst(differences: Mapping[str, Difference]) -> float:
    return min((item.sqnr_db for item in differences.values()), default=-inf)


class Judge:
    """Scores quantized models against the float model on calibration samples, taken evenly from all.

    Attributes:
        floats: the samples, and what the float model gives for them.
    """

    def __init__(self, model: Model, data: CalibrationData, folder: Path, samples: int, known: Floats | None):
        self._folder = folder
        self.floats = Floats.of(model, samples)
        if known is not None and known.feeds and known.step == self.floats.step:
            self.floats = known
        elif self.floats.outputs:
            self._run(model, data, samples)

    def _run(self, model: Model, data: CalibrationData, samples: int) -> None:
        with self._opened(model) as session:
            taken = islice(data.samples(model), 0, samples, self.floats.step)
            for number, feeds in zip(count(step=self.floats.step), taken):
                self.floats.take(number, feeds, session.run(feeds))
                if self.floats.full:
                    break

    def score(self, model: Model, chosen: Quantize, rival: Scored | None = None, least: float = 0.0) -> Scored:
        """Quantize a copy of a model and run it on the samples.

        Args:
            rival: it is given up after :data:`FIRST` samples where it clearly does not gain ``least`` dB over this one.
        """
        scored = Scored(copy_model(model))
        chosen.apply(scored.model)
        with self._opened(scored.model) as session:
            for place in self.floats.order:
                found, wanted = session.run(self.floats.feeds[place]), self.floats.wanted[place]
                differences = {name: Difference() for name in self.floats.outputs}
                for name, difference in differences.items():
                    difference.add(wanted[name], found[name])
                scored.differences.append(differences)
                seen = len(scored.differences)
                if rival is not None and seen == FIRST < len(self.floats.feeds) and scored.is_hopeless(rival, least):
                    scored.given_up = True
                    break
        scored.gain = None if rival is None else scored.gain_over(rival)
        return scored

    @contextmanager
    def _opened(self, model: Model) -> Iterator[Session]:
        from edgec.runtime.onnxruntime import open_session

        path = self._folder / "candidate.onnx"
        write_model(model, path)
        session = open_session(path, threads=THREADS, configuration=IN_FLOAT)
        try:
            yield session
        finally:
            session.close()
