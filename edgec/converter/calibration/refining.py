"""Keep of equalisation and bias correction what measurably helps.

The calibration samples are run through the float model and through each quantized candidate, in ONNX Runtime without
integer kernels, so that the figure is that of the numbers and not of a machine's kernels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.saturation import distinguished
from edgec.converter.calibration.statistics import Calibration
from edgec.converter.verification.metrics import Difference
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.equalise import Equalise, Scaled
from edgec.ir.passes.quantize import Quantize
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.runtime.session import Session

SAMPLES: Final = 8
"""Most calibration samples that candidates are compared on."""
BYTES: Final = 64 * 2**20
"""Samples are taken until they and the float model's outputs, which stay in memory, fill this."""
THREADS: Final = 2
IN_FLOAT: Final = {"session.disable_quant_qdq": "1"}
"""Computes QuantizeLinear and DequantizeLinear as they stand and everything between them in float, with constants
dequantized once, when the model is loaded.  Source: onnxruntime_session_options_config_keys.h,
``kOrtSessionOptionsDisableQuantQDQ``."""
EQUALISATION: Final = "equalisation"
BIAS_CORRECTION: Final = "bias-correction"
GAIN_DB: Final = 0.1
"""What a change must gain in SQNR to be kept."""
GAIN_PER_OPERATOR_DB: Final = 0.02
"""What it must gain besides for every operator that it adds."""
PLENTY_DB: Final = 35.0
"""From here on nothing is tried: what could be gained is not worth the runs."""

Feeds = Mapping[str, Array]


@dataclass
class Refined:
    """What was chosen.

    Attributes:
        model: the float model, equalised where that helps.
        quantize: the pass to apply to it.
        used: names of the changes that were kept.
        scores: names of the changes of a candidate, joined by ``+``, to its SQNR in dB; ``none`` without any.
        added: operators that equalisation added.
        samples: how many samples were compared.
    """

    model: Model
    quantize: Quantize
    used: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    added: int = 0
    samples: int = 0

    @property
    def score(self) -> float:
        """SQNR of what was chosen, in dB; minus infinity where nothing could be compared."""
        return self.scores.get(_label(self.used), -inf)

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "used": list(self.used),
            "operators_added": self.added,
            "samples": self.samples,
            "sqnr_db": {name: round(score, 2) if isfinite(score) else None for name, score in self.scores.items()},
        }

    @property
    def note(self) -> str:
        """What the user reads."""
        kept = " and ".join(self.used) or "neither equalisation nor bias-correction"
        tried = ", ".join(f"{score:.1f} dB with {name}" for name, score in self.scores.items())
        more = f"; {self.added} operators were added" if self.added else ""
        return f"kept {kept}: SQNR on {self.samples} calibration samples {tried}{more}"


def refine(
    model: Model,
    chosen: Quantize,
    found: Calibration,
    data: CalibrationData,
    observe: Callable[[Model, Mapping[str, Scaled]], Quantize],
    progress: Callable[[str], object] = lambda step: None,
    floats: Floats | None = None,
) -> Refined:
    """The better of the model as it is and equalised, each with its biases corrected or not.

    Args:
        model: float; not changed.
        chosen: how it would be quantized, with the means of channels.
        found: its statistics.
        observe: calibrates an equalised model, as far as it differs, and says how to quantize it.
        floats: what was kept of the calibration of ``model``.
    """
    with tempfile.TemporaryDirectory(prefix="edgec-refining-") as folder:
        judge = _Judge(model, data, Path(folder), found.samples, floats)
        corrected = (BIAS_CORRECTION,) if chosen.means else ()
        best = Refined(model, chosen, corrected, samples=len(judge.floats.feeds))
        if not judge.floats.outputs:
            return best
        scores = best.scores
        progress("quantizing as it is")
        least = scores[_label(corrected)] = judge.score(model, chosen)
        if least < PLENTY_DB:
            equalised = copy_model(model)
            scaled = Equalise(extents=extents(found, model)).rewrite(equalised)
            if scaled:
                progress("equalising channels")
                other = observe(equalised, scaled)
                used = (EQUALISATION, *((BIAS_CORRECTION,) if other.means else ()))
                added = max(len(equalised.graph) - len(model.graph), 0)
                score = scores[_label(used)] = judge.score(equalised, other)
                if score >= least + GAIN_DB + added * GAIN_PER_OPERATOR_DB:
                    best, least = Refined(equalised, other, used, scores, added, best.samples), score
            if best.quantize.means and least < PLENTY_DB:
                progress("quantizing without bias correction")
                plain = replace(best.quantize, means={})
                used = tuple(name for name in best.used if name != BIAS_CORRECTION)
                score = scores[_label(used)] = judge.score(best.model, plain)
                if score >= least + GAIN_DB:
                    best = replace(best, quantize=plain, used=used)
    return best


def extents(found: Calibration, model: Model) -> dict[str, Array]:
    """Name of a value to the largest absolute number of each channel that its users distinguish."""
    bounds = {value.name: pair for value, pair in distinguished(model.graph, eight_bits=True).items()}
    held: dict[str, Array] = {}
    for name, item in found.values.items():
        if item.lows.size:
            low, high = bounds.get(name, (-inf, inf))
            held[name] = np.maximum(np.abs(np.clip(item.lows, low, high)), np.abs(np.clip(item.highs, low, high)))
    return held


def _label(used: tuple[str, ...]) -> str:
    return "+".join(used) or "none"


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


class _Judge:
    """Scores of quantized models against the float model on calibration samples, taken evenly from all.

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

    def score(self, model: Model, chosen: Quantize) -> float:
        """SQNR in dB of the worst output, all samples taken together."""
        quantized = copy_model(model)
        chosen.apply(quantized)
        differences = {name: Difference() for name in self.floats.outputs}
        with self._opened(quantized) as session:
            for feeds, wanted in zip(self.floats.feeds, self.floats.wanted, strict=True):
                found = session.run(feeds)
                for name, difference in differences.items():
                    difference.add(wanted[name], found[name])
        return min(difference.sqnr_db for difference in differences.values())

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
