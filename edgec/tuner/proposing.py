"""What to measure next: a pure function of the study's seed and of its finished trials.

That is what makes a study that was interrupted go on exactly as it would have gone on: nothing of the search lives in
memory between two trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edgec.targets.knobs import Configuration, Setting
from edgec.tuner.goals import DROP, LATENCY, MEMORY, Goals
from edgec.tuner.space import Space, key_of
from edgec.tuner.surrogate import Surrogate, Vector, below, expected_improvement
from edgec.tuner.trials import State, Trial

POOL: Final = 1500
"""So many candidates are judged at a time."""
LEADERS: Final = 6
"""The neighbours of so many of the best configurations are always among them."""
DRAWS: Final = 64
OUT_OF_MEMORY: Final = "memory"


def trial_seed(seed: int, finished: int) -> int:
    """The seed of the next trial, from that of the study and the number of finished trials."""
    return int(np.random.SeedSequence([seed, finished]).generate_state(1)[0])


def excluder(space: Space, trials: Sequence[Trial]) -> Callable[[Configuration], bool]:
    """Whether a configuration holds a part that has failed before.

    Where memory ran out, configurations that are at least as hungry in every knob that is known to need memory count
    as holding the part, too.
    """
    failures = [trial.failure for trial in trials if trial.failure is not None and trial.failure[1]]

    def excluded(configuration: Configuration) -> bool:
        return any(_holds(space, configuration, part, kind == OUT_OF_MEMORY) for kind, part in failures)

    return excluded


def _holds(space: Space, configuration: Configuration, part: Configuration, hungry: bool) -> bool:
    for name, value in part.items():
        if name not in configuration:
            return False
        found = configuration[name]
        if found == value and type(found) is type(value):
            continue
        hunger = space.by_name[name].hunger if hungry else 0
        if not hunger or not isinstance(found, int) or not isinstance(value, int) or (found - value) * hunger < 0:
            return False
    return True


def left(space: Space, trials: Sequence[Trial]) -> list[dict[str, Setting]] | None:
    """The configurations that are still to be measured; None where the space is too large to list."""
    if space.points is None:
        return None
    return _open(space, space.points, trials)


def _open(space: Space, points: Sequence[dict[str, Setting]], trials: Sequence[Trial]) -> list[dict[str, Setting]]:
    measured = {key_of(trial.configuration) for trial in trials}
    excluded = excluder(space, trials)
    return [point for point in points if key_of(point) not in measured and not excluded(point)]


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
    pool = _open(space, space.candidates(leaders, chance), trials)
    if not pool:
        return None
    if len(pool) > POOL:
        pool = _narrowed(space, pool, leaders, rng)
    if not known:
        return pool[int(rng.integers(len(pool)))]
    worth = acquisition(space, goals, known, pool, rng) * _works(trials, pool)
    order = np.lexsort((rng.random(len(pool)), -worth))
    return pool[int(order[0])]


def acquisition(
    space: Space, goals: Goals, known: Sequence[Trial], pool: Sequence[Configuration], rng: np.random.Generator
) -> Vector:
    """[candidates]: expected improvement times the probability that every limit is kept."""
    time = _model(space, known, LATENCY)
    memory = _model(space, known, MEMORY) if _asks_memory(goals) else None
    batches = np.log([_batch(configuration) for configuration in pool])
    sample_mean, deviation = time.predict(pool)
    means = {"throughput": sample_mean - math.log(1e3), "latency": sample_mean + batches}  # as Goals.costs has them
    deviations = {"throughput": deviation, "latency": deviation}
    if memory is not None:
        means["memory"], deviations["memory"] = memory.predict(pool)
    likely = np.ones(len(pool))
    for name, limit in goals.limits.items():
        if name in means:
            likely *= below(means[name], deviations[name], math.log(limit))
    feasible = [trial for trial in known if trial.state is not State.FAILED and goals.is_feasible(trial.values)]
    objectives = [name for name in goals.objectives if name in means]
    if not feasible or not objectives:
        return likely
    costs = np.array([goals.costs(trial.values) for trial in feasible])
    if len(objectives) == 1:
        name = objectives[0]
        column = goals.objectives.index(name)
        return expected_improvement(means[name], deviations[name], float(costs[:, column].min())) * likely
    weights = rng.dirichlet(np.ones(len(objectives)))
    columns = [goals.objectives.index(name) for name in objectives]
    low, span = costs[:, columns].min(axis=0), np.maximum(np.ptp(costs[:, columns], axis=0), 0.05)
    best = _scalar((costs[:, columns] - low) / span, weights).min()
    gain = np.zeros(len(pool))
    for _ in range(DRAWS):
        drawn = np.stack([means[name] + deviations[name] * rng.standard_normal(len(pool)) for name in objectives], 1)
        gain += np.maximum(best - _scalar((drawn - low) / span, weights), 0)
    return np.asarray(gain / DRAWS * likely)


def _scalar(costs: Vector, weights: Vector) -> Vector:
    """Augmented Chebyshev scalarisation [rows, objectives] -> [rows] (Knowles, ParEGO, 2006)."""
    weighted = costs * weights
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))


def _asks_memory(goals: Goals) -> bool:
    return "memory" in goals.objectives or "memory" in goals.limits


def _model(space: Space, known: Sequence[Trial], value: str) -> Surrogate:
    """A process for the time of one sample, or for the memory."""
    trials = [trial for trial in known if trial.values.get(value, 0) > 0]
    if not trials:
        trials, value = list(known), LATENCY
    observed = [trial.configuration for trial in trials]
    is_time = value == LATENCY
    logarithms = [
        math.log(trial.values[value]) - (math.log(_batch(trial.configuration)) if is_time else 0.0) for trial in trials
    ]
    noise = []
    for trial in trials:
        low, high = trial.intervals.get(value, (0.0, 0.0))
        noise.append(math.log(high / low) / 3.92 if low > 0 else 0.0)
    return Surrogate(space, observed, logarithms, noise, hinted=is_time)


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
    space: Space, pool: list[dict[str, Setting]], leaders: Sequence[Configuration], rng: np.random.Generator
) -> list[dict[str, Setting]]:
    """The neighbours of the leaders and random others."""
    near = {
        key_of(space.canonical({**space.complete(base), knob.name: value}))
        for base in leaders
        for knob in space.knobs
        for value in knob.values
    }
    chosen = [point for point in pool if key_of(point) in near]
    rest = [point for point in pool if key_of(point) not in near]
    picked = rng.permutation(len(rest))[: max(0, POOL - len(chosen))]
    return [*chosen, *(rest[position] for position in sorted(picked))]


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
