"""Truncated runs: some values of a model, computed by the target and by ONNX Runtime on the same inputs, compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from edgec.converter.bisection.steps import Watch
from edgec.converter.verification.data import Feeds
from edgec.converter.verification.metrics import Difference
from edgec.converter.verification.reference import Host
from edgec.errors import EXIT_UNSUPPORTED, EdgecError
from edgec.ir.graph import Model, Value
from edgec.ir.truncate import truncate
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.runtime.session import Session
from edgec.targets.base import Lowered, Target, TargetOptions

REFERENCE: Final = "edgec.runtime.onnxruntime:open_session"
DUMP_BYTES: Final = 256 << 20
"""Most bytes of values that one run hands out."""
ROUNDING: Final = 1e-6
"""Errors below this, where the reference is nothing but zeros, are rounding."""


class Prober:
    """Compiles and runs parts of one model.

    Args:
        model: what the target lowers; left as it is.
        reference: the float model with the same values.
        samples: inputs by name.
        host: opens sessions.
        folder: for the files; what is in it is overwritten.

    Attributes:
        runs: how many truncated models were compiled and executed.
    """

    def __init__(
        self,
        target: Target,
        options: TargetOptions,
        model: Model,
        reference: Model,
        samples: Sequence[Feeds],
        host: Host,
        folder: Path,
    ):
        self._target, self._options = target, options
        self._model, self._reference = model, reference
        self._samples, self._host, self._folder = samples, host, folder
        self._named: dict[str, Value] = {v.name: v for node in reference.graph.nodes for v in node.outputs}
        self.runs = 0

    def compare(self, watches: Sequence[Watch]) -> dict[Watch, Difference]:
        """How far each value is from the reference, over all samples.

        Raises:
            UnsupportedError: the target cannot hold the truncated model.
            VerificationError: EDG302, EDG303 when it, or the reference, does not load or run.
        """
        if not watches:
            return {}
        self.runs += 1
        names = {watch: f"bisect_{position}" for position, watch in enumerate(watches)}
        found = {watch: Difference() for watch in watches}
        with_target, lowered = self._compiled({names[watch]: watch.value for watch in watches})
        try:
            plain = self._opened({names[watch]: self._named[watch.reference] for watch in watches})
            try:
                for feeds in self._samples:
                    expected = plain.run({spec.name: feeds[spec.name] for spec in plain.inputs})
                    actual = run_lowered(with_target, lowered, feeds)
                    for watch, name in names.items():
                        found[watch].add(expected[name], actual[name])
            finally:
                plain.close()
        finally:
            with_target.close()
        return found

    def dump(self, watches: Sequence[Watch]) -> tuple[dict[Watch, Difference], list[Watch]]:
        """The same for any number of values, in as few runs as memory allows, and the values that cannot be had."""
        found: dict[Watch, Difference] = {}
        missing: list[Watch] = []
        waiting = _chunks(watches)
        while waiting:
            part = waiting.pop(0)
            try:
                found.update(self.compare(part))
            except EdgecError as error:
                if error.exit_code != EXIT_UNSUPPORTED and not error.code.startswith("EDG30"):
                    raise
                if len(part) == 1:
                    missing.extend(part)
                else:
                    waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
        return found, missing

    def _compiled(self, wanted: Mapping[str, Value]) -> tuple[Session, Lowered]:
        lowered = self._target.lower(truncate(self._model, wanted), self._options)
        file = self._target.write_lowered(lowered, self._folder, "model")
        if file is None:
            file = self._target.compile(lowered, self._folder, "model").main
            spec = self._target.session(file)
        else:
            spec = self._target.execute_lowered(file)
        lowered.payload = None
        return self._host.open(spec.factory, file, dict(spec.options)), lowered

    def _opened(self, wanted: Mapping[str, Value]) -> Session:
        path = self._folder / "reference.onnx"
        write_model(truncate(self._reference, wanted), path)
        return self._host.open(REFERENCE, path, {"optimise": False})


def run_lowered(session: Session, lowered: Lowered, feeds: Feeds) -> dict[str, Array]:
    """Run an artifact with inputs and outputs as the model has them."""
    given = {}
    for spec in session.inputs:
        array, held = feeds[spec.name], lowered.quantized_io.get(spec.name)
        array = array if held is None else held.quantized(array)
        permutation = lowered.layouts.get(spec.name)
        given[spec.name] = array if permutation is None else np.ascontiguousarray(array.transpose(permutation))
    found = {}
    for name, array in session.run(given).items():
        held, permutation = lowered.quantized_io.get(name), lowered.layouts.get(name)
        array = array if held is None else held.real(array)
        found[name] = array if permutation is None else array.transpose(np.argsort(permutation))
    return found


def _chunks(watches: Sequence[Watch]) -> list[list[Watch]]:
    chunks: list[list[Watch]] = []
    room = 0
    for watch in watches:
        size = _bytes(watch.value)
        if not chunks or size > room:
            chunks.append([])
            room = DUMP_BYTES
        chunks[-1].append(watch)
        room -= size
    return chunks


def _bytes(value: Value) -> int:
    count = 1
    for extent in value.shape or ():
        count *= extent if isinstance(extent, int) else 1
    return count * max(value.dtype.bits // 8, 1)


def quality(difference: Difference) -> float:
    """Signal to noise, decibels; infinite when nothing differs, minus infinity for another shape, NaN or infinities."""
    if difference.shapes is not None or difference.infinities:
        return -math.inf
    if not difference.reference_energy and difference.max_abs <= ROUNDING:
        return math.inf
    return difference.sqnr_db
