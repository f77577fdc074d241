"""The front half that ``convert``, ``check`` and ``--plan`` share: import, bind shapes, run passes, ask the target.

Because all of them come through here, what ``check`` calls unsupported is what ``convert`` refuses, by the same rule.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgec.converter.calibration.quantizing import PrecisionOptions, Quantized, quantize
from edgec.converter.importers import open_source
from edgec.converter.importers.imported import ImportedModel, SourceOptions
from edgec.converter.importers.onnx import require_static
from edgec.errors import EXIT_UNSUPPORTED, EdgecError, UnsupportedError, UsageError
from edgec.ir.graph import Model
from edgec.ir.passes.base import Pass, parse_pipeline
from edgec.ir.types import DataType
from edgec.targets.base import Lowered, Refusal, Target, TargetOptions

Progress = Callable[[str], object]
"""Receives the name of the step that begins."""

AFTER_IMPORT = "import"
AFTER_ALL = "all"


def silent(step: str) -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True)
class Inspection:
    """What to look at while the passes run.

    Attributes:
        print_after: names of passes after which the IR is shown; ``import`` and ``all`` as well.
        check: whether the canonical form is checked after every pass (EDG601).
        show: receives the name of the pass and the text form; standard error by default.
    """

    print_after: tuple[str, ...] = ()
    check: bool = False
    show: Callable[[str, str], None] | None = None


@dataclass
class Prepared:
    """A model that is ready for its target.

    Attributes:
        imported: the canonical model after the passes, and how it was imported.
        passes: what ran, in order.
        changed: the passes that changed something, in order.
        quantized: the model with QDQ, where a precision asked for it; ``imported`` keeps the float one.
    """

    target: Target
    options: TargetOptions
    imported: ImportedModel
    passes: list[Pass]
    changed: list[str] = field(default_factory=list)
    precision: PrecisionOptions = field(default_factory=PrecisionOptions)
    quantized: Quantized | None = None

    @property
    def model(self) -> Model:
        """The canonical model, quantized where a precision asked for it."""
        return self.imported.model if self.quantized is None else self.quantized.model

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the import and the quantization."""
        return (*self.imported.notes, *(self.quantized.notes if self.quantized is not None else ()))

    @property
    def pipeline(self) -> str:
        """The pipeline string with every option that is not the default."""
        return ",".join(str(item) for item in self.passes)

    def ask(self) -> list[Refusal]:
        """The canonical nodes that the target cannot hold; empty when it can be lowered."""
        return self.target.refusals(self.model, self.options)

    def lower(self) -> Lowered:
        """The artifact's contents; its notes begin with :attr:`notes`.

        Raises:
            UnsupportedError: the first refusal, with all of them in its details.
        """
        try:
            lowered = self.target.lower(self.model, self.options)
        except UnsupportedError as error:
            refusals = self.ask()
            raise (refuse(self.target, refusals) if refusals else error) from None
        if self.quantized is not None:
            lowered.quantized_io = self.quantized.quantized_io
        lowered.notes[:0] = [*self.notes, *_interface_notes(lowered)]
        return lowered


def _interface_notes(lowered: Lowered) -> list[str]:
    """How integers stand for the floats of inputs and outputs, and where channels lie."""
    found = []
    for name, held in lowered.quantized_io.items():
        place = ", channels last" if name in lowered.layouts else ""
        found.append(f"'{name}' is {held.dtype.label}{place}" + (f": {held.meaning}" if held.meaning else ""))
    return found


