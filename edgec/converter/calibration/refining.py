"""Keep of equalisation and bias correction what measurably helps: see :mod:`edgec.converter.calibration.judge`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.judge import Floats, Judge, Scored
from edgec.converter.calibration.saturation import distinguished
from edgec.converter.calibration.statistics import Calibration
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.equalise import Equalise, Scaled
from edgec.ir.passes.quantize import Quantize
from edgec.ir.types import Array

EQUALISATION: Final = "equalisation"
BIAS_CORRECTION: Final = "bias-correction"
GAIN_DB: Final = 0.1
"""What a change must gain in SQNR to be kept."""
GAIN_PER_OPERATOR_DB: Final = 0.02
"""What it must gain besides for every operator that it adds."""
PLENTY_DB: Final = 35.0
"""From here on nothing is tried: what could be gained is not worth the runs."""


@dataclass
class Refined:
    """What was chosen.

    Attributes:
        model: the float model, equalised where that helps.
        quantize: the pass to apply to it.
        quantized: the model with the pass applied; None where nothing could be compared.
        used: names of the changes that were kept.
        scores: names of the changes of a candidate, joined by ``+``, to its SQNR in dB; ``none`` without any.
        given_up: likewise, to the samples that a candidate was run on which was clearly not better than its rival, and
            to what it gained on them, in dB.
        added: operators that equalisation added.
        samples: how many samples were compared.
    """

    model: Model
    quantize: Quantize
    quantized: Model | None = None
    used: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    given_up: dict[str, tuple[int, float]] = field(default_factory=dict)
    added: int = 0
    samples: int = 0

    @property
    def score(self) -> float:
        """SQNR of what was chosen, in dB; minus infinity where nothing could be compared."""
        return self.scores.get(_label(self.used), -inf)

    def take(self, used: tuple[str, ...], scored: Scored) -> Scored:
        """Note how a candidate did, and return it."""
        if scored.given_up:
            self.given_up[_label(used)] = (len(scored.differences), scored.gain or 0.0)
        else:
            self.scores[_label(used)] = scored.sqnr_db
        return scored

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "used": list(self.used),
            "operators_added": self.added,
            "samples": self.samples,
            "sqnr_db": {name: round(score, 2) if isfinite(score) else None for name, score in self.scores.items()},
            "given_up": {
                name: {"samples": samples, "gain_db": round(gain, 2)} for name, (samples, gain) in self.given_up.items()
            },
        }

    @property
    def note(self) -> str:
        """What the user reads."""
        kept = " and ".join(self.used) or "neither equalisation nor bias-correction"
        if not self.scores and not self.given_up:
            return f"kept {kept} untried: the model has no float output to compare by"
        tried = ", ".join(f"{score:.1f} dB with {name}" for name, score in self.scores.items())
        left = "".join(
            f"; given up after {samples} of them: {name} ({gain:+.2f} dB)"
            for name, (samples, gain) in self.given_up.items()
        )
        more = f"; {self.added} operators were added" if self.added else ""
        return f"kept {kept}: SQNR on {counted(self.samples)} {tried}{left}{more}"


def counted(samples: int) -> str:
    """``1 calibration sample``, ``8 calibration samples``."""
    return f"{samples} calibration sample{'' if samples == 1 else 's'}"


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
        judge = Judge(model, data, Path(folder), found.samples, floats)
        corrected = (BIAS_CORRECTION,) if chosen.means else ()
        best = Refined(model, chosen, used=corrected, samples=len(judge.floats.feeds))
        if not judge.floats.outputs:
            return best
        progress("quantizing as it is")
        leader = best.take(corrected, judge.score(model, chosen))
        if leader.sqnr_db < PLENTY_DB:
            equalised = copy_model(model)
            scaled = Equalise(extents=extents(found, model)).rewrite(equalised)
            if scaled:
                progress("equalising channels")
                other = observe(equalised, scaled)
                used = (EQUALISATION, *((BIAS_CORRECTION,) if other.means else ()))
                added = max(len(equalised.graph) - len(model.graph), 0)
                least = GAIN_DB + added * GAIN_PER_OPERATOR_DB
                rival = best.take(used, judge.score(equalised, other, leader, least))
                if _wins(rival, leader, least):
                    best, leader = replace(best, model=equalised, quantize=other, used=used, added=added), rival
            if best.quantize.means and leader.sqnr_db < PLENTY_DB:
                progress("quantizing without bias correction")
                plain = replace(best.quantize, means={})
                used = tuple(name for name in best.used if name != BIAS_CORRECTION)
                rival = best.take(used, judge.score(best.model, plain, leader, GAIN_DB))
                if _wins(rival, leader, GAIN_DB):
                    best, leader = replace(best, quantize=plain, used=used), rival
        best.quantized = leader.model
    return best


def _wins(rival: Scored, leader: Scored, least: float) -> bool:
    return not rival.given_up and rival.sqnr_db >= leader.sqnr_db + least


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
