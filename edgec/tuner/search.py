"""The coordinator: asks for a configuration, has it measured, writes down what came of it, until the study is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna

from edgec.errors import EdgecError
from edgec.targets.knobs import Configuration, Part, Setting
from edgec.tuner.goals import DEVICE_MEMORY, DROP, LATENCY, MEMORY, OBJECTIVES, THROUGHPUT, Goals, dominates
from edgec.tuner.journal import Journal
from edgec.tuner.measurements import Measurements, Race, Standing
from edgec.tuner.proposing import excluder, is_exhausted, propose, trial_seed
from edgec.tuner.samplers import SURROGATE, make_sampler
from edgec.tuner.space import Space, key_of
from edgec.tuner.storage import Mirror, ask, directions, frozen, quietly
from edgec.tuner.trials import KILLED, LOST, SAME, State, Trial, TrialFailed, thinned

MEMORY_KIND: Final = "memory"
ATTEMPTS: Final = 50
"""How often one of Optuna's samplers may propose what has been measured before a random configuration is taken."""
LUCK: Final = 0.03
"""Two processes with the same configuration differ by up to so much, which no number of blocks shows: who is behind by
less is not given up, and who is ahead by less is not raced against instead."""

Watch = Callable[[Trial], object]
"""Called with a trial when it begins (state ``running``) and when it is over."""


@dataclass(frozen=True)
class Budget:
    """When the search ends: so many finished trials, so many seconds of measuring, or nothing left to measure."""

    trials: int | None = None
    seconds: float | None = None


