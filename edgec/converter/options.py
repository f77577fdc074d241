"""Every option of a conversion, once: as typed keywords, as one frozen record, and as the manifest holds it.

The groups are what a function takes as ``**options``; the record is what passes through the converter and the tuner.
A new option is a key of its group and a field of the record, under the name that its option on the command line has
(:mod:`edgec.cli.options`).
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, ParamSpec, TypedDict, TypeVar

from edgec.converter import manifest as manifests
from edgec.converter.calibration.data import Samples
from edgec.converter.calibration.images import ImageOptions
from edgec.converter.calibration.mixed.options import Metric
from edgec.converter.calibration.quantizing import METHOD
from edgec.converter.importers.imported import SourceOptions

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class SourceKeywords(TypedDict, total=False):
    """How the source is read; explained at :class:`ConversionOptions`, as all groups are."""

    input_shapes: Mapping[str, Sequence[int]] | None
    batch: int | None
    signature: str | None
    trust: bool


class SampleKeywords(TypedDict, total=False):
    """What the verification runs on."""

    data: str | Path | None
    ranges: Mapping[str, tuple[float, float]] | None
    seed: int
    isolate: bool


class ImportKeywords(SourceKeywords, SampleKeywords, total=False):
    """Of a source that only becomes ONNX."""


class CalibrationKeywords(TypedDict, total=False):
    """What ranges follow from."""

    calibration: str | Path | Samples | None
    method: str
    images: ImageOptions | None
    cache: str | Path | None


class QuantizeKeywords(SourceKeywords, CalibrationKeywords, total=False):
    """Of a plain QDQ file."""

    seed: int
    isolate: bool


class TargetKeywords(SourceKeywords, CalibrationKeywords, total=False):
    """What decides whether a target can hold the model."""

    precision: str | None
    io_layout: str | None
    io_dtype: str | None
    passes: str | None
    target_options: Mapping[str, Any] | None


class ArtifactKeywords(TargetKeywords, SampleKeywords, total=False):
    """What decides an artifact and its verification, but for the limit of a mixed precision."""


class ConversionKeywords(ArtifactKeywords, total=False):
    """All options of a conversion."""

    max_drop: float | None
    raise_to: str | None
    metric: str | Metric | None


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """What is asked of a conversion.

    Attributes:
        input_shapes: input name to the shape that replaces the declared one.
        batch: extent of the first dimension where it is unknown.
        signature: of a SavedModel; ``serving_default``, or its only one, by default.
        trust: let the model run code that it brings along (Lambda layers, custom objects).
        data: samples to verify with (``.npz``, ``.npy`` or a folder of them); seeded random ones by default.
        ranges: input name to (low, high) of the random samples.
        seed: of the random samples.
        isolate: run the reference and the artifact in a process of their own, so that a crash there becomes an error.
        calibration: typical inputs to quantize with (``.npz``, ``.npy``, a folder of them or of images, a callable
            that gives an iterable of samples, or ``random`` to try); they are verified with as well, unless ``data`` is
            given.
        method: how ranges follow from the data: ``minmax``, ``percentile``, ``entropy`` or ``mse``; ``auto`` tries
            three and keeps the one of the best SQNR.
        images: how the images of a calibration folder become inputs.
        cache: folder for calibration statistics; the user's cache folder by default.
        precision: one that the target has: ``float32``, ``int8``, ``int16x8`` (int16 activations), ``float16``,
            ``dynamic-int8`` (weights only, float32 inputs and outputs) or ``mixed`` (int8, but for the nodes that lose
            too much); by default ``int8`` with calibration data, else the target's first.
        io_layout: ``ONNX`` keeps the model's shapes, ``NHWC`` turns 4-D image inputs and outputs channels-last; by
            default what the target prefers.
        io_dtype: ``int8`` (``int16`` of int16x8) makes inputs and outputs integers, ``float16`` of float16 makes them
            that; by default what the target prefers.
        passes: a pipeline instead of the target's own.
        target_options: options of this target only, such as ``{"segments": 2}`` of edgetpu.
        max_drop: what ``mixed`` precision may lose, a share of ``metric``: 0.01 of a score by default, 0.05 of the
            relative L2.
        raise_to: what ``mixed`` precision raises nodes to, such as ``float32`` or ``float16``; by default what the
            target prefers.
        metric: ``top-1`` (the default where ``data`` has labels), ``top-5``, ``relative-l2`` of the worst output, or a
            function that scores outputs by labels.
    """

    input_shapes: Mapping[str, Sequence[int]] | None = None
    batch: int | None = None
    signature: str | None = None
    trust: bool = False
    data: str | Path | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None
    seed: int = 0
    isolate: bool = True
    calibration: str | Path | Samples | None = None
    method: str = METHOD
    images: ImageOptions | None = None
    cache: str | Path | None = None
    precision: str | None = None
    io_layout: str | None = None
    io_dtype: str | None = None
    passes: str | None = None
    target_options: Mapping[str, Any] | None = None
    max_drop: float | None = None
    raise_to: str | None = None
    metric: str | Metric | None = None

    @property
    def source(self) -> SourceOptions:
        """How the source is read."""
        return SourceOptions(self.input_shapes, self.batch, self.signature, self.trust)

    @property
    def data_path(self) -> Path | None:
        """Where the samples of the verification lie; None for random ones."""
        return None if self.data is None else Path(self.data)

    @property
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The ranges that were given."""
        return self.ranges or {}

    def manifest_entry(self, **decided: Any) -> dict[str, Any]:
        """The options as a manifest holds them: samples by name and hash, no path of this machine.

        What stands in another part of the manifest, and what changes no artifact, is left out.

        Args:
            decided: what became of options whose default depends on the model or the target.
        """
        found = {name: getattr(self, name) for name in DEFAULTS if name not in ELSEWHERE}
        found.update(
            input_shapes={name: list(shape) for name, shape in sorted((self.input_shapes or {}).items())},
            data=None if self.data_path is None else manifests.data_entries(self.data_path),
            ranges={name: list(pair) for name, pair in sorted(self.bounds.items())},
            target_options={name: _plain(value) for name, value in sorted((self.target_options or {}).items())},
        )
        return {**found, **decided}

    def study_entry(self) -> dict[str, Any]:
        """The options that were given as the journal of a study holds them: files by name and hash."""
        found = {name: getattr(self, name) for name in DEFAULTS if name not in ("cache", "isolate")}
        return {name: _plain(value) for name, value in sorted(found.items()) if value != DEFAULTS[name]}


