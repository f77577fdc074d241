"""Files as the inputs of an artifact: images, .npy and .npz."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgec.converter.calibration.images import SUFFIXES, ImageOptions, load_image
from edgec.converter.verification.data import load_samples, renamed
from edgec.errors import EdgecError, UsageError
from edgec.execution.load import LoadedArtifact
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec


def read_inputs(
    model: LoadedArtifact, given: Iterable[str], images: ImageOptions
) -> tuple[dict[str, Array], list[dict[str, Any]], list[str]]:
    """One array per input as the artifact takes it, where each came from, and what the user should know.

    Args:
        given: ``FILE``, for the only input or an .npz with all, or ``NAME=FILE``.

    Raises:
        UsageError: EDG002 for a name that is no input; EDG005 where an input has no file, two, or one that does not
            fit; EDG006 for a file that cannot be read.
    """
    specs = {spec.name: spec for spec in model.inputs}
    feeds: dict[str, Array] = {}
    sources: list[dict[str, Any]] = []
    notes: list[str] = []
    for item in given:
        name, file = _named(item, specs)
        wanted = list(specs.values()) if name is None else [specs[name]]
        for key, array in _read(model, file, wanted, images, notes).items():
            if key in feeds:
                raise UsageError("EDG005", f"the input '{key}' is given twice")
            feeds[key] = array
            sources.append({"name": key, "file": file.name, "dtype": str(array.dtype), "shape": list(array.shape)})
    missing = [name for name in specs if name not in feeds]
    if missing:
        listed = ", ".join(f"{spec.name}: {spec.dtype} {list(spec.shape)}" for spec in model.inputs)
        raise UsageError(
            "EDG005",
            f"there is no file for the input '{missing[0]}'",
            where=f"inputs: {listed}",
            help="--input FILE for the only one, --input NAME=FILE for each of several",
        )
    return feeds, sources, notes


def _named(item: str, specs: dict[str, TensorSpec]) -> tuple[str | None, Path]:
    """The input's name and the file; input names, and paths, may hold ``=``."""
    for name in specs:
        if item.startswith(f"{name}=") and not Path(item).exists():
            return name, Path(item[len(name) + 1 :])
    name, equals, rest = item.partition("=")
    if equals and not Path(item).exists() and Path(rest).exists():
        raise UsageError("EDG002", f"'{name}' is no input", where=f"inputs: {', '.join(specs)}")
    return None, Path(item)


def _read(
    model: LoadedArtifact, file: Path, specs: Sequence[TensorSpec], images: ImageOptions, notes: list[str]
) -> dict[str, Array]:
    if not file.is_file():
        raise UsageError("EDG006", f"there is no file '{file}'", help="check --input")
    if file.suffix.lower() in SUFFIXES:
        if len(specs) != 1:
            raise UsageError(
                "EDG005",
                f"the model has {len(specs)} inputs, '{file.name}' is one image",
                where=f"inputs: {', '.join(spec.name for spec in specs)}",
                help=f"--input {specs[0].name}={file.name}",
            )
        spec = _one(_real(model, specs[0]))
        array = load_image(file, spec, images)
        return {spec.name: _quantized(model, spec, array, notes)}
    note = renamed(file, specs)
    if note is not None:
        notes.append(note)
    try:
        return _sample(file, specs)
    except EdgecError as error:
        real = [_real(model, spec) for spec in specs]
        moved = [spec.name for spec in specs if spec.name in model.layouts]
        if error.code == "EDG005" and moved and error.why is None:
            error.why = f"the conversion permuted the axes of '{moved[0]}' by {list(model.layouts[moved[0]])}"
        if error.code != "EDG005" or real == list(specs):
            raise
        try:
            found = _sample(file, real)
        except EdgecError as other:
            # What the file lacks is the dtype of integers or something else: then float32 is what was meant.
            raise (other if "dtype" in error.details else error) from None
    return {spec.name: _quantized(model, spec, found[spec.name], notes) for spec in real}


def _sample(file: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    samples = list(islice(load_samples(file, specs), 2))
    if len(samples) > 1:
        raise UsageError(
            "EDG005", f"'{file.name}' holds more than one sample", help="give one, such as numpy.load(...)[:1]"
        )
    return samples[0]


def _real(model: LoadedArtifact, spec: TensorSpec) -> TensorSpec:
    """The input as it was before the conversion quantized it."""
    return replace(spec, dtype=np.dtype(np.float32)) if spec.name in model.quantized_io else spec


def _one(spec: TensorSpec) -> TensorSpec:
    """The input with an open first extent set to one image."""
    return spec if not spec.shape or isinstance(spec.shape[0], int) else replace(spec, shape=(1, *spec.shape[1:]))


def _quantized(model: LoadedArtifact, spec: TensorSpec, array: Array, notes: list[str]) -> Array:
    held = model.quantized_io.get(spec.name)
    if held is None:
        return array
    how = f": {held.meaning}" if held.meaning else ""
    notes.append(f"input '{spec.name}': float32 made {held.dtype.label}{how}")
    return model.quantize(spec.name, array)