class Search:
    """A study that can be run, and run on.

    Args:
        journal: open, with the entry that describes the study in it; the finished trials are read from it.
        mirror: Optuna's storage, where there is to be one.
        sampler: one of :data:`edgec.tuner.samplers.SAMPLERS`.
        seed: of the study.
    """

    def __init__(
        self,
        space: Space,
        goals: Goals,
        measurements: Measurements,
        journal: Journal,
        mirror: Mirror | None = None,
        *,
        sampler: str = SURROGATE,
        seed: int = 0,
        watch: Watch = lambda trial: None,
    ):
        self.space = space
        self.goals = goals
        self.trials = finished_trials(journal.entries)
        self._measurements = measurements
        self._journal = journal
        self._mirror = mirror
        self._sampler = sampler
        self._seed = seed
        self._watch = watch
        with quietly():
            self._study = optuna.create_study(directions=directions(goals))
        self._told = 0
        if mirror is not None:
            mirror.catch_up(self.trials)

    @property
    def default(self) -> Trial:
        """The default configuration's trial."""
        return self.trials[0]

    def run(self, budget: Budget) -> str:
        """Measure until the budget is spent; returns why it ended: ``trials``, ``budget`` or ``exhausted``.

        Raises:
            EdgecError: the study cannot go on; finished trials are kept.
        """
        while True:
            over = self._over(budget)
            configuration = None if over else self.next_configuration()
            if configuration is None:
                if self._mirror is not None:
                    self._mirror.catch_up(self.trials)
                return over or "exhausted"
            self._measure(configuration)

    def _over(self, budget: Budget) -> str | None:
        if budget.trials is not None and len(self.trials) >= budget.trials:
            return "trials"
        if budget.seconds is not None and self.trials and self.seconds >= budget.seconds:
            return "budget"
        return None

    @property
    def seconds(self) -> float:
        """What the finished trials cost together."""
        return sum(trial.seconds for trial in self.trials)

    def next_configuration(self) -> dict[str, Setting] | None:
        """What the next trial measures; None when every configuration has been measured or cannot work."""
        if not self.trials:
            return dict(self.space.default)
        if is_exhausted(self.space, self.trials):
            return None
        for trial in self.trials[self._told :]:
            self._study.add_trial(frozen(trial, self.space, self.goals))
        self._told = len(self.trials)
        chance = trial_seed(self._seed, len(self.trials))
        self._study.sampler = make_sampler(
            self._sampler, self.space, self.goals, self._seed, chance, lambda: self.trials
        )
        measured = {key_of(trial.configuration) for trial in self.trials}
        excluded = excluder(self.space, self.trials)

        def is_new(configuration: Configuration) -> bool:
            if key_of(configuration) in measured or excluded(configuration):
                return False
            return self.space.why_impossible(configuration) is None

        if self._sampler == SURROGATE:
            return ask(self._study, self.space, is_new, 1)
        found = ask(self._study, self.space, is_new, ATTEMPTS)
        if found is None:
            self._study.sampler = make_sampler("random", self.space, self.goals, self._seed, chance, lambda: [])
            found = ask(self._study, self.space, is_new, 20 * ATTEMPTS)
        return propose(self.space, self.goals, self.trials, self._seed) if found is None else found

    def _measure(self, configuration: Configuration) -> None:
        number = len(self.trials)
        self._journal.append({"kind": "begin", "number": number, "configuration": dict(configuration)}, durable=False)
        begun = Trial(number, State.RUNNING, dict(configuration))
        self._watch(begun)
        began = time.monotonic()
        waited = waiting(self._measurements)
        if self._mirror is not None:
            self._mirror.start(self.trials)
        try:
            trial = self._default(begun) if number == 0 else self._candidate(begun)
        finally:
            self._settle()
        cost = time.monotonic() - began - (waiting(self._measurements) - waited)
        trial = replace(trial, seconds=round(max(cost, 0.0), 3))
        self._journal.append({"kind": "end", "trial": trial.to_json()})
        self.trials.append(trial)
        self._watch(trial)

    def _settle(self) -> None:
        """Wait for the storage, so that nothing runs beside a measurement."""
        if self._mirror is not None:
            self._mirror.wait()

    def _default(self, begun: Trial) -> Trial:
        try:
            drop = self._measurements.drop(begun.configuration)
            found = self._measurements.reference(begun.configuration)
        except TrialFailed as error:
            if isinstance(error.__cause__, EdgecError):
                raise error.__cause__ from error
            raise EdgecError(
                "EDG817", "the default configuration cannot be measured", why=error.reason, details={"kind": error.kind}
            ) from error
        values, intervals = timed(begun.configuration, found.latency_ms, found.low_ms, found.high_ms)
        _add(values, MEMORY, found.memory_bytes)
        _add(values, DROP, drop)
        values.update(found.extra)
        if "device_memory" in self.goals.limits and DEVICE_MEMORY not in values:
            raise EdgecError(
                "EDG817",
                "nobody says how much memory a session holds on the GPU",
                why="NVML tells nothing of this process, which is so in many containers",
                help="leave out --max-device-memory; --knob device_limit=SIZE bounds ONNX Runtime's arena there",
            )
        return replace(
            begun,
            state=State.COMPLETE,
            values=values,
            intervals=intervals,
            reason=found.note,
            samples_ms=thinned(list(found.samples_ms)),
        )

    def _candidate(self, begun: Trial) -> Trial:
        values: dict[str, float] = {}
        try:
            _add(values, DROP, self._measurements.drop(begun.configuration))
            if self.goals.violations(values).get("drop", 0) > 0:
                part = self._numbers(begun.configuration)
                reason = f"loses {values[DROP]:.2%}, {self.goals.limits['drop']:.2%} are allowed"
                return replace(begun, state=State.PRUNED, values=values, reason=reason, failure=("drop", part))
            return self._raced(begun, values)
        except TrialFailed as error:
            failure = (MEMORY_KIND if error.kind == KILLED else error.kind, error.part)
            state = State.PRUNED if error.kind == SAME else State.FAILED
            return replace(begun, state=state, values=values, reason=error.reason, failure=failure)

    def _numbers(self, configuration: Configuration) -> dict[str, Setting]:
        """What of a conversion decides which numbers an artifact gives: a sample's are the same in every batch."""
        part = self.space.suspects(configuration)
        return {name: value for name, value in part.items() if self.space.by_name[name].part is not Part.BATCH} or part

    def _raced(self, begun: Trial, values: dict[str, float]) -> Trial:
        """Race, and race again where a worker was killed: it may have been a person, or another process's hunger."""
        for attempt in range(2):
            try:
                yardstick = champion(self.trials, self.goals)
                self._measurements.pin(yardstick.configuration)
                with self._measurements.race(begun.configuration) as race:
                    self._settle()
                    return self._race(begun, race, dict(values), yardstick)
            except TrialFailed as error:
                if attempt or error.kind not in (KILLED, LOST):
                    raise
        raise AssertionError("unreachable")

    def _race(self, begun: Trial, race: Race, values: dict[str, float], yardstick: Trial) -> Trial:
        values.update(race.extra)
        _add(values, MEMORY, race.memory_bytes)
        reason: str | None = None
        failure = None
        if self.goals.violations(values).get("memory", 0) > 0:
            part = {name: value for name, value in begun.configuration.items() if self._is_hungry(name)}
            failure = ("memory", part) if part else None
            reason = f"takes {values[MEMORY] / 1e6:.1f} MB, {self.goals.limits['memory'] / 1e6:.1f} MB are allowed"
        elif self.goals.violations(values).get("device_memory", 0) > 0:
            allowed = self.goals.limits["device_memory"] / 1e6
            reason = f"takes {values[DEVICE_MEMORY] / 1e6:.1f} MB on the device, {allowed:.1f} MB are allowed"
        while True:
            standing = race.step()
            found, intervals = self._timed(begun.configuration, yardstick, standing)
            values.update(found)
            reason = reason or self._loses(standing, values, intervals, yardstick)
            if reason is None and standing.unstable is not None:
                raise TrialFailed("unstable", f"unstable: {standing.unstable}")
            if reason is not None or standing.settled:
                return replace(
                    begun,
                    state=State.COMPLETE if reason is None else State.PRUNED,
                    values=values,
                    intervals=intervals,
                    reason=reason or (f"wide interval: {standing.wide}" if standing.wide is not None else None),
                    failure=failure,
                    blocks=standing.blocks,
                    samples_ms=thinned(race.samples_ms),
                )

    def _timed(
        self, configuration: Configuration, yardstick: Trial, standing: Standing
    ) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        """Times and their intervals: relative to the yardstick's, or those of its own.

        Who is ahead of the yardstick becomes it, and the times of all later trials follow from its: where it is known
        by itself, that counts, as long as it agrees about who is ahead.
        """
        shares = (standing.ratio, standing.low, standing.high)
        relative = timed(configuration, *(yardstick.values[LATENCY] * share for share in shares))
        if standing.alone_ms is None or not _is_ahead(relative[0], yardstick.values, self.goals):
            return relative
        own = timed(configuration, *(standing.alone_ms * share / standing.ratio for share in shares))
        return own if _is_ahead(own[0], yardstick.values, self.goals) else relative

    def _is_hungry(self, name: str) -> bool:
        knob = self.space.by_name[name]
        return knob.hunger != 0 or knob.is_conversion

    def _loses(
        self,
        standing: Standing,
        values: dict[str, float],
        intervals: dict[str, tuple[float, float]],
        yardstick: Trial,
    ) -> str | None:
        """Why a candidate need not be measured on: it is certain to be behind, or over the limit of the latency.

        What stayed unstable is known relative to the yardstick, whose own interval does not come on top of that.
        """
        if not standing.credible or (standing.settled and standing.unstable is None):
            return None
        limit = self.goals.limits.get("latency")
        if limit is not None and intervals[LATENCY][0] > limit:
            return f"takes {values[LATENCY]:.4g} ms, {limit:.4g} ms are allowed"
        best_case = {**values, **{name: pair[name == THROUGHPUT] for name, pair in intervals.items()}}
        costs = tuple(cost - math.log1p(LUCK) for cost in self.goals.costs(best_case))
        for trial in self.trials:
            if trial.state is not State.COMPLETE or not self.goals.is_feasible(trial.values):
                continue
            worst_case = {**trial.values, **{name: pair[name != THROUGHPUT] for name, pair in trial.intervals.items()}}
            if standing.settled and trial.number == yardstick.number:
                worst_case = dict(trial.values)
            if dominates(self.goals.costs(worst_case), costs):
                objective = self.goals.objectives[0]
                name = OBJECTIVES[objective]
                return f"behind trial {trial.number} after {standing.blocks} blocks ({_compared(trial, values, name)})"
        return None


