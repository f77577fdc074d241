"""One verified conversion per batch, precision and option, kept in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgec.converter.options import DEFAULTS, ConversionOptions
from edgec.errors import (
    EXIT_FAILED,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_TOOL_FAILED,
    EXIT_TOOL_MISSING,
    EXIT_UNSUPPORTED,
    EdgecError,
)
from edgec.targets.base import Target
from edgec.targets.knobs import MIXED, Configuration, Part
from edgec.tuner.space import Space, key_of
from edgec.tuner.trials import SAME, UNREACHABLE, TrialFailed

FOLDER: Final = "conversions"
MANIFEST: Final = "manifest.json"
OWNER: Final = "same.json"
"""Holds what an artifact was made for, its hash, and what the same artifact was made for before, or null."""
RAISED: Final = "raised_nodes"
LOSES_TOO_MUCH: Final = "EDG038"
NEEDS_DATA: Final = frozenset({"int8", "int16x8", "mixed"})
"""Precisions that need calibration data."""
ENDING: Final = frozenset({EXIT_TOOL_MISSING, EXIT_INTERNAL, EXIT_INTERRUPTED})
"""Exit codes of a conversion that no other configuration would avoid."""
ENDING_CODES: Final = frozenset({"EDG010", "EDG011", "EDG012", "EDG013", "EDG020"})


@dataclass(frozen=True)
class Source:
    """The model and how it is converted, whatever the configuration.

    Attributes:
        model: file or folder.
        input_shapes: input name to the shape at the default batch; empty for the model's own.
        batch: the default batch, the leading extent of every input; None where they have none in common.
        options: of every conversion; its shapes, batch and precision are those of the default.
    """

    model: Path
    input_shapes: Mapping[str, tuple[int, ...]]
    batch: int | None
    options: ConversionOptions = field(default_factory=ConversionOptions)

    def shapes(self, batch: int | None) -> dict[str, tuple[int, ...]] | None:
        """The input shapes at a batch; None to leave them to the model."""
        if not self.input_shapes:
            return None
        if batch is None or batch == self.batch:
            return dict(self.input_shapes)
        return {name: (batch, *shape[1:]) for name, shape in self.input_shapes.items()}


@dataclass(frozen=True)
class Conversion:
    """A verified artifact.

    Attributes:
        folder: with the artifact and ``manifest.json``.
        artifact: the file to open.
        manifest: what stands in ``manifest.json``.
    """

    folder: Path
    artifact: Path
    manifest: Mapping[str, Any]

    @property
    def described(self) -> dict[str, float]:
        """What a trial says of the artifact, as further values: of mixed precision, how many nodes stayed float."""
        mixed = self.manifest.get("quantization", {}).get("mixed")
        return {} if mixed is None else {RAISED: float(mixed["raised"])}


class Conversions:
    """Converts for configurations, once for each that differs in what decides the artifact.

    Args:
        folder: the study's.
        progress: called with the name of each step.
    """

    def __init__(self, target: Target, source: Source, space: Space, folder: Path, progress: Callable[[str], object]):
        self._target = target
        self._source = source
        self._space = space
        self._folder = folder / FOLDER
        self._progress = progress

    def place(self, configuration: Configuration) -> Path:
        """The folder of a configuration's artifact, whether or not it is there."""
        return self._folder / key_of(self._space.conversion(configuration))

    def get(self, configuration: Configuration) -> Conversion:
        """The artifact, converted and verified now where it was not before.

        Raises:
            TrialFailed: the target cannot hold it, its tool fails, or it computes something else.
            EdgecError: a tool is missing, or the disk is full.
        """
        from edgec.converter.convert import convert

        place = self.place(configuration)
        if not (place / MANIFEST).is_file():
            part = self._space.suspects(configuration)
            try:
                convert(self._source.model, target=self._target.name, output=place, **self._arguments(configuration))
            except EdgecError as error:
                if error.exit_code in ENDING or error.code in ENDING_CODES:
                    raise
                raise TrialFailed(_kind(error), f"{error.code}: {_sentence(error)}", part) from error
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        self._require_its_own(configuration, place, manifest)
        return Conversion(place, place / Path(manifest["artifact"]["path"]).name, manifest)

    def _require_its_own(self, configuration: Configuration, place: Path, manifest: Mapping[str, Any]) -> None:
        """Refuse to measure one artifact twice: mixed precision may come to what int8 is, or to what less loss gives.

        Which of two was there first is written down once, since both folders stay.

        Raises:
            TrialFailed: ``same``.
        """
        note = place / OWNER
        part = self._space.conversion(configuration)
        if not note.is_file():
            digest = manifest["artifact"]["sha256"]
            others = [_note(other) for other in sorted(self._folder.iterdir()) if other != place]
            owners = [
                other for other in others if other is not None and (other["sha256"], other["same"]) == (digest, None)
            ]
            same = owners[0]["configuration"] if owners else None
            temporary = note.with_suffix(".part")
            entry = {"configuration": part, "sha256": digest, "same": same}
            temporary.write_text(json.dumps(entry), encoding="utf-8")
            temporary.replace(note)
        same = json.loads(note.read_text(encoding="utf-8"))["same"]
        if same is not None:
            told = " ".join(f"{name}={value}" for name, value in same.items())
            raise TrialFailed(SAME, f"the artifact is that of {told}", part)

    def _arguments(self, configuration: Configuration) -> dict[str, Any]:
        batch = configuration.get("batch", self._source.batch)
        given = self._source.options
        precision = configuration.get("precision", given.precision)
        found = dict(vars(given))
        found["input_shapes"] = self._source.shapes(batch if isinstance(batch, int) else None)
        found["batch"] = None
        found["precision"] = precision
        if precision not in NEEDS_DATA and precision is not None:
            found["calibration"], found["method"] = None, DEFAULTS["method"]
        if precision != MIXED:
            found["max_drop"] = None
        options = dict(given.target_options or {})
        for name, value in configuration.items():
            part = self._space.by_name[name].part
            if part is Part.CONVERSION:
                options[name] = value
            elif part is Part.QUALITY:
                found["max_drop"] = value
        found["target_options"] = options
        return {**found, "progress": self._progress}


def _note(place: Path) -> dict[str, Any] | None:
    """What is written down of the artifact in a folder, where that is done."""
    try:
        found: dict[str, Any] = json.loads((place / OWNER).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found


def _kind(error: EdgecError) -> str:
    if error.code == LOSES_TOO_MUCH:
        return UNREACHABLE
    kinds = {EXIT_FAILED: "wrong", EXIT_UNSUPPORTED: "refused", EXIT_TOOL_FAILED: "crash"}
    return kinds.get(error.exit_code, "refused")


def _sentence(error: EdgecError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message
