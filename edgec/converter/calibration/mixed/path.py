"""From all integers to all floats in steps, each the one that removes the most noise for what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgec.converter.calibration.mixed.units import BOUNDARY_COST, Edge, Unit, Units


@dataclass(frozen=True)
class Choice:
    """Which units are float, and the noise that this is expected to leave (relative energy)."""

    raised: frozenset[Unit]
    noise: float


@dataclass(frozen=True)
class _Move:
    """Units to raise together, and the values at their border."""

    units: tuple[Unit, ...]
    edges: tuple[Edge, ...]


def greedy_path(units: Units) -> list[Choice]:
    """Choices from none to all units that can be raised, each holding the one before.

    A step raises one unit (its weights stay exact) or all units at a value, through those that only move integers (the
    value stays exact).  Among the steps the one with the most noise removed per cost is taken; borders that go away
    count against the cost, so regions grow together.  Ties go to the unit that comes first.
    """
    moves = [_Move(found, _beside(found)) for found in _moves(units)]
    near = _near(moves)
    raised: set[Unit] = set()
    path = [Choice(frozenset(), units.noise(()))]
    worths = [_worth(units, move, raised) for move in moves]
    while worths:
        best = max(range(len(worths)), key=worths.__getitem__)
        if worths[best] <= 0:
            break
        before = frozenset(raised)
        raised = set(units.settled(raised.union(moves[best].units)))
        for index in sorted({index for unit in raised - before for index in near.get(unit, ())}):
            worths[index] = _worth(units, moves[index], raised)
        path.append(Choice(frozenset(raised), units.noise(raised)))
    if path[-1].raised != units.raisable:
        path.append(Choice(units.raisable, units.noise(units.raisable)))
    return path


def _moves(units: Units) -> list[tuple[Unit, ...]]:
    found: dict[tuple[Unit, ...], None] = {}
    for unit in units.units:
        if unit.noise and not unit.fixed:
            found.setdefault((unit,))
    for edge in units.edges:
        if edge.noise and not (edge.producer is not None and edge.producer.moves):
            found.setdefault(tuple(unit for unit in _around(edge) if not unit.fixed))
    found.pop((), None)
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


def _beside(found: Iterable[Unit]) -> tuple[Edge, ...]:
    return tuple(dict.fromkeys(edge for unit in found for edge in (*unit.reads, *unit.gives)))


def _near(moves: list[_Move]) -> dict[Unit, list[int]]:
    """Which moves another unit's raising changes the worth of."""
    found: dict[Unit, list[int]] = {}
    for index, move in enumerate(moves):
        touched = {**dict.fromkeys(move.units)}
        for edge in move.edges:
            touched.update(dict.fromkeys(edge.consumers))
            if edge.producer is not None:
                touched[edge.producer] = None
        for unit in touched:
            found.setdefault(unit, []).append(index)
    return found


def _worth(units: Units, move: _Move, raised: set[Unit]) -> float:
    """The noise that a move takes away, per cost; 0 for one that is done."""
    fresh = [unit for unit in move.units if unit not in raised]
    if not fresh:
        return 0.0
    gain, cost = sum(unit.noise for unit in fresh), sum(units.cost_of(unit) for unit in fresh)
    edges = [(edge, edge.rounded(raised), edge.crossed(raised)) for edge in move.edges]
    raised.update(fresh)
    for edge, rounded, crossed in edges:
        gain += edge.noise * (rounded - edge.rounded(raised))
        cost += BOUNDARY_COST * edge.elements * (edge.crossed(raised) - crossed)
    raised.difference_update(fresh)
    return gain / max(cost, 1.0)