def champion(trials: Sequence[Trial], goals: Goals) -> Trial:
    """Whom the next trial races against: the best so far, who resembles what it has to be told apart from.

    What disturbs a machine does not disturb every configuration alike: the default may wait for the host while a better
    one waits for the device, and two that were measured against it at different times look different though they are
    not.  The default stays where neither latency nor throughput comes first, and until something is better by more than
    :data:`LUCK`.
    """
    standing = trials[0]
    if goals.objectives[0] not in ("latency", "throughput"):
        return standing
    for trial in trials[1:]:
        if trial.state is not State.COMPLETE or not goals.is_feasible(trial.values):
            continue
        if _is_ahead(trial.values, standing.values, goals) or not goals.is_feasible(standing.values):
            standing = trial
    return standing


def _is_ahead(values: Mapping[str, float], of: Mapping[str, float], goals: Goals) -> bool:
    """Whether one is better than the other in the first objective, by more than luck."""
    return goals.costs(of)[0] - goals.costs(values)[0] > math.log1p(LUCK)


def _compared(trial: Trial, values: dict[str, float], name: str) -> str:
    return f"{name} {values[name]:.4g} against {trial.values[name]:.4g}"


def waiting(measurements: Any) -> float:
    """Seconds that were spent waiting for the device so far, where the measurements know."""
    return float(getattr(measurements, "waited_s", 0.0))


def timed(
    configuration: Configuration, latency_ms: float, low_ms: float, high_ms: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Latency of a run and throughput in samples per second, with their intervals."""
    batch = configuration.get("batch", 1)
    samples = batch if isinstance(batch, int) else 1
    values = {LATENCY: latency_ms, THROUGHPUT: samples * 1e3 / latency_ms}
    intervals = {LATENCY: (low_ms, high_ms), THROUGHPUT: (samples * 1e3 / high_ms, samples * 1e3 / low_ms)}
    return values, intervals


def finished_trials(entries: Sequence[dict[str, Any]]) -> list[Trial]:
    """The finished trials of a journal, in order."""
    return [Trial.from_json(entry["trial"]) for entry in entries if entry["kind"] == "end"]


def running_trial(entries: Sequence[dict[str, Any]]) -> Trial | None:
    """The trial that had begun when the journal ended, or None."""
    for entry in reversed(entries):
        if entry["kind"] in ("end", "finish"):
            return None
        if entry["kind"] == "begin":
            return Trial(entry["number"], State.RUNNING, entry["configuration"])
    return None


def _add(values: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        values[name] = float(value)
