"""The greedy path and the search along it, on graphs made up at random."""

from __future__ import annotations

import itertools
import random

import pytest

from edgec.converter.calibration.mixed import path as paths
from edgec.converter.calibration.mixed.loss import Loss
from edgec.converter.calibration.mixed.options import RELATIVE_L2
from edgec.converter.calibration.mixed.search import Search
from edgec.converter.calibration.mixed.units import Edge, Unit, Units
from edgec.errors import EdgecError
from edgec.ir.tensor import Value
from edgec.ir.types import DataType


def made_up(seed: int, count: int = 40) -> Units:
    """A chain with shortcuts; every fifth unit only moves what it takes."""
    draw = random.Random(seed)
    units = [
        Unit(
            index,
            (),
            moves=index % 5 == 4,
            slow=False,
            multiplications=draw.randint(1, 10) * 1000,
            elements=draw.randint(100, 1000),
            weights=0 if index % 5 == 4 else 10,
            noise=0.0 if index % 5 == 4 else draw.random() ** 4 * 1e-3,
        )
        for index in range(count)
    ]
    edges = []
    for index, unit in enumerate(units):
        consumers = units[index + 1 : index + 2]
        if index % 7 == 0:
            consumers += units[index + 3 : index + 4]
        value = Value(f"v{index}", DataType.FLOAT, (1,))
        edges.append(Edge(value, unit, consumers, not consumers, draw.randint(100, 1000), draw.random() ** 4 * 1e-3))
    for edge in edges:
        assert edge.producer is not None
        edge.producer.gives.append(edge)
        for unit in edge.consumers:
            unit.reads.append(edge)
    for unit in units:
        if unit.moves:
            for edge in unit.gives:
                edge.noise = max(other.noise for other in unit.reads)
    return Units(units, edges)


@pytest.mark.parametrize("seed", range(10))
def test_every_step_is_the_best_there_is(seed: int) -> None:
    """What is remembered of earlier steps changes nothing: all steps are weighed anew here."""
    units = made_up(seed)
    path = paths.greedy_path(units)
    moves = [paths._Move(found, paths._beside(found)) for found in paths._moves(units)]
    for before, after in itertools.pairwise(path):
        worths = [paths._worth(units, move, set(before.raised)) for move in moves]
        best = max(worths)
        if best > 0:
            assert after.raised == units.settled(before.raised.union(moves[worths.index(best)].units))
    assert path[-1].raised == frozenset(units.units)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("wrong", [0.5, 1.0, 3.0])
def test_the_search_ends_inside_the_limit_in_few_runs(seed: int, wrong: float) -> None:
    """Also where the estimate is wrong by a factor."""
    units = made_up(seed)
    whole = units.noise(())
    limit = 0.3 * (wrong * whole) ** 0.5

    def evaluate(raised: frozenset[Unit]) -> Loss:
        loss = (wrong * units.noise(raised)) ** 0.5
        return Loss(loss, loss)

    search = Search(units, lambda: paths.greedy_path(units), evaluate, limit, RELATIVE_L2)
    best = search.run()
    assert best.accepted and best.loss.value <= limit
    path = search.path
    first = next(choice for choice in path if evaluate(choice.raised).within(limit))
    assert units.cost(best.raised) <= units.cost(first.raised)
    assert len(search.trials) <= len(path).bit_length() * 2 + 10


def test_a_limit_that_nothing_meets_is_an_error() -> None:
    units = made_up(0)
    search = Search(units, lambda: paths.greedy_path(units), lambda raised: Loss(0.5, 0.1), 0.01, "top-1")
    with pytest.raises(EdgecError) as caught:
        search.run()
    assert caught.value.code == "EDG038"