DEFAULTS: Final[Mapping[str, Any]] = {item.name: item.default for item in fields(ConversionOptions)}
"""Every option and what it is where it is not given."""
ELSEWHERE: Final = frozenset(
    {"calibration", "method", "images", "io_dtype", "max_drop", "raise_to", "metric", "passes", "cache", "isolate"}
)
"""Options whose effect stands in a manifest's ``quantization`` and ``pipeline``, or that have none on the artifact."""


def _plain(value: Any) -> Any:
    if isinstance(value, str | Path) and Path(value).is_file():
        return {"name": Path(value).name, "sha256": manifests.sha256(Path(value))}
    if isinstance(value, ImageOptions):
        return value.to_json()
    if isinstance(value, Path):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: list(item) if isinstance(item, tuple) else item for name, item in value.items()}
    return value


def spelled_out(
    keywords: type[Mapping[str, object]],
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Show the options behind ``**options`` with their defaults in ``help()``, and refuse names that are none of them.

    Type checkers read them from ``Unpack``; at run time they would be missing, and unknown names would pass.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        signature = inspect.signature(function)
        named = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
            for name, annotation in inspect.get_annotations(keywords, eval_str=False).items()
        ]
        shown = signature.replace(parameters=[*named, *added])

        @functools.wraps(function)
        def checked(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
            try:
                shown.bind(*arguments, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(*arguments, **options)

        checked.__dict__["__signature__"] = shown
        return checked

    return decorate
