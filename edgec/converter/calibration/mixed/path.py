"""From all integers to all floats in steps, each the one that removes the most noise for what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.converter.calibration.mixed.units import BOUNDARY_COST, Edge, Unit, Units


@dataclass(frozen=True)
class Choice:
    """Which units are float, and the noise that this is expected to leave (relative energy)."""

    raised: frozenset[Unit]
    noise: float


def greedy_path(units: Units) -> list[Choice]:
    """Choices from none to all units, each holding the one before.

    A step raises one unit (its weights stay exact) or all units at a value, through those that only move integers (the
    value stays exact).  Among the steps the one with the most noise removed per cost is taken; borders that go away
    count against the cost, so regions grow together.  Ties go to the unit that comes first.
    """
    moves = _moves(units)
    raised: set[Unit] = set()
    path = [Choice(frozenset(), units.noise(()))]
    alive = list(range(len(moves)))
    while alive:
        best, value = -1, 0.0
        waiting = []
        for index in alive:
            fresh = [unit for unit in moves[index] if unit not in raised]
            if not fresh:
                continue
            waiting.append(index)
            gain = _gain(fresh, raised)
            worth = gain / max(_cost(units, fresh, raised), 1.0)
            if worth > value:
                best, value = index, worth
        alive = waiting
        if best < 0:
            break
        raised.update(moves[best])
        raised = set(units.settled(raised))
        path.append(Choice(frozenset(raised), units.noise(raised)))
    everything = frozenset(units.units)
    if path[-1].raised != everything:
        path.append(Choice(everything, 0.0))
    return path


def _moves(units: Units) -> list[tuple[Unit, ...]]:
    found: dict[tuple[Unit, ...], None] = {}
    for unit in units.units:
        if unit.noise:
            found.setdefault((unit,))
    for edge in units.edges:
        if edge.noise and not (edge.producer is not None and edge.producer.moves):
            found.setdefault(tuple(_around(edge)))
    return list(found)


def _around(edge: Edge) -> list[Unit]:
    """The units that give or take a value, and those that take it from units that only move it."""
    found: dict[Unit, None] = {} if edge.producer is None else {edge.producer: None}
    pending = [edge]
    while pending:
        for unit in pending.pop().consumers:
            if unit not in found:
                found[unit] = None
                if unit.moves:
                    pending.extend(unit.gives)
    return sorted(found, key=lambda unit: unit.index)


def _beside(fresh: list[Unit]) -> list[Edge]:
    return list(dict.fromkeys(edge for unit in fresh for edge in (*unit.reads, *unit.gives)))


def _gain(fresh: list[Unit], raised: set[Unit]) -> float:
    after = raised.union(fresh)
    weights = sum(unit.noise for unit in fresh)
    edges = _beside(fresh)
    return weights + sum(edge.noise * (edge.rounded(raised) - edge.rounded(after)) for edge in edges)


def _cost(units: Units, fresh: list[Unit], raised: set[Unit]) -> float:
    after = raised.union(fresh)
    borders = sum(edge.elements * (edge.crossed(after) - edge.crossed(raised)) for edge in _beside(fresh))
    return sum(units.cost_of(unit) for unit in fresh) + BOUNDARY_COST * borders
