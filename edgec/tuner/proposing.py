"""What to measure next: a pure function of the study's seed and of its finished trials.

That is what makes a study that was interrupted go on exactly as it would have gone on: nothing of the search lives in
memory between two trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgec.targets.knobs import Configuration, Setting
from edgec.tuner.goals import DEVICE_MEMORY, DROP, LATENCY, MEMORY, Goals
from edgec.tuner.space import Codes, Space, key_of
from edgec.tuner.surrogate import Surrogate, Vector, below, expected_improvement
from edgec.tuner.trials import UNREACHABLE, State, Trial

POOL: Final = 800
"""So many candidates are judged at a time."""
LEADERS: Final = 6
"""The neighbours of so many of the best configurations are always among them."""
NEIGHBOURS: Final = 2
HINTED: Final = 6
DOUBTFUL: Final = 2
"""So many trials follow the targets' hints; every second of those after them takes no notice of them.

A wrong hint keeps the search away from the very configurations that would refute it.
"""
DRAWS: Final = 64
OUT_OF_MEMORY: Final = "memory"


def trial_seed(seed: int, finished: int) -> int:
    """The seed of the next trial, from that of the study and the number of finished trials."""
    return int(np.random.SeedSequence([seed, finished]).generate_state(1)[0])


def excluder(space: Space, trials: Sequence[Trial]) -> Callable[[Configuration], bool]:
    """Whether a configuration holds a part that has failed before.

    Where memory ran out, configurations that are at least as hungry in every knob that is known to need memory count
    as holding the part, too; where a loss of quality could not be kept, those that ask for a smaller one.
    """
    failures = _failures(trials)

    def excluded(configuration: Configuration) -> bool:
        return any(_holds(space, configuration, part, kind) for kind, part in failures)

    return excluded


def _failures(trials: Sequence[Trial]) -> list[tuple[str, Configuration]]:
    """Kinds and parts of what has failed, each once."""
    found: list[tuple[str, Configuration]] = []
    for trial in trials:
        if trial.failure is not None and trial.failure[1] and trial.failure not in found:
            found.append(trial.failure)
    return found


def _holds(space: Space, configuration: Configuration, part: Configuration, kind: str) -> bool:
    for name, value in part.items():
        if name not in configuration:
            return False
        found = configuration[name]
        if found == value and type(found) is type(value):
            continue
        knob = space.by_name[name]
        worse = {OUT_OF_MEMORY: knob.hunger, UNREACHABLE: -knob.leniency}.get(kind, 0)
        if not worse or not isinstance(found, int | float) or not isinstance(value, int | float):
            return False
        if (found - value) * worse < 0:
            return False
    return True


@dataclass(frozen=True)
class Pool:
    """Candidates: their keys, what they are, and their codes."""

    keys: tuple[str, ...]
    points: tuple[dict[str, Setting], ...]
    codes: Codes

    def part(self, positions: Sequence[int]) -> Pool:
        """Some of them."""
        keys, points = self.keys, self.points
        chosen = np.asarray(positions, np.int64)
        return Pool(tuple(keys[i] for i in positions), tuple(points[i] for i in positions), self.codes[chosen])


def is_exhausted(space: Space, trials: Sequence[Trial]) -> bool:
    """Whether no configuration is left to measure; False where there are too many to list."""
    if space.points is None or (len(space.points) > len(trials) and not _failures(trials)):
        return False
    return not _open(space, Pool(space.keys, space.points, space.codes), trials)


def _open(space: Space, pool: Pool, trials: Sequence[Trial]) -> list[int]:
    """Positions of the candidates that were not measured and hold nothing that has failed."""
    measured = {key_of(trial.configuration) for trial in trials}
    found = [place for place, key in enumerate(pool.keys) if key not in measured]
    if not _failures(trials):
        return found
    excluded = excluder(space, trials)
    return [place for place in found if not excluded(pool.points[place])]


def propose(space: Space, goals: Goals, trials: Sequence[Trial], seed: int) -> dict[str, Setting] | None:
    """The next configuration by expected improvement over the best so far; None when nothing is left.

    Args:
        trials: finished ones; without any, the default is next.
        seed: of the study.
    """
    if not trials:
        return dict(space.default)
    chance = trial_seed(seed, len(trials))
    rng = np.random.default_rng(chance)
    known = [trial for trial in trials if LATENCY in trial.values]
    leaders = _leaders(goals, known)
    if space.points is not None:
        every = Pool(space.keys, space.points, space.codes)
    else:
        found = space.candidates(leaders, chance)
        every = Pool(tuple(found), tuple(found.values()), space.encode(tuple(found.values())))
    positions = _open(space, every, trials)
    if not positions:
        return None
    if len(positions) > POOL:
        positions = _narrowed(space, every, positions, leaders, rng)
    pool = every.part(positions)
    if not known:
        return dict(pool.points[int(rng.integers(len(positions)))])
    hinted = len(trials) < HINTED or (len(trials) - HINTED) % DOUBTFUL != 0
    worth = acquisition(space, goals, known, pool, rng, hinted) * _works(trials, pool.points)
    order = np.lexsort((rng.random(len(positions)), -worth))
    return dict(pool.points[int(order[0])])


def acquisition(
    space: Space, goals: Goals, known: Sequence[Trial], pool: Pool, rng: np.random.Generator, hinted: bool = True
) -> Vector:
    """[candidates]: expected improvement times the probability that every limit is kept.

    Args:
        hinted: whether the targets' hints count.
    """
    time = _model(space, known, LATENCY, hinted)
    count = len(pool.keys)
    batches = np.log([_batch(configuration) for configuration in pool.points])
    sample_mean, deviation = time.predict(pool.codes)
    means = {"throughput": sample_mean - math.log(1e3), "latency": sample_mean + batches}  # as Goals.costs has them
    deviations = {"throughput": deviation, "latency": deviation}
    for name, value in (("memory", MEMORY), ("device_memory", DEVICE_MEMORY)):
        if name in goals.objectives or name in goals.limits:
            means[name], deviations[name] = _model(space, known, value).predict(pool.codes)
    likely = np.ones(count)
    for name, limit in goals.limits.items():
        if name in means:
            likely *= below(means[name], deviations[name], math.log(limit))
    feasible = [trial for trial in known if trial.state is not State.FAILED and goals.is_feasible(trial.values)]
    objectives = [name for name in goals.objectives if name in means]
    if not feasible or not objectives:
        return likely
    costs = np.array([goals.costs(trial.values) for trial in feasible])
    turn = len(known) % (2 * len(objectives))
    if len(objectives) == 1 or turn % 2 == 0:  # every second time one objective alone: the ends of the front
        name = objectives[turn // 2 % len(objectives)]
        column = goals.objectives.index(name)
        return expected_improvement(means[name], deviations[name], float(costs[:, column].min())) * likely
    weights = rng.dirichlet(np.ones(len(objectives)))
    columns = [goals.objectives.index(name) for name in objectives]
    low, span = costs[:, columns].min(axis=0), np.maximum(np.ptp(costs[:, columns], axis=0), 0.05)
    best = _scalar((costs[:, columns] - low) / span, weights).min()
    gain = np.zeros(count)
    for _ in range(DRAWS):
        drawn = np.stack([means[name] + deviations[name] * rng.standard_normal(count) for name in objectives], 1)
        gain += np.maximum(best - _scalar((drawn - low) / span, weights), 0)
    return np.asarray(gain / DRAWS * likely)


def _scalar(costs: Vector, weights: Vector) -> Vector:
    """Augmented Chebyshev scalarisation [rows, objectives] -> [rows] (Knowles, ParEGO, 2006)."""
    weighted = costs * weights
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))


def _model(space: Space, known: Sequence[Trial], value: str, hinted: bool = True) -> Surrogate:
    """A process for the time of one sample, or for the memory."""
    trials = [trial for trial in known if trial.values.get(value, 0) > 0]
    if not trials:
        trials, value = list(known), LATENCY
    observed = space.encode([trial.configuration for trial in trials])
    is_time = value == LATENCY
    logarithms = [
        math.log(trial.values[value]) - (math.log(_batch(trial.configuration)) if is_time else 0.0) for trial in trials
    ]
    noise = []
    for trial in trials:
        low, high = trial.intervals.get(value, (0.0, 0.0))
        noise.append(math.log(high / low) / 3.92 if low > 0 else 0.0)
    return Surrogate(space, observed, logarithms, noise, hinted=hinted and is_time, default_ms=known[0].values[LATENCY])


def time_model(space: Space, trials: Sequence[Trial]) -> Surrogate | None:
    """The process for the time of one sample, as the report shows its effects; None with fewer than four trials."""
    known = [trial for trial in trials if trial.values.get(LATENCY, 0) > 0]
    return _model(space, known, LATENCY) if len(known) >= 4 else None


def _batch(configuration: Configuration) -> float:
    batch = configuration.get("batch", 1)
    return float(batch) if isinstance(batch, int) else 1.0


def _leaders(goals: Goals, known: Sequence[Trial]) -> list[Configuration]:
    def rank(trial: Trial) -> tuple[bool, tuple[float, ...]]:
        return not goals.is_feasible({DROP: 0.0, **trial.values}), goals.costs(trial.values)

    return [trial.configuration for trial in sorted(known, key=rank)[:LEADERS]]


def _narrowed(
    space: Space, pool: Pool, positions: Sequence[int], leaders: Sequence[Configuration], rng: np.random.Generator
) -> list[int]:
    """The neighbours of the leaders, which differ in one or two knobs, and random others."""
    places = np.asarray(positions, np.int64)
    codes = pool.codes[places]
    near = np.zeros(len(places), bool)
    for leader in space.encode(leaders):
        near |= (codes != leader).sum(axis=1) <= NEIGHBOURS
    close, rest = places[near], places[~near]
    close = close[rng.permutation(len(close))[: POOL // 2]]
    others = rest[rng.permutation(len(rest))[: POOL - len(close)]]
    return [int(place) for place in np.sort(np.concatenate([close, others]))]


def _works(trials: Sequence[Trial], pool: Sequence[Configuration]) -> Vector:
    """[candidates]: how likely it is to work, by how many knobs it shares with failed and with working trials."""
    failed = [trial.configuration for trial in trials if trial.state is State.FAILED]
    if not failed:
        return np.ones(len(pool))
    worked = [trial.configuration for trial in trials if trial.state is State.COMPLETE]
    found = []
    for configuration in pool:
        bad = sum(_nearness(configuration, other) for other in failed)
        good = 1.0 + sum(_nearness(configuration, other) for other in worked)
        found.append(good / (good + bad))
    return np.array(found)


def _nearness(first: Configuration, second: Configuration) -> float:
    names = first.keys() | second.keys()
    return math.exp(-2.0 * sum(first.get(name) != second.get(name) for name in names))
