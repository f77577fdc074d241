"""From a canonical float model to the one that the target lowers: calibrate, decide what stays in float, write QDQ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.interface import integer_interface
from edgec.errors import EXIT_UNSUPPORTED, UnsupportedError, UsageError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model, Node
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.passes.quantize import Quantize
from edgec.ir.quantization import Affine, QuantizationRules, Range
from edgec.ir.types import Array, DataType

METHOD: Final = "minmax"
PREPARING: Final = "decompose"
"""Passes that only quantized graphs need."""
_QUANTIZING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class PrecisionOptions:
    """What precision an artifact shall have, and from which data.

    Attributes:
        precision: one of the target's :attr:`edgec.targets.base.Target.precisions`.
        data: what to calibrate with; a model that is quantized already needs none.
        method: one of :data:`edgec.converter.calibration.observers.METHODS`.
        io_dtype: element type of inputs and outputs that are float32 in the model: ``float32``, or that of the
            activations.
        cache: folder that keeps statistics between runs; None for nowhere.
        assumed: whether ``data`` is what the verification uses, because nothing was given to calibrate with.
    """

    precision: str = "float32"
    data: CalibrationData | None = None
    method: str = METHOD
    io_dtype: str = "float32"
    cache: Path | None = None
    assumed: bool = False


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


Select = Callable[[Quantized, Quantize], Quantize]
"""Decides which more nodes stay in float: takes the float model and how it would be quantized, may add to the entry."""


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
    for item in parse_pipeline(PREPARING):
        if item.apply(model):
            made.passes.append(item.name)
    names, taken = Quantize(rules=rules).observed(model.graph)
    if not names:
        raise UnsupportedError(
            "EDG034",
            "no node of the model can run on integers",
            why=_why_nothing(model),
            help="--precision float32",
            exit=EXIT_UNSUPPORTED,
        )
    ranges, means = _ranges(made, names, options, structure_only, progress, rules.activation is not DataType.INT16)
    for name, other in taken.items():
        ranges[name] = ranges[other]
    keep = _honest(made, ranges) if options.data is not None else frozenset[str]()
    integer_io = options.io_dtype != "float32"
    chosen = Quantize(rules=rules, ranges=ranges, keep=keep, means=means, integer_io=integer_io)
    if select is not None:
        chosen = select(made, chosen)
    float_nodes = _left_out(model, chosen.chosen(model.graph))
    progress("pass quantize")
    if chosen.apply(model):
        made.passes.append(chosen.name)
    made.entry["float_nodes"] = float_nodes


def _why_nothing(model: Model) -> str:
    kinds = sorted({value.dtype.label for value in model.graph.inputs})
    return (
        f"its inputs are {', '.join(kinds) or 'none'}, and no operator of it has an integer kernel for float32 numbers"
    )


def _ranges(
    made: Quantized,
    names: list[str],
    options: PrecisionOptions,
    structure_only: bool,
    progress: Callable[[str], object],
    eight_bits: bool,
) -> tuple[dict[str, Range], dict[str, Array]]:
    """The ranges of the values, and the means of their channels."""
    if options.data is None:
        if structure_only:
            made.notes.append("no calibration data: asked with made-up ranges, so nothing is said of the error")
            return {name: Range(-1.0, 1.0) for name in names}, {}
        raise UsageError(
            "EDG030",
            f"--precision {options.precision} needs calibration data",
            why="the scales of integers follow from the numbers that the model's values take",
            help="--calibration DATA: a .npz or .npy file of typical inputs or a folder of them (16 to 100 samples); "
            "--calibration random only to try",
        )
    from edgec.converter.calibration.collect import calibrate
    from edgec.converter.calibration.observers import METHODS
    from edgec.converter.calibration.saturation import distinguished, limited

    found = calibrate(made.model, names, options.data, progress=progress, cache_folder=options.cache)
    made.notes.extend(found.notes)
    made.entry.update(method=options.method, samples=found.samples, calibration=found.origin)
    observer = METHODS[options.method]
    inputs = [value.name for value in made.model.graph.inputs]
    made.entry["input_ranges"] = {
        name: [found.values[name].low, found.values[name].high] for name in inputs if name in found.values
    }
    means = {name: mean for name, item in found.values.items() if (mean := item.means) is not None}
    seen = {name: item for name, item in found.values.items() if item.low <= item.high}
    for value, bounds in distinguished(made.model.graph, eight_bits=eight_bits).items():
        if value.name in seen:
            seen[value.name] = limited(seen[value.name], bounds)
    return {name: observer(item) for name, item in seen.items()}, means


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


def _left_out(model: Model, chosen: list[Node]) -> list[str]:
    """Source names of float operators that are not quantized."""
    kept = set(chosen)
    names: dict[str, None] = {}
    for node in model.graph.nodes:
        if node not in kept and any(value.dtype.is_float for value in node.outputs):
            names.update(dict.fromkeys(node.sources or (node.name,)))
    return list(names)
