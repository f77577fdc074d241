"""Choose which nodes of a model stay in float, by measuring artifacts: the driver of ``--precision mixed``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgec.converter.calibration.data import CalibrationData, specs
from edgec.converter.calibration.mixed.loss import Judge, Loss, Outputs
from edgec.converter.calibration.mixed.options import MixedOptions, default_limit
from edgec.converter.calibration.mixed.path import Choice, greedy_path
from edgec.converter.calibration.mixed.search import Search, Trial
from edgec.converter.calibration.mixed.sensitivity import THREADS, measure_noise
from edgec.converter.calibration.mixed.units import Unit, Units, find_units
from edgec.converter.calibration.mixed.widening import Widen
from edgec.converter.verification.data import Feeds, load_labels, load_samples
from edgec.converter.verification.metrics import short
from edgec.errors import UsageError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Graph, Model
from edgec.ir.half import unfit_extent
from edgec.ir.passes.base import Pass
from edgec.ir.passes.float16 import Float16
from edgec.ir.passes.quantize import Quantize
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.targets.base import Target, TargetOptions

if TYPE_CHECKING:
    from edgec.converter.calibration.quantizing import Quantized
    from edgec.converter.verification.reference import Host

NOISE_SAMPLES: Final = 4
"""Calibration samples that the noise of every place is measured on."""
LOSS_SAMPLES: Final = 16
"""Calibration samples that the loss is measured on, where there is no other data."""
DATA_SAMPLES: Final = 256
"""Most samples of the user's data that the loss is measured on."""


@dataclass
class Chooser:
    """Is called with the float model and how it would be quantized (``Select``); returns the passes to apply."""

    target: Target
    options: TargetOptions
    calibration: CalibrationData | None
    mixed: MixedOptions
    progress: Callable[[str], object] = field(default=lambda step: None)

    def __call__(self, made: Quantized, quantize: Quantize) -> list[Pass]:
        model = made.model
        assert self.calibration is not None, "calibrated before it is called"
        wide = None if self.target.floats else self.target.quantization(self.mixed.raise_to)
        units = find_units(model.graph, quantize, wide)
        noise = list(islice(self.calibration.samples(model), NOISE_SAMPLES))

        def path() -> list[Choice]:
            measure_noise(model, quantize, units, noise, progress=self.progress)
            return greedy_path(units)

        samples, labels = self._samples(model)
        with tempfile.TemporaryDirectory(prefix="edgec-mixed-") as folder, self._hosting() as host:
            runner = _Runner(self, model, quantize, samples, host, Path(folder))
            judge = Judge(runner.reference(), labels, self.mixed.metric)
            limit = default_limit(judge.metric) if self.mixed.max_drop is None else self.mixed.max_drop

            def evaluate(raised: frozenset[Unit]) -> Loss:
                self.progress(f"trying {len(raised)} of {len(units.units)} nodes in {self.mixed.raise_to}")
                return judge.loss(runner.run(raised))

            search = Search(units, path, evaluate, limit, judge.metric, self._instead())
            best = search.run()
        made.entry["mixed"] = self._entry(search, judge, best, len(noise) if best.raised else 0, len(samples))
        made.notes.append(self._note(search, best))
        return self.passes(model.graph, quantize, best.raised)

    def passes(self, graph: Graph, quantize: Quantize, raised: frozenset[Unit]) -> list[Pass]:
        """What turns the float model into the mixed one."""
        names = {node.name for unit in raised for node in unit.nodes}
        chosen = replace(quantize, keep=quantize.keep | names)
        integers = [node.name for node in chosen.chosen(graph)]
        if self.mixed.raise_to == "float16" and self.target.float16_graph:
            return [chosen, Float16(keep=(*integers, *_unfit(graph, quantize)))]
        if self.mixed.raise_to == "int16x8":
            rules = self.target.quantization("int16x8")
            assert rules is not None
            ranges = {f"{name}_dequantized": found for name, found in quantize.ranges.items()}
            means = {f"{name}_dequantized": mean for name, mean in quantize.means.items()}
            keep = quantize.keep.union(integers)
            wider = Quantize(rules, {**quantize.ranges, **ranges}, keep, {**quantize.means, **means})
            return [chosen, Widen(wider) if rules.expanded else wider]
        return [chosen]

    def _instead(self) -> str:
        """What loses less than everything raised."""
        if self.mixed.raise_to == self.target.raises[0] != "float32":
            return f"--precision {self.mixed.raise_to}, whose inputs and outputs are wider as well"
        return "--raise-to float32" if self.mixed.raise_to != "float32" else ""

    def _samples(self, model: Model) -> tuple[list[Feeds], list[Array] | None]:
        data = self.mixed.data
        if data is None:
            assert self.calibration is not None
            return list(islice(self.calibration.samples(model), LOSS_SAMPLES)), None
        inputs = specs(model)
        samples = list(islice(load_samples(data, inputs, fill=True), DATA_SAMPLES))
        if not samples:
            raise UsageError("EDG005", f"'{data}' holds no samples")
        labels = load_labels(data, inputs, fill=True)
        return samples, None if labels is None else _per_sample(labels, samples, data)

    def _hosting(self) -> AbstractContextManager[Host]:
        from edgec.converter.verification.reference import InProcess
        from edgec.runtime.isolation import Workers

        return Workers() if self.mixed.isolate else nullcontext(InProcess())

    def _entry(self, search: Search, judge: Judge, best: Trial, noise: int, loss: int) -> dict[str, Any]:
        units = search.units
        raised = sorted(best.raised, key=lambda unit: unit.index)
        return {
            "metric": search.metric,
            "max_drop": search.limit,
            "raise_to": self.mixed.raise_to,
            "float_score": short(judge.float_score),
            **_point(units, best),
            "nodes": len(units.units),
            "raised_nodes": list(dict.fromkeys(unit.source for unit in raised)),
            "samples": {"noise": noise, "loss": loss},
            "curve": [_point(units, trial) for trial in sorted(search.trials, key=lambda item: len(item.raised))],
        }

    def _note(self, search: Search, best: Trial) -> str:
        plain = search.trials[0].loss
        loss = f"the loss of {search.metric} is {best.loss.value:.2%} (limit {search.limit:.2%})"
        if not best.raised:
            return f"int8 alone is enough: {loss}"
        count = f"{len(best.raised)} of {len(search.units.units)} nodes are raised to {self.mixed.raise_to}"
        return f"{count}: {loss}; int8 alone loses {plain.value:.2%}"


