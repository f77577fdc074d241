"""The noise of single places is what quantizing them alone does, and noises of several add up."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.mixed.path import greedy_path
from edgec.converter.calibration.mixed.sensitivity import measure_noise
from edgec.converter.calibration.mixed.units import Units, find_units
from edgec.converter.calibration.quantizing import PrecisionOptions, quantize
from edgec.converter.prepare import prepare
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.base import Pass
from edgec.ir.passes.quantize import Quantize
from edgec.targets import registry
from tests.converter.calibration.mixed.planted import network, samples, saved
from tests.ir.equivalence import run

COUNT = 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Quantize, Units]:
    """The planted network, how it would be quantized, and the noise of its places."""
    folder: Path = tmp_path_factory.mktemp("noise")
    target = registry.load("tflite")
    data = CalibrationData(saved(folder))
    found: list[tuple[Model, Quantize, Units]] = []

    def look(made: object, plan: Quantize) -> list[Pass]:
        model: Model = made.model  # type: ignore[attr-defined]
        units = find_units(model.graph, plan)
        before = copy_model(model)
        measure_noise(model, plan, units, [{"x": item} for item in samples()[:COUNT]])
        found.append((before, plan, units))
        return [plan]

    rules = target.quantization("int8")
    assert rules is not None
    quantize(prepare(network(folder), target).imported.model, rules, PrecisionOptions("int8", data), select=look)
    return found[0]


def real_noise(model: Model, plan: Quantize, kept: frozenset[str]) -> float:
    """Relative energy of the error of the graph with QDQ where only some nodes are kept in float."""
    copy = copy_model(model)
    replace(plan, keep=kept).apply(copy)
    error = reference = 0.0
    for item in samples()[:COUNT]:
        (wanted,), (found,) = run(model, {"x": item}), run(copy, {"x": item})
        error += float(np.sum(np.square(found - wanted, dtype=np.float64)))
        reference += float(np.sum(np.square(wanted, dtype=np.float64)))
    return error / reference


def test_a_node_alone_makes_the_noise_of_its_places(measured: tuple[Model, Quantize, Units]) -> None:
    model, plan, units = measured
    names = {node.name for unit in units.units for node in unit.nodes}
    checked = 0
    for unit in units.units:
        others = [other for other in units.units if other is not unit]
        estimated = units.noise(others)
        if unit.moves or estimated < 1e-5:
            continue
        checked += 1
        real = real_noise(model, plan, frozenset(names - {node.name for node in unit.nodes}))
        assert estimated == pytest.approx(real, rel=0.6), unit.source
    assert checked >= 3


def test_the_noise_of_all_is_of_the_order_of_the_sum(measured: tuple[Model, Quantize, Units]) -> None:
    """Not more can be said here: a channel whose factor is rounded to nothing has no other errors any more."""
    model, plan, units = measured
    assert 1 / 10 < units.noise(()) / real_noise(model, plan, frozenset()) < 10
    assert units.noise(units.units) == 0


def test_the_path_goes_from_nothing_to_everything_with_falling_noise(
    measured: tuple[Model, Quantize, Units],
) -> None:
    units = measured[2]
    path = greedy_path(units)
    assert path[0].raised == frozenset() and path[-1].raised == frozenset(units.units)
    for before, after in itertools.pairwise(path):
        assert before.raised < after.raised and after.noise <= before.noise
    assert {unit.source for unit in path[1].raised} & {"spread", "gather"}


def test_shares_boundaries_and_costs_follow_the_choice(measured: tuple[Model, Quantize, Units]) -> None:
    units = measured[2]
    assert units.shares(()) == (1.0, 1.0) and units.shares(units.units) == (0.0, 0.0)
    assert units.boundaries(()) == 2 and units.boundaries(units.units) == 0
    by_name = {unit.source: unit for unit in units.units}
    place = [by_name["spread"], by_name["gather"]]
    assert units.boundaries(place) == 4
    assert units.cost(place) < units.cost([*place, by_name["second"]])


def test_what_is_surrounded_by_floats_becomes_float(measured: tuple[Model, Quantize, Units]) -> None:
    units = measured[2]
    by_name = {unit.source: unit for unit in units.units}
    settled = units.settled([by_name["gather"], by_name["third"]])
    assert by_name["pool"] in settled
    assert by_name["first"] not in settled
