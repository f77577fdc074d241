"""The samplers of a study, as Optuna's: ours, and Optuna's own where the user asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from edgec.errors import UsageError
from edgec.targets.knobs import Setting
from edgec.tuner.goals import Goals
from edgec.tuner.proposing import propose
from edgec.tuner.space import Space
from edgec.tuner.trials import Trial

SURROGATE: Final = "surrogate"
SAMPLERS: Final = (SURROGATE, "tpe", "nsga2", "random")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The knobs as Optuna's distributions, one choice per value."""
    return {knob.name: CategoricalDistribution(knob.values) for knob in space.knobs}


class SurrogateSampler(BaseSampler):
    """Asks :func:`edgec.tuner.proposing.propose`.

    Args:
        finished: the finished trials at the time of asking.
    """

    def __init__(self, space: Space, goals: Goals, seed: int, finished: Callable[[], Sequence[Trial]]):
        self._space = space
        self._goals = goals
        self._seed = seed
        self._finished = finished

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All knobs."""
        return distributions(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal, completed with the defaults of knobs that do not matter; nothing where none is left."""
        found = propose(self._space, self._goals, self._finished(), self._seed)
        return {} if found is None else self._space.complete(found)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Setting:
        """The default: only asked when nothing is left to propose."""
        return self._space.by_name[param_name].default


def make_sampler(
    name: str, space: Space, goals: Goals, seed: int, own_seed: int, finished: Callable[[], Sequence[Trial]]
) -> BaseSampler:
    """The sampler for one trial.

    Args:
        seed: of the study, for ours.
        own_seed: of the trial, for Optuna's.

    Raises:
        UsageError: EDG001 for an unknown name.
    """
    makers: Mapping[str, Callable[[], BaseSampler]] = {
        SURROGATE: lambda: SurrogateSampler(space, goals, seed, finished),
        "tpe": lambda: TPESampler(seed=own_seed),
        "nsga2": lambda: NSGAIISampler(seed=own_seed),
        "random": lambda: RandomSampler(seed=own_seed),
    }
    if name not in makers:
        raise UsageError("EDG001", f"unknown sampler '{name}'", why=f"known: {', '.join(SAMPLERS)}")
    return makers[name]()
