"""The winner of a study as an artifact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.converter import manifest as manifests
from edgec.converter.output import MANIFEST, OutputFolder, writing
from edgec.errors import UsageError
from edgec.targets import registry
from edgec.targets.knobs import MIXED, Part
from edgec.tuner.conversions import FOLDER
from edgec.tuner.outcome import StudyResult, read_study
from edgec.tuner.space import key_of

SCHEMA: Final = "edgec-tune-apply-1"


@dataclass(frozen=True)
class Tuned:
    """What a study found, in the terms of a conversion and of a session.

    Attributes:
        target: name of the target.
        precision, max_drop, input_shapes, target_options: of the conversion.
        session: options of the session.
        conversion: the part of the winner's configuration that decides the artifact.
        entry: what the manifest says of it.
    """

    target: str
    precision: str | None
    input_shapes: Mapping[str, tuple[int, ...]]
    target_options: Mapping[str, Any]
    session: Mapping[str, Any]
    conversion: Mapping[str, Any]
    entry: Mapping[str, Any]
    max_drop: float | None = None


def tuned_settings(study: StudyResult) -> Tuned:
    """The winner's settings.

    Raises:
        EdgecError: EDG813 no winner, EDG815 not finished.
    """
    winner = study.require_winner()
    header = study.header
    configuration = winner["configuration"]
    parts = {knob["name"]: knob["part"] for knob in header["knobs"]}
    batch = configuration.get("batch")
    shapes = {
        name: (batch, *shape[1:]) if isinstance(batch, int) and shape else tuple(shape)
        for name, shape in header["input_shapes"].items()
    }
    options = dict(header["target_options"])
    options.update({name: value for name, value in configuration.items() if parts[name] == Part.CONVERSION})
    session = dict(header["session"])
    session.update({name: value for name, value in configuration.items() if parts[name] == Part.SESSION})
    gain = (study.finish or {}).get("gain")
    entry = {
        "trial": winner["number"],
        "configuration": dict(configuration),
        "session": session,
        "gain": None if gain is None else gain["text"],
        "basis": header["basis"],
        "machine": header["machine"]["processor"],
    }
    return Tuned(
        header["target"],
        configuration.get("precision", header["options"].get("precision")),
        shapes,
        options,
        session,
        {name: value for name, value in configuration.items() if parts[name] != Part.SESSION},
        entry,
        _max_drop(configuration, parts, header),
    )


def _max_drop(configuration: Mapping[str, Any], parts: Mapping[str, str], header: Mapping[str, Any]) -> float | None:
    """What the winner's conversion to mixed precision was allowed to lose."""
    if configuration.get("precision", header["options"].get("precision")) != MIXED:
        return None
    levels = [value for name, value in configuration.items() if parts[name] == Part.QUALITY]
    allowed: float | None = levels[0] if levels else header["goals"]["limits"].get("drop")
    return allowed


@dataclass(frozen=True)
class Applied:
    """An artifact in place: the file, its manifest, and what was found about it."""

    artifact: Path
    manifest: Path
    tuned: Tuned

    def to_json(self) -> dict[str, Any]:
        """The document (schema ``edgec-tune-apply-1``)."""
        return {
            "schema": SCHEMA,
            "status": "ok",
            "artifact": str(self.artifact),
            "manifest": str(self.manifest),
            "tuned": dict(self.tuned.entry),
            "error": None,
        }


def apply_study(study: str | Path, output: str | Path) -> Applied:
    """Put the winner's artifact, which the study has converted and verified, into a folder.

    The session options that go with it stand in the manifest, where :func:`edgec.execution.load.load` finds them, and
    in the sidecar of targets that have one.

    Raises:
        EdgecError: EDG810, EDG813, EDG815; EDG816 where the study's artifact is gone or not what it was; EDG010 to
            EDG012 for the output folder.
    """
    result = read_study(study)
    tuned = tuned_settings(result)
    source = Path(study) / FOLDER / key_of(tuned.conversion)
    document = _checked(source)
    target = registry.load(tuned.target)
    with writing(Path(output)), OutputFolder(Path(output)) as place:
        files = [document["artifact"], *document["sidecars"]]
        for entry in files:
            shutil.copyfile(source / entry["path"], place.working / entry["path"])
        main = place.working / document["artifact"]["path"]
        target.write_session(main, tuned.session)
        document["sidecars"] = [manifests.file_entry(place.working / item["path"]) for item in document["sidecars"]]
        document["tuned"] = dict(tuned.entry)
        written = place.working / MANIFEST
        written.write_text(manifests.to_text(document), encoding="utf-8")
        sidecars = [place.working / item["path"] for item in document["sidecars"]]
        *_, artifact, manifest = place.publish((*sidecars, main), written)
    return Applied(artifact, manifest, tuned)


def _checked(folder: Path) -> dict[str, Any]:
    """The manifest of a conversion of the study, whose files are what it says."""
    try:
        document: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for entry in (document["artifact"], *document["sidecars"]):
            if manifests.sha256(folder / entry["path"]) != entry["sha256"]:
                raise ValueError(f"'{entry['path']}' has changed since it was verified")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            "EDG816",
            "the winner's artifact is not in the study any more",
            where=str(folder),
            why=str(error),
            help="edgec convert MODEL --target NAME --tuned STUDY makes it again",
        ) from error
    return document


def for_conversion(study: str | Path, model: str | Path, target: str, given: Sequence[str]) -> Tuned:
    """The settings for converting the study's model again.

    Args:
        given: options of the command line that the study decides.

    Raises:
        EdgecError: EDG001 for options that contradict the study, EDG811 for another target, EDG810, EDG813, EDG815.
    """
    found = read_study(study)
    tuned = tuned_settings(found)
    if given:
        raise UsageError("EDG001", f"{', '.join(given)} cannot be given with --tuned", why="the study decides it")
    if target != tuned.target:
        raise UsageError("EDG811", f"the study is of the target {tuned.target}, not of {target}")
    if not Path(model).exists():
        return tuned  # the conversion says so
    if manifests.source_hash(Path(model)) != found.header["model"]["sha256"]:
        name = found.header["model"]["name"]
        raise UsageError(
            "EDG811",
            f"'{Path(model).name}' is not the model of the study",
            why=f"that is '{name}', and what was measured of it says nothing of another model",
        )
    return tuned
