"""From a canonical float model to the one that the target lowers: calibrate, decide what stays in float, write QDQ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.interface import integer_interface
from edgec.converter.calibration.mixed.options import MixedOptions
from edgec.converter.calibration.statistics import Calibration
from edgec.errors import EXIT_UNSUPPORTED, UnsupportedError, UsageError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model, Node
from edgec.ir.passes.base import Pass, parse_pipeline
from edgec.ir.passes.equalise import Scaled
from edgec.ir.passes.quantize import Quantize
from edgec.ir.quantization import Affine, QuantizationRules, Range
from edgec.ir.types import Array, DataType

if TYPE_CHECKING:
    from edgec.converter.calibration.judge import Floats
    from edgec.converter.calibration.refining import Refined

METHOD: Final = "minmax"
AUTOMATIC: Final = "auto"
COMPARED: Final = ("minmax", "percentile", "mse")
"""Methods that :data:`AUTOMATIC` compares."""
PREPARING: Final = "decompose"
"""Passes that only quantized graphs need."""
_QUANTIZING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class PrecisionOptions:
    """What precision an artifact shall have, and from which data.

    Attributes:
        precision: one of the target's :attr:`edgec.targets.base.Target.precisions`.
        data: what to calibrate with; a model that is quantized already needs none.
        method: one of :data:`edgec.converter.calibration.observers.METHODS`, or :data:`AUTOMATIC`.
        io_dtype: element type of inputs and outputs that are float32 in the model: ``float32``, or that of the
            activations.
        cache: folder that keeps statistics between runs; None for nowhere.
        assumed: whether ``data`` is what the verification uses, because nothing was given to calibrate with.
        mixed: what a mixed artifact may lose.
    """

    precision: str = "float32"
    data: CalibrationData | None = None
    method: str = METHOD
    io_dtype: str = "float32"
    cache: Path | None = None
    assumed: bool = False
    mixed: MixedOptions = field(default_factory=MixedOptions)


@dataclass
class Quantized:
    """A model with QDQ, or with float16 values.

    Attributes:
        model: what the target lowers.
        passes: names of the passes that changed it.
        notes: what the user should know.
        quantized_io: input or output name to how its integers stand for floats.
        entry: what the manifest says of the calibration.
        arrived: whether the model came with its own scales, and was not calibrated.
        preparing: pipeline that ran before; the float model with the same values is made by it.
    """

    model: Model
    passes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quantized_io: dict[str, Affine] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    arrived: bool = False
    preparing: str = ""


Select = Callable[[Quantized, Quantize], list[Pass]]
"""Takes the float model and how it would be quantized, and returns the passes that do it: a Quantize that may keep more
nodes in float, and what comes after it.  It may add to the notes and the entry."""


def quantize(
    model: Model,
    rules: QuantizationRules,
    options: PrecisionOptions,
    *,
    select: Select | None = None,
    structure_only: bool = False,
    progress: Callable[[str], object] = lambda step: None,
) -> Quantized:
    """Quantize a copy of a canonical model; the model itself stays float.

    Args:
        select: of mixed precision, see :mod:`edgec.converter.calibration.mixed`.
        structure_only: where there is no data, take made-up ranges: enough to ask what would become of every node.

    Raises:
        UsageError: EDG030 without data; EDG005, EDG006, EDG031, EDG032 for data that does not fit; EDG035.
        UnsupportedError: EDG034 when no node can be quantized.
    """
    made = Quantized(copy_model(model))
    if is_quantized(model):
        made.arrived = True
        made.notes.append("the model is quantized already: its own scales are taken" + _unused(options))
    else:
        _calibrated(made, rules, options, select, structure_only, progress)
    if options.io_dtype != "float32":
        made.quantized_io, left = integer_interface(made.model)
        for name in left:
            made.notes.append(f"'{name}' stays float32: it is not computed by an integer kernel")
    made.entry["io_dtype"] = options.io_dtype
    made.entry["quantized_io"] = {
        name: {"dtype": item.dtype.label, "scale": item.scale, "zero_point": item.zero_point}
        for name, item in made.quantized_io.items()
    }
    return made


def is_quantized(model: Model) -> bool:
    """Whether the model arrived with scales of its own."""
    return any(node.op in _QUANTIZING and not node.domain for node in model.graph.nodes)


def _unused(options: PrecisionOptions) -> str:
    return "; the calibration data is not used" if options.data is not None else ""


def _calibrated(
    made: Quantized,
    rules: QuantizationRules,
    options: PrecisionOptions,
    select: Select | None,
    structure_only: bool,
    progress: Callable[[str], object],
) -> None:
    model = made.model
    made.preparing = PREPARING
    if rules.expanded:
        made.preparing += f",expand-activations{{ops={'+'.join(rules.expanded)}}}"
    for item in parse_pipeline(made.preparing):
        if item.apply(model):
            made.passes.append(item.name)
    names, _ = Quantize(rules=rules).observed(model.graph)
    if not names:
        raise UnsupportedError(
            "EDG034",
            "no node of the model can run on integers",
            why=_why_nothing(model),
            help="--precision float32, which the targets tflite and onnxruntime have",
            exit=EXIT_UNSUPPORTED,
        )
    floats = None
    if options.data is not None and rules.activation is not DataType.INT16:
        from edgec.converter.calibration.judge import Floats

        floats = Floats.of(model, options.data.count(model))
    found = _statistics(made, names, options, structure_only, progress, floats)
    chosen, quantized = _planned(model, rules, options, found, _methods(options)[0]), None
    if found is not None and options.data is not None:
        chosen = replace(chosen, keep=_honest(made, chosen.ranges))
        if rules.activation is not DataType.INT16:
            refined = _refined(made, chosen, options, options.data, found, floats, progress)
            chosen, quantized, model = refined.quantize, refined.quantized, made.model
    passes: list[Pass] = [chosen] if select is None else select(made, chosen)
    made.entry["float_nodes"] = _left_out(model, {node for item in passes for node in _integers(item, model)})
    if select is None and quantized is not None and is_quantized(quantized):
        made.model = quantized
        made.passes.append(chosen.name)
        return
    for item in passes:
        progress(f"pass {item.name}")
        if item.apply(model):
            made.passes.append(item.name)


def _why_nothing(model: Model) -> str:
    kinds = sorted({value.dtype.label for value in model.graph.inputs})
    return (
        f"its inputs are {', '.join(kinds) or 'none'}, and no operator of it has an integer kernel for float32 numbers"
    )


def _statistics(
    made: Quantized,
    names: list[str],
    options: PrecisionOptions,
    structure_only: bool,
    progress: Callable[[str], object],
    floats: Floats | None,
) -> Calibration | None:
    """What the values take on the data; None where there is none and made-up ranges do."""
    if options.data is None:
        if structure_only:
            made.notes.append("no calibration data: asked with made-up ranges, so nothing is said of the error")
            return None
        raise UsageError(
            "EDG030",
            f"--precision {options.precision} needs calibration data",
            why="the scales of integers follow from the numbers that the model's values take",
            help="--calibration DATA: a .npz or .npy file of typical inputs or a folder of them (16 to 100 samples); "
            "--calibration random only to try",
        )
    from edgec.converter.calibration.collect import calibrate

    found = calibrate(
        made.model,
        names,
        options.data,
        progress=progress,
        cache_folder=options.cache,
        histograms=_needs_histograms(options),
        seen=None if floats is None else floats.take,
    )
    made.notes.extend(found.notes)
    made.entry.update(method=options.method, samples=found.samples, calibration=found.origin)
    inputs = [value.name for value in made.model.graph.inputs]
    made.entry["input_ranges"] = {
        name: [found.values[name].low, found.values[name].high] for name in inputs if name in found.values
    }
    return found


def _methods(options: PrecisionOptions) -> tuple[str, ...]:
    """The methods to compare, or the one that was asked for."""
    return COMPARED if options.method == AUTOMATIC else (options.method,)


def _needs_histograms(options: PrecisionOptions) -> bool:
    return any(method != METHOD for method in _methods(options))


def _planned(
    model: Model, rules: QuantizationRules, options: PrecisionOptions, found: Calibration | None, method: str
) -> Quantize:
    """How to quantize a model with these statistics: the ranges of the values, and the means of their channels."""
    names, taken = Quantize(rules=rules).observed(model.graph)
    ranges: dict[str, Range] = {name: Range(-1.0, 1.0) for name in names}
    means: dict[str, Array] = {}
    if found is not None:
        from edgec.converter.calibration.observers import METHODS
        from edgec.converter.calibration.saturation import distinguished, limited

        means = {name: mean for name, item in found.values.items() if (mean := item.means) is not None}
        seen = {name: item for name, item in found.values.items() if item.low <= item.high}
        for value, bounds in distinguished(model.graph, eight_bits=rules.activation is not DataType.INT16).items():
            if value.name in seen:
                seen[value.name] = limited(seen[value.name], bounds)
        ranges = {name: METHODS[method](item) for name, item in seen.items()}
    ranges.update({name: ranges[other] for name, other in taken.items()})
    return Quantize(rules=rules, ranges=ranges, means=means, integer_io=options.io_dtype != "float32")


def _refined(
    made: Quantized,
    chosen: Quantize,
    options: PrecisionOptions,
    data: CalibrationData,
    found: Calibration,
    floats: Floats | None,
    progress: Callable[[str], object],
) -> Refined:
    """Equalise channels and correct biases where that measurably helps, with each method that is to be compared.

    What was chosen is said in the notes and the entry, and the model is the float one that it starts from.
    """
    from edgec.converter.calibration.collect import calibrate
    from edgec.converter.calibration.observers import METHODS, minmax
    from edgec.converter.calibration.refining import EQUALISATION, GAIN_DB, counted, refine

    def plan(model: Model, statistics: Calibration, method: str) -> Quantize:
        return replace(_planned(model, chosen.rules, options, statistics, method), keep=chosen.keep)

    def tried(method: str) -> Refined:
        def observe(model: Model, scaled: Mapping[str, Scaled]) -> Quantize:
            names, _ = Quantize(rules=chosen.rules).observed(model.graph)
            known = _known_before(names, found, scaled if METHODS[method] is minmax else {})
            unknown = [name for name in names if name not in known.values]
            if unknown:
                seen = calibrate(
                    model,
                    unknown,
                    data,
                    progress=progress,
                    cache_folder=options.cache,
                    histograms=_needs_histograms(options),
                )
                known.values.update(seen.values)
            return plan(model, known, method)

        return refine(made.model, plan(made.model, found, method), found, data, observe, progress, floats)

    method, *others = _methods(options)
    refined = tried(method)
    scores = {method: refined.score}
    for other in others:
        candidate = tried(other)
        scores[other] = candidate.score
        if candidate.samples and candidate.score >= refined.score + GAIN_DB:
            method, refined = other, candidate
    made.entry["method"] = method
    if others:
        listed = ", ".join(f"{score:.1f} dB with {name}" for name, score in scores.items())
        why = f"SQNR on {counted(refined.samples)} {listed}" if refined.samples else "no float output to compare by"
        made.notes.append(f"took the ranges of {method}: {why}")
        made.entry["methods"] = {name: round(score, 2) if isfinite(score) else None for name, score in scores.items()}
    made.model = refined.model
    made.notes.append(refined.note)
    made.entry["refinement"] = refined.to_json()
    if EQUALISATION in refined.used:
        made.passes.append("equalise")
    return refined


def _known_before(names: Sequence[str], found: Calibration, scaled: Mapping[str, Scaled]) -> Calibration:
    """What the statistics of a model say of an equalised one: of values that are the same, and of multiples of others.

    Args:
        names: values of the equalised model.
        scaled: those that are multiples, where the extents of channels, which multiply with them, are enough.
    """
    known = {name: found.values[name] for name in names if name in found.values}
    for name in names:
        before = None if name not in scaled else found.values.get(scaled[name].name)
        multiplied = None if before is None else before.multiplied(scaled[name].numbers)
        if multiplied is not None:
            known[name] = multiplied
    return Calibration(found.samples, known)


def _honest(made: Quantized, ranges: Mapping[str, Range]) -> frozenset[str]:
    """The nodes that stay in float so that outputs of mixed sizes keep their small numbers; said in the notes."""
    from edgec.converter.calibration.tail import float_tail

    tail = float_tail(made.model.graph, ranges)
    for name, sizes in tail.joins:
        listed = " and ".join(f"{size:.3g}" for size in sizes)
        made.notes.append(
            f"'{name}' joins numbers up to {listed}: one int8 scale would lose the small ones, so it and what follows "
            "are computed in float32"
        )
    return tail.nodes


def _integers(item: Pass, model: Model) -> list[Node]:
    """The nodes that a pass will turn into integers."""
    return item.chosen(model.graph) if isinstance(item, Quantize) else []


def _left_out(model: Model, kept: Collection[Node]) -> list[str]:
    """Source names of float operators that are not quantized."""
    names: dict[str, None] = {}
    for node in model.graph.nodes:
        if node not in kept and any(value.dtype.is_float for value in node.outputs):
            names.update(dict.fromkeys(node.sources or (node.name,)))
    return list(names)