def _point(units: Units, trial: Trial) -> dict[str, Any]:
    operations, weights = units.shares(trial.raised)
    return {
        "raised": len(trial.raised),
        "loss": short(trial.loss.value),
        "relative_l2": short(trial.loss.relative_l2),
        "score": short(trial.loss.score),
        "int8_operations": short(operations),
        "int8_weights": short(weights),
        "boundaries": units.boundaries(trial.raised),
        "accepted": trial.accepted,
    }


def _per_sample(labels: Array, samples: Sequence[Feeds], data: Path) -> list[Array]:
    """The labels of every sample.

    Raises:
        UsageError: EDG037 where there are not as many as samples.
    """
    first = next(iter(samples[0].values()))
    each = first.shape[0] if first.ndim else 1
    wanted = each * len(samples)
    if labels.size < wanted or (labels.size > wanted and len(samples) < DATA_SAMPLES):
        raise UsageError("EDG037", f"'{data.name}' holds {labels.size} labels for {len(samples)} samples of {each}")
    return [labels[each * number : each * (number + 1)] for number in range(len(samples))]


def _unfit(graph: Graph, quantize: Quantize) -> list[str]:
    """Names of the nodes that give or take a value that does not fit into float16, by the calibrated ranges."""
    found: dict[str, None] = {}
    for node in graph.nodes:
        for value in (*node.inputs, *node.outputs):
            known = None if value is None else quantize.ranges.get(value.name)
            if known is not None and unfit_extent(size := max(-known.low, known.high), size):
                found.setdefault(node.name)
    return list(found)


class _Runner:
    """Makes artifacts and runs them on the samples."""

    def __init__(
        self, chooser: Chooser, model: Model, quantize: Quantize, samples: list[Feeds], host: Host, folder: Path
    ):
        self.chooser, self.model, self.quantize = chooser, model, quantize
        self.samples, self.host, self.folder = samples, host, folder

    def reference(self) -> list[Outputs]:
        """The outputs of the float model in ONNX Runtime."""
        from edgec.runtime.onnxruntime import open_session

        path = self.folder / "float.onnx"
        write_model(self.model, path)
        session = open_session(path, threads=THREADS)
        try:
            return [session.run(feeds) for feeds in self.samples]
        finally:
            session.close()

    def run(self, raised: frozenset[Unit]) -> list[Outputs]:
        """The outputs of the artifact with these units in float.

        Raises:
            UnsupportedError: the target cannot hold the model.
            VerificationError: EDG302, EDG303 when the artifact does not load or run.
        """
        from edgec.converter.bisection.probe import run_lowered

        model = copy_model(self.model)
        for item in self.chooser.passes(model.graph, self.quantize, raised):
            item.apply(model)
        target = self.chooser.target
        lowered = target.lower(model, self.chooser.options)
        file = target.write_lowered(lowered, self.folder, "mixed")
        if file is None:
            file = target.compile(lowered, self.folder, "mixed").main
            spec = target.session(file)
        else:
            spec = target.execute_lowered(file)
        lowered.payload = None
        session = self.host.open(spec.factory, file, dict(spec.options))
        try:
            return [run_lowered(session, lowered, feeds) for feeds in self.samples]
        finally:
            session.close()


def mixed_chooser(
    target: Target,
    options: TargetOptions,
    calibration: CalibrationData | None,
    mixed: MixedOptions,
    progress: Callable[[str], object],
) -> Chooser:
    """The chooser for a conversion.

    Raises:
        UsageError: EDG001 where the target raises to no such precision.
    """
    if mixed.raise_to not in target.raises:
        known = " or ".join(target.raises) or "nothing"
        raise UsageError("EDG001", f"{target.name} cannot raise nodes to {mixed.raise_to}", why=f"it can to {known}")
    return Chooser(target, options, calibration, mixed, progress)
