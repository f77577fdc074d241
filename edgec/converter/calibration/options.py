"""What the caller says of precision and of the target, checked against the target."""

from __future__ import annotations

from pathlib import Path

from edgec.converter.calibration import cache as caches
from edgec.converter.calibration.data import RANDOM, CalibrationData, Samples
from edgec.converter.calibration.images import ImageOptions, image_files
from edgec.converter.calibration.mixed.options import METRICS, MixedOptions
from edgec.converter.calibration.quantizing import AUTOMATIC, COMPARED, METHOD, PrecisionOptions
from edgec.converter.options import ConversionOptions
from edgec.errors import UsageError
from edgec.ir.types import DataType
from edgec.targets.base import Target, TargetOptions

_LIMITS = {"int8": "int8", "int16x8": "int8", "dynamic-int8": "int8", "mixed": "int8", "float16": "float16"}
"""By whose limits the artifacts of a precision are verified; those of others by what the model's own types imply."""

ALIASES = {"fp16": "float16", "fp32": "float32"}
"""Other names of precisions."""

IO_LAYOUTS = ("ONNX", "NHWC")
METHOD_NAMES = ("minmax", "percentile", "entropy", "mse", "auto")


def verified_as(precision: str) -> str | None:
    """The ``precision`` of :func:`edgec.converter.verify.verify` for artifacts of a precision."""
    return _LIMITS.get(precision)


def _has_images(calibration: str | Path | Samples | None) -> bool:
    return isinstance(calibration, (str, Path)) and bool(image_files(Path(calibration)))


def precision_options(target: Target, options: ConversionOptions) -> PrecisionOptions:
    """What a conversion's options say of precision, with the target's defaults.

    Samples of the verification stand in where there is no calibration data: the ranges of float16 follow from them,
    and the loss of mixed precision.

    Raises:
        UsageError: EDG001 for a precision, method or element type that the target does not have.
    """
    calibration, method, images, metric = options.calibration, options.method, options.images, options.metric
    implied = "int8" if calibration is not None and "int8" in target.precisions else target.precisions[0]
    chosen = ALIASES.get(options.precision or "", options.precision) or implied
    if chosen not in target.precisions:
        known = ", ".join(target.precisions)
        why, help = target.lacks_precision(chosen)
        raise UsageError(
            "EDG001",
            f"{target.name} has no precision '{chosen}'",
            why=f"it has: {known}" + (f"; {why}" if why else ""),
            help=help or None,
        )
    if method not in METHOD_NAMES:
        raise UsageError("EDG001", f"unknown method '{method}'", why=f"known: {', '.join(METHOD_NAMES)}")
    rules = target.quantization(chosen)
    quantized = rules is not None
    if method == AUTOMATIC and rules is not None and rules.activation is DataType.INT16:
        raise UsageError(
            "EDG001", f"method {AUTOMATIC} compares 8-bit models only", help=f"--method {' or '.join(COMPARED)}"
        )
    if method != METHOD and not quantized:
        raise UsageError(
            "EDG001",
            f"--method {method} means nothing with --precision {chosen}",
            why="no range of integers follows from data there",
            help="leave it out, or give another --precision",
        )
    half = chosen == "float16"
    if calibration is not None and not quantized and not half:
        raise UsageError(
            "EDG001",
            f"precision {chosen} takes no calibration data",
            help="leave --calibration out, or give another --precision",
        )
    own = rules.activation.label if rules is not None else "float16"
    held = options.io_dtype or (own if quantized and target.io_dtype != "float32" else "float32")
    kinds = ["float32", *([own] if quantized or half else [])]
    if held not in kinds:
        raise UsageError(
            "EDG001", f"inputs and outputs cannot be {held}", why=f"with precision {chosen}: {' or '.join(kinds)}"
        )
    if images is not None and images != ImageOptions() and not _has_images(calibration):
        raise UsageError(
            "EDG001", "--mean, --scale, --resize and --layout are for a folder of images", where="--calibration"
        )
    if chosen != "mixed" and any(item is not None for item in (options.max_drop, options.raise_to, metric)):
        raise UsageError(
            "EDG001",
            "--max-drop, --metric and --raise-to are for --precision mixed",
            where=f"--precision {chosen}",
        )
    if isinstance(metric, str) and metric not in METRICS:
        raise UsageError("EDG001", f"unknown metric '{metric}'", why=f"known: {', '.join(METRICS)}")
    if options.max_drop is not None and not 0 <= options.max_drop < 1:
        raise UsageError("EDG001", f"--max-drop {options.max_drop:g} is no share from 0 to 1", help="0.005, or 0.5%")
    raise_to = options.raise_to or next(iter(target.raises), "float32")
    mixed = MixedOptions(options.max_drop, metric, raise_to, options.data_path, options.isolate)
    source = calibration if calibration is not None or not half else options.data or RANDOM
    found = None
    if source is not None:
        found = CalibrationData(source, options.seed, dict(options.bounds), images or ImageOptions())
    folder = Path(options.cache) if options.cache is not None else caches.default_folder()
    return PrecisionOptions(chosen, found, method, held, folder, calibration is None and half, mixed)


def target_options(target: Target, options: ConversionOptions, precision: PrecisionOptions) -> TargetOptions:
    """What a conversion's options say to the target, with its defaults.

    Raises:
        UsageError: EDG001 for an unknown layout, and for an option that the target does not have.
    """
    if options.io_layout not in (None, *IO_LAYOUTS):
        raise UsageError("EDG001", f"unknown io_layout {options.io_layout!r}", why=f"known: {IO_LAYOUTS}")
    for name in options.target_options or {}:
        if name not in target.option_names:
            known = ", ".join(target.option_names) or "none"
            raise UsageError("EDG001", f"the target {target.name} has no option '{name}'", why=f"known: {known}")
    layout = options.io_layout or target.io_layout
    return TargetOptions(layout, precision.precision, dict(options.target_options or {}), precision.mixed.raise_to)
