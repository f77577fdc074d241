"""The noise of single places is what quantizing them alone does, and noises of several add up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.converter.calibration.data import CalibrationData
from edgec.converter.calibration.mixed.path import greedy_path
from edgec.converter.calibration.mixed.sensitivity import measure_noise
from edgec.converter.calibration.mixed.units import Unit, Units, find_units
from edgec.converter.calibration.quantizing import PrecisionOptions, quantize
from edgec.converter.prepare import prepare
from edgec.ir.copy_model import copy_model
from edgec.ir.graph import Model
from edgec.ir.passes.base import Pass
from edgec.ir.passes.quantize import Quantize
from edgec.targets import registry
from tests.converter.calibration.mixed.planted import BAD, network, samples, saved
from tests.ir.equivalence import run

COUNT = 4


Measured = tuple[Model, Quantize, Units]


def measure(folder: Path, spread: float) -> Measured:
    """The planted network, how it would be quantized, and the noise of its places."""
    target = registry.load("tflite")
    data = CalibrationData(saved(folder))
    found: list[Measured] = []

    def look(made: object, plan: Quantize) -> list[Pass]:
        model: Model = made.model  # type: ignore[attr-defined]
        units = find_units(model.graph, plan)
        before = copy_model(model)
        measure_noise(model, plan, units, [{"x": item} for item in samples()[:COUNT]])
        found.append((before, plan, units))
        return [plan]

    rules = target.quantization("int8")
    assert rules is not None
    prepared = prepare(network(folder, spread), target)
    quantize(prepared.imported.model, rules, PrecisionOptions("int8", data), select=look)
    return found[0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """With the bad place that int8 cannot hold at all."""
    return measure(tmp_path_factory.mktemp("noise"), 400)


@pytest.fixture(scope="module", params=[1, 10, 40, 100])
def milder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Measured:
    """With places that int8 holds better or worse, but of which no channel is rounded to nothing."""
    return measure(tmp_path_factory.mktemp("noise"), request.param)


def energy(model: Model, other: Model) -> float:
    """Relative energy of the difference between the outputs of two graphs."""
    error = reference = 0.0
    for item in samples()[:COUNT]:
        (wanted,), (found,) = run(model, {"x": item}), run(other, {"x": item})
        error += float(np.sum(np.square(found - wanted, dtype=np.float64)))
        reference += float(np.sum(np.square(wanted, dtype=np.float64)))
    return error / reference


def real_noise(model: Model, plan: Quantize, kept: frozenset[str]) -> float:
    """Relative energy of the error of the graph with QDQ where only some nodes are kept in float."""
    copy = copy_model(model)
    replace(plan, keep=kept).apply(copy)
    return energy(model, copy)


def names_of(units: Iterable[Unit]) -> frozenset[str]:
    return frozenset(node.name for unit in units for node in unit.nodes)


def require_single_noises(measured: Measured) -> int:
    """A node alone: right within a quarter where it counts, within a factor of 2 where 16 numbers hold little noise."""
    model, plan, units = measured
    checked = 0
    for unit in units.units:
        others = [other for other in units.units if other is not unit]
        estimated = units.noise(others)
        if unit.moves or estimated < 1e-5:
            continue
        checked += 1
        ratio = estimated / real_noise(model, plan, names_of(others))
        assert (0.75 < ratio < 1.33) if estimated > 1e-4 else (0.5 < ratio < 2), unit.source
    return checked


def test_a_node_alone_makes_the_noise_of_its_places(measured: Measured) -> None:
    assert require_single_noises(measured) >= 3


def test_a_node_of_a_milder_network_makes_the_noise_of_its_places(milder: Measured) -> None:
    assert require_single_noises(milder) >= 1


def test_the_noise_of_all_is_the_sum_within_a_factor_of_2(milder: Measured) -> None:
    model, plan, units = milder
    assert 1 / 2 < units.noise(()) / real_noise(model, plan, frozenset()) < 2
    assert units.noise(units.units) == 0


def test_the_sum_is_too_much_only_where_a_channel_is_rounded_to_nothing(measured: Measured) -> None:
    """A factor of 400 between channels: one becomes 0, and what else is wrong with it does not show any more."""
    model, plan, units = measured
    place = [unit for unit in units.units if unit.source in BAD]
    rest = [unit for unit in units.units if unit.source not in BAD]
    assert 1 / 2 < units.noise(place) / real_noise(model, plan, names_of(place)) < 2
    alone = sum(real_noise(model, plan, names_of(unit for unit in units.units if unit is not bad)) for bad in place)
    assert units.noise(()) - units.noise(place) == pytest.approx(alone, rel=0.25)
    assert 1 < units.noise(()) / real_noise(model, plan, frozenset()) < 8
    assert units.noise(rest) > 100 * units.noise(place)


def test_the_noise_of_weights_is_that_of_the_rounded_weights(milder: Measured) -> None:
    """Whether or not the result of the operator is rounded by itself (an activation may stand between)."""
    model, plan = milder[0], replace(milder[1], means={})  # no bias is corrected, so that only weights change
    units = find_units(model.graph, plan)
    measure_noise(model, plan, units, [{"x": item} for item in samples()[:COUNT]])
    found = [unit for unit in units.units if unit.weights]
    assert len(found) == 4 and any(len(unit.nodes) == 1 for unit in found)
    for unit in found:
        whole = copy_model(model)
        replace(plan, keep=names_of(other for other in units.units if other is not unit)).apply(whole)
        given = next(node for node in whole.graph.nodes if node.name == unit.nodes[0].name).operand(1).producer
        assert given is not None
        integers, scale = (given.operand(position).numpy() for position in (0, 1))
        axis = given.attr_int("axis", 1)
        shape = [-1 if place == axis else 1 for place in range(integers.ndim)] if scale.ndim else []
        rounded = (integers * scale.reshape(shape)).astype(np.float32)
        other = copy_model(model)
        node = next(node for node in other.graph.nodes if node.name == unit.nodes[0].name)
        node.set_input(1, other.graph.constant(rounded, "rounded"))
        assert unit.noise == pytest.approx(energy(model, other), rel=0.02), unit.source


def test_the_path_goes_from_nothing_to_everything_with_falling_noise(
    measured: Measured,
) -> None:
    units = measured[2]
    path = greedy_path(units)
    assert path[0].raised == frozenset() and path[-1].raised == frozenset(units.units)
    for before, after in itertools.pairwise(path):
        assert before.raised < after.raised and after.noise <= before.noise
    assert {unit.source for unit in path[1].raised} & {"spread", "gather"}


def test_shares_boundaries_and_costs_follow_the_choice(measured: Measured) -> None:
    units = measured[2]
    assert units.shares(()) == (1.0, 1.0) and units.shares(units.units) == (0.0, 0.0)
    assert units.boundaries(()) == 2 and units.boundaries(units.units) == 0
    by_name = {unit.source: unit for unit in units.units}
    place = [by_name["spread"], by_name["gather"]]
    assert units.boundaries(place) == 4
    assert units.cost(place) < units.cost([*place, by_name["second"]])


def test_what_is_surrounded_by_floats_becomes_float(measured: Measured) -> None:
    units = measured[2]
    by_name = {unit.source: unit for unit in units.units}
    settled = units.settled([by_name["gather"], by_name["third"]])
    assert by_name["pool"] in settled
    assert by_name["first"] not in settled
