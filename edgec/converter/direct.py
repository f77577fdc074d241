"""Convert a file that is already what the vendor's tool takes (an int8 .tflite made elsewhere), byte for byte.

Such a file does not pass through the IR: it may hold custom operators, and its numbers are the user's.  It is run on
the host before and after it was copied; what cannot be run there (custom operators) is said, not hidden.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.converter import manifest as manifests
from edgec.converter.convert import STEM, ConversionResult
from edgec.converter.making import ARTIFACT_NUMERICS, make
from edgec.converter.options import DEFAULTS, ConversionOptions
from edgec.converter.output import MANIFEST, REJECTED, OutputFolder, writing
from edgec.converter.prepare import Progress
from edgec.converter.verification.data import load_samples
from edgec.converter.verification.metrics import Difference
from edgec.converter.verification.report import CONSTANT, FAILED, PASSED, InputReport, OutputReport, VerificationReport
from edgec.errors import UsageError, VerificationError
from edgec.ir.inference import CANONICAL_OPSET
from edgec.ir.types import Array
from edgec.runtime.session import Session, TensorSpec
from edgec.targets.base import FileTarget, SessionSpec, Target, TargetOptions

if TYPE_CHECKING:
    from edgec.runtime.isolation import Worker

SAMPLES: Final = 3
DATA_SAMPLES: Final = 256
PRECISION: Final = "int8"
UNREAD: Final = (
    "input_shapes",
    "batch",
    "passes",
    "signature",
    "precision",
    "calibration",
    "method",
    "io_dtype",
    "io_layout",
)
"""Options that mean nothing for a file that is taken as it is."""


def refuse_unread(asked: ConversionOptions, path: Path) -> None:
    """Refuse options that mean nothing for a file that is taken as it is.

    Raises:
        UsageError: EDG001.
    """
    names = [name for name in UNREAD if getattr(asked, name) not in (DEFAULTS[name], {})]
    if names:
        raise UsageError(
            "EDG001",
            f"{', '.join(names)} cannot be given here",
            why=f"'{path.name}' is taken as it is, byte for byte",
            help="leave it out, or convert the model that the file was made from",
        )


def convert_file(
    path: Path,
    target: FileTarget,
    folder: Path,
    options: TargetOptions,
    asked: ConversionOptions,
    *,
    plan: bool,
    progress: Progress,
) -> ConversionResult:
    """Convert a file that ``target.takes``; see :func:`edgec.converter.convert.convert`."""
    progress("reading the model")
    lowered = target.import_lowered(path, options)
    name = STEM + target.suffix
    if plan:
        document = _plan(path, target, folder, options, asked, lowered.notes)
        return ConversionResult(folder / name, folder / MANIFEST, plan=document, notes=tuple(lowered.notes))
    _keep_source(path, folder, target)
    source = {**manifests.source_entry(path), "opset": CANONICAL_OPSET}

    def verify(file: Path, spec: SessionSpec) -> VerificationReport:
        return compare(path, file, target.execute_lowered(path), spec, asked)

    with writing(folder), OutputFolder(folder) as place:
        artifact, report = make(target, lowered, place, STEM, verify, source, progress)
        notes = (*lowered.notes, *artifact.notes)
        facts = {key: value for key, value in target.inspect(artifact.main).items() if key != "size"}
        document = {
            "schema": manifests.SCHEMA,
            "target": target.name,
            "source": source,
            "options": asked.manifest_entry(io_layout=options.io_layout, precision=PRECISION),
            "pipeline": "",
            "passes_changed": [],
            "artifact": {**manifests.file_entry(artifact.main), **facts, **artifact.facts},
            "sidecars": [manifests.file_entry(item) for item in artifact.sidecars],
            "layouts": {},
            "notes": list(notes),
            "versions": manifests.versions(),
            "verification": report.to_json(),
        }
        written = place.working / MANIFEST
        written.write_text(manifests.to_text(document), encoding="utf-8")
        progress("moving into place")
        *sidecars, main, manifest = place.publish((*artifact.sidecars, artifact.main), written)
        return ConversionResult(main, manifest, report, None, tuple(sidecars), notes, document)


def _keep_source(path: Path, folder: Path, target: Target) -> None:
    for name in (STEM + target.suffix, *(STEM + suffix for suffix in target.sidecars)):
        if (folder / name).exists() and (folder / name).samefile(path):
            raise UsageError(
                "EDG015",
                "the artifact would overwrite the source model",
                where=str(folder / name),
                help="give -o FOLDER",
            )


def _plan(
    path: Path, target: FileTarget, folder: Path, options: TargetOptions, asked: ConversionOptions, notes: list[str]
) -> dict[str, Any]:
    name = STEM + target.suffix
    origin = "random" if asked.data_path is None else asked.data_path.name
    facts = target.support_lowered(path, options)
    operators: dict[str, int] = {}
    for node in facts.nodes:
        operators[node.operator] = operators.get(node.operator, 0) + 1
    with _Sessions(asked.isolate) as sessions:
        inputs = _inputs_of(sessions, path, target.execute_lowered(path))
    listed: list[dict[str, Any]] = []
    for spec in inputs:
        entry: dict[str, Any] = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape), "from": origin}
        if asked.data is None and spec.name in asked.bounds:
            entry["range"] = list(asked.bounds[spec.name])
        listed.append(entry)
    return {
        "target": target.name,
        "source": path.name,
        "pipeline": "",
        "passes_changed": [],
        "operators": dict(sorted(operators.items())),
        "output": str(folder),
        "files": [name, *(STEM + suffix for suffix in target.sidecars), MANIFEST],
        "rejected": name + REJECTED,
        "verification": {"inputs": listed, "seed": asked.seed if asked.data is None else None},
        "notes": notes,
        "tool": target.tool_plan(options, STEM),
    }


# verification: the file before and after


def compare(
    source: Path, file: Path, before: SessionSpec, after: SessionSpec, asked: ConversionOptions
) -> VerificationReport:
    """Run the source and the file on the same inputs.

    Raises:
        VerificationError: EDG301 when an output differs, EDG302 or EDG303 when the file does not load or run.
    """
    seed = asked.seed if asked.data is None else None
    report = VerificationReport(
        PRECISION, 0, seed, {"runtime": "ai-edge-litert", "version": manifests.package_version("ai-edge-litert") or ""}
    )
    with _Sessions(asked.isolate) as sessions:
        try:
            reference = sessions.open(source, before)
        except VerificationError as error:
            if error.code != "EDG302" or "custom op" not in (error.why or ""):
                raise
            report.notes.append(f"the host cannot run the model, so it was not compared: {error.why or error.message}")
            return report
        session = sessions.open(file, after)
        feeds = _feeds(reference.inputs, asked)
        for spec in reference.inputs:
            values = "data" if asked.data is not None else _range_text(spec, asked)
            report.inputs.append(InputReport(spec.name, str(spec.dtype), feeds[0][spec.name].shape, values))
        differences = {spec.name: Difference() for spec in reference.outputs}
        firsts: dict[str, Array] = {}
        varying: set[str] = set()
        for feed in feeds:
            wanted, found = reference.run(feed), session.run(feed)
            for name, array in wanted.items():
                differences[name].add(array, found[name])
                if not np.array_equal(firsts.setdefault(name, array), array):
                    varying.add(name)
        report.samples = len(feeds)
        for name, array in firsts.items():
            report.outputs.append(_judged(name, array, differences[name], name in varying))
    failed = any(output.status == FAILED for output in report.outputs)
    report.levels[ARTIFACT_NUMERICS] = FAILED if failed else PASSED
    report.raise_for_failure()
    return report


def _judged(name: str, example: Array, difference: Difference, varies: bool) -> OutputReport:
    """The same kernels on the same bytes give the same numbers; on the device integers may be one step apart."""
    integers = example.dtype.kind in "iub"
    same = difference.shapes is None and (difference.max_abs <= 1 if integers else difference.relative_l2 <= 1e-4)
    if not same:
        status, why = FAILED, f"differs by up to {difference.max_abs:.3g}"
    elif not varies:
        status, why = CONSTANT, "the same for every input that was tried"
    else:
        status, why = PASSED, "equal" if difference.equal_fraction == 1 else "equal within one step"
    return OutputReport(name, str(example.dtype), example.shape, status, why, difference, None, None)


def _feeds(inputs: tuple[TensorSpec, ...], asked: ConversionOptions) -> list[dict[str, Array]]:
    for name in asked.bounds:
        if name not in {spec.name for spec in inputs}:
            raise UsageError("EDG002", f"the model has no input '{name}'", help="edgec inspect MODEL")
    if asked.data is not None:
        given = []
        for feed in load_samples(asked.data, list(inputs), fill=True):
            given.append(dict(feed))
            if len(given) == DATA_SAMPLES:
                break
        if not given:
            raise UsageError("EDG005", f"'{asked.data}' holds no samples")
        return given
    return [{spec.name: _random(spec, asked, number) for spec in inputs} for number in range(SAMPLES)]


def _random(spec: TensorSpec, asked: ConversionOptions, number: int) -> Array:
    generator = np.random.default_rng((asked.seed, number, zlib.crc32(spec.name.encode())))
    shape = tuple(extent if isinstance(extent, int) else 1 for extent in spec.shape)
    low, high = _bounds(spec, asked)
    if spec.dtype.kind in "iu":
        return generator.integers(int(low), int(high), shape, np.int64, endpoint=True).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return generator.integers(0, 1, shape, endpoint=True).astype(np.bool_)
    return generator.uniform(low, high, shape).astype(spec.dtype)


def _bounds(spec: TensorSpec, asked: ConversionOptions) -> tuple[float, float]:
    given = asked.bounds.get(spec.name)
    if given is not None:
        return given
    if spec.dtype.kind in "iu" and spec.dtype.itemsize == 1:
        limits = np.iinfo(spec.dtype)
        return int(limits.min), int(limits.max)
    return (0, 9) if spec.dtype.kind in "iu" else (-1.0, 1.0)


def _range_text(spec: TensorSpec, asked: ConversionOptions) -> str:
    low, high = _bounds(spec, asked)
    return f"random from {low:g} to {high:g}"


class _Sessions:
    """Opens sessions in a worker process, or in this one."""

    def __init__(self, isolate: bool) -> None:
        self._isolate = isolate
        self._worker: Worker | None = None

    def __enter__(self) -> _Sessions:
        if self._isolate:
            from edgec.runtime.isolation import Worker

            self._worker = Worker()
        return self

    def __exit__(self, *details: object) -> None:
        if self._worker is not None:
            self._worker.close()

    def open(self, file: Path, spec: SessionSpec) -> Session:
        """Load a file."""
        if self._worker is not None:
            return self._worker.open(spec.factory, file, dict(spec.options))
        import importlib

        module, _, function = spec.factory.partition(":")
        opened: Session = getattr(importlib.import_module(module), function)(file, **spec.options)
        return opened


def _inputs_of(sessions: _Sessions, path: Path, spec: SessionSpec) -> tuple[TensorSpec, ...]:
    try:
        return tuple(sessions.open(path, spec).inputs)
    except VerificationError:
        return ()