def prepare(
    path: Path,
    target: Target,
    source: SourceOptions | None = None,
    *,
    options: TargetOptions | None = None,
    passes: str | None = None,
    inspection: Inspection | None = None,
    precision: PrecisionOptions | None = None,
    structure_only: bool = False,
    search: bool = True,
    progress: Progress = silent,
) -> Prepared:
    """Bring a model to the point where the target would lower it; :meth:`Prepared.ask` then says whether it can.

    Args:
        source: how the model is read.
        precision: of the artifact; float32 by default.
        structure_only: quantize with made-up ranges where there is no calibration data.
        search: whether mixed precision makes and runs artifacts to find out what is raised; else it is as int8, noted.

    Raises:
        EdgecError: whatever the importer or a pass reports (EDG1xx, EDG2xx), EDG002 and EDG004 for names that do not
            exist, EDG202 when the target needs static shapes, EDG030 to EDG035 from the calibration, EDG601 from the
            checker.
    """
    chosen = options or TargetOptions()
    look = inspection or Inspection()
    pipeline = parse_pipeline(target.pipeline if passes is None else passes)
    _require_known(look.print_after, pipeline)
    progress("reading the model")
    assumed = 1 if target.static_shapes else None
    imported = open_source(path, replace(source or SourceOptions(), open_batch=assumed))
    if target.static_shapes:
        require_static(imported)
    prepared = Prepared(target, chosen, imported, pipeline)
    interface = _Interface(imported.model)
    _look(AFTER_IMPORT, imported.model, look)
    for item in pipeline:
        progress(f"pass {item.name}")
        if item.apply(imported.model):
            prepared.changed.append(item.name)
        _look(item.name, imported.model, look)
        interface.require_unchanged(imported.model, item.name)
    if look.check and passes is None:
        _check("the whole pipeline", imported.model, canonical=True, static=target.static_shapes)
    if precision is not None:
        prepared.precision = precision
        rules = target.quantization(precision.precision)
        if rules is not None:
            select = None
            if precision.precision == "mixed" and search and not structure_only:
                from edgec.converter.calibration.mixed.choose import mixed_chooser

                select = mixed_chooser(target, chosen, precision.data, precision.mixed, progress)
            prepared.quantized = quantize(
                imported.model, rules, precision, select=select, structure_only=structure_only, progress=progress
            )
            if precision.precision == "mixed" and not search:
                prepared.quantized.notes.append(
                    f"which nodes are raised to {precision.mixed.raise_to} is found by making artifacts and running "
                    "them, which a plan does not do: shown as int8"
                )
            _look("quantize", prepared.model, look)
        elif precision.precision == "float16":
            from edgec.converter.calibration.halving import halve

            prepared.quantized = halve(
                imported.model, target.float16_graph, precision, structure_only=structure_only, progress=progress
            )
        if prepared.quantized is not None:
            prepared.changed.extend(prepared.quantized.passes)
    return prepared


class _Interface:
    """What no pass may change: names, order and element types of inputs and outputs."""

    def __init__(self, model: Model) -> None:
        graph = model.graph
        self.inputs = [(value.name, value.dtype, value.shape) for value in graph.inputs]
        self.outputs = list(graph.output_names)
        self.types = [value.dtype for value in graph.outputs]

    def require_unchanged(self, model: Model, name: str) -> None:
        after = _Interface(model)
        types = [old for old, new in zip(self.types, after.types) if old not in (DataType.UNDEFINED, new)]
        if self.inputs != after.inputs or self.outputs != after.outputs or types:
            raise EdgecError("EDG601", "a pass changed the model's inputs or outputs", where=f"pass '{name}'")


def _require_known(wanted: Sequence[str], pipeline: Sequence[Pass]) -> None:
    known = [AFTER_IMPORT, AFTER_ALL, "quantize", *dict.fromkeys(item.name for item in pipeline)]
    for name in wanted:
        if name not in known:
            raise UsageError(
                "EDG004", f"no pass '{name}' runs here", why=f"known: {', '.join(known)}", help="edgec passes"
            )


def _look(name: str, model: Model, look: Inspection) -> None:
    if look.check and name != AFTER_IMPORT:
        _check(name, model)
    if name in look.print_after or AFTER_ALL in look.print_after:
        from edgec.ir.text import to_text

        (look.show or _to_stderr)(name, to_text(model))


def _check(name: str, model: Model, *, canonical: bool = False, static: bool = False) -> None:
    from edgec.ir.check import check_model

    try:
        check_model(model, canonical=canonical, static=static)
    except EdgecError as error:
        error.where = f"after {name}"
        raise


def _to_stderr(name: str, text: str) -> None:
    print(f"# after {name}\n{text.rstrip()}\n", file=sys.stderr)


def refusal_to_json(refusal: Refusal) -> dict[str, Any]:
    """A refusal as it stands in an error's ``details`` and in a check report."""
    return {
        "node": refusal.node,
        "operator": refusal.operator,
        "sources": list(refusal.sources),
        "rule": refusal.rule,
        "reason": refusal.reason,
        "help": refusal.help,
    }


def refuse(target: Target, refusals: Sequence[Refusal]) -> UnsupportedError:
    """The error that stands for all refusals of a target: it speaks of the first and lists the others."""
    first = refusals[0]
    listed = [_line(refusal) for refusal in refusals[1:4]]
    if len(refusals) > 4:
        listed.append(f"and {len(refusals) - 4} more: edgec check lists them")
    where = "also refused: " + "; ".join(listed) if listed else None
    origin = first.sources[0] if first.sources else first.node
    subject = f"'{origin}' ({first.operator})" if origin else "the model"
    return UnsupportedError(
        first.rule,
        f"{target.name} cannot hold {subject}",
        where=where,
        why=first.reason or None,
        help=first.help or f"edgec check MODEL --target {target.name} lists every node",
        details={
            "node": origin,
            "operator": first.operator,
            "rule": first.rule,
            "refusals": [refusal_to_json(refusal) for refusal in refusals],
        },
        exit=EXIT_UNSUPPORTED,
    )


def _line(refusal: Refusal) -> str:
    return f"'{refusal.sources[0] if refusal.sources else refusal.node}' ({refusal.operator})"
