"""Run a canonical float model on the calibration data and collect statistics of the values that matter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgec.converter.calibration import cache
from edgec.converter.calibration.data import NAMED, CalibrationData
from edgec.converter.calibration.statistics import Calibration, Statistics
from edgec.converter.verification.data import Feeds
from edgec.errors import EdgecError, UsageError
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.types import Array
from edgec.ir.writer import write_model
from edgec.runtime.session import Session

THREADS = 2
"""Threads inside an operator: calibration shares the machine."""
FEW = 16
"""Fewer inputs than that are told of."""

Seen = Callable[[int, Feeds, Mapping[str, Array]], object]


def calibrate(
    model: Model,
    names: Sequence[str],
    data: CalibrationData,
    *,
    progress: Callable[[str], object] = lambda step: None,
    cache_folder: Path | None = None,
    histograms: bool = True,
    seen: Seen | None = None,
) -> Calibration:
    """Statistics of the named values over all samples.

    One sample is in memory at a time, with all named values of it; of earlier ones only histograms are kept.

    Args:
        model: a model of ONNX operators that ONNX Runtime runs; it is not changed.
        names: names of values of the main graph, float32.
        cache_folder: where statistics are kept between runs, keyed by the model's and the data's bytes; None for
            nowhere.  Callables are never cached.
        histograms: whether histograms are needed; the extents and means are known without.
        seen: called with the number of every sample, the sample, and the outputs, those of the model among them; not
            where the statistics were in the cache.

    Raises:
        UsageError: EDG005, EDG006 for data that does not fit; EDG031 where it holds NaN or infinity, or makes the model
            compute them; EDG032 where it holds no sample.
        EdgecError: EDG033 when ONNX Runtime cannot run the model.
    """
    values = {name: Statistics(counted=histograms) for name in names}
    with tempfile.TemporaryDirectory(prefix="edgec-calibration-") as folder:
        path = Path(folder) / "model.onnx"
        observed, handed = _observed(model, names)
        write_model(observed, path)
        key = None if cache_folder is None else cache.key_of(path, data)
        if cache_folder is not None and key is not None:
            known = cache.load(cache_folder, key, histograms=histograms)
            if known is not None:
                return _noted(known, model, data)
        found = _run(path, model, values, handed, data, progress, seen)
    if cache_folder is not None and key is not None:
        cache.store(cache_folder, key, found, histograms=histograms)
    return _noted(found, model, data)


def _observed(model: Model, names: Sequence[str]) -> tuple[Model, dict[str, str]]:
    """A copy that hands out the named values as well, and which output holds which of them."""
    wanted = set(names)
    copy = copy_model(model)
    graph = copy.graph
    handed = {name: value.name for name, value in zip(graph.output_names, graph.outputs)}
    given = set(graph.outputs)
    for node in list(graph.nodes):
        for value in node.outputs:
            if value.name in wanted and value not in given:
                name = value.name if value.name not in handed else graph.unique(f"{value.name}_observed")
                graph.add_output(name, value)
                handed[name] = value.name
    return copy, handed


def _run(
    path: Path,
    model: Model,
    values: dict[str, Statistics],
    handed: Mapping[str, str],
    data: CalibrationData,
    progress: Callable[[str], object],
    seen: Seen | None,
) -> Calibration:
    from edgec.runtime.onnxruntime import open_session

    try:
        session = open_session(path, threads=THREADS)
    except EdgecError as error:
        raise _not_run(error) from error
    try:
        count = _observe(session, model, values, handed, data, progress, seen)
    except KeyboardInterrupt as cancelled:
        raise KeyboardInterrupt("the calibration was cancelled; its statistics are not kept") from cancelled
    session.close()
    if not count:
        raise UsageError("EDG032", "the calibration data holds no samples", help="16 to 100 typical inputs are enough")
    return Calibration(count, values)


def _observe(
    session: Session,
    model: Model,
    values: dict[str, Statistics],
    handed: Mapping[str, str],
    data: CalibrationData,
    progress: Callable[[str], object],
    seen: Seen | None,
) -> int:
    """Take every sample into account; how many there were."""
    inputs = [value.name for value in model.graph.inputs]
    total = data.count(model)
    count = 0
    for feeds in data.samples(model):
        progress(f"calibrating, sample {count + 1}" if total is None else f"calibrating: {count + 1} of {total}")
        for name in inputs:
            if not _is_finite(feeds[name]):
                raise UsageError(
                    "EDG031",
                    f"the calibration data holds NaN or infinity for the input '{name}'",
                    where=data.place(model, count),
                    help="leave the sample out, or check its preprocessing",
                )
            if name in values:
                values[name].add(feeds[name])
        try:
            results = session.run(feeds)
        except EdgecError as error:
            raise _not_run(error) from error
        for name, array in results.items():
            inner = handed[name]
            if inner in values and not values[inner].add(array):
                raise UsageError(
                    "EDG031",
                    "the model computes NaN or infinity for a sample of the calibration data",
                    where=f"value '{inner}'; {data.place(model, count)}",
                    help="leave the sample out, or check its preprocessing",
                )
        if seen is not None:
            seen(count, feeds, results)
        count += 1
    return count


def _is_finite(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _not_run(error: EdgecError) -> EdgecError:
    return EdgecError(
        "EDG033", "ONNX Runtime cannot run the model on the calibration data", why=error.why or error.message
    )


def _noted(found: Calibration, model: Model, data: CalibrationData) -> Calibration:
    found.origin = data.origin()
    found.notes = []
    if data.is_random:
        found.notes.append(
            "calibrated with random numbers: good for trying whether the model can be quantized, not for use"
        )
    elif found.samples == 1 and (rows := data.rows_of_one(model)) < FEW:
        of = f" of {rows} rows" if rows > 1 else ""
        found.notes.append(f"calibrated with one sample{of}: the ranges of other inputs may be larger; give 16 to 100")
    renamed = data.renamed(model)
    if renamed is not None:
        found.notes.append(renamed)
    left_out = data.left_out()
    if left_out:
        named = ", ".join(f"'{name}'" for name in left_out[:NAMED])
        more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        found.notes.append(f"the calibration folder holds more than samples, which was left out: {named}{more}")
    for value in model.graph.inputs:
        statistics = found.values.get(value.name)
        if statistics is not None and statistics.constant:
            found.notes.append(
                f"the calibration data for '{value.name}' is the same number everywhere ({statistics.low:g})"
            )
    return found
