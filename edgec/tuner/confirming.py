"""The end of a study: the best configurations are measured again, fresh, against the default.

The best of many noisy measurements looks better than it is.  So the trials only say who is in the final: up to four
finalists that neither the intervals nor the A/A floor can tell apart race against each other, without the default: it
may waver more than they differ.  Each of these races is run twice, with new processes, since what differs between two
processes no number of blocks shows.  Who stands in the end is confirmed in one more race against the default, with new
processes, too, and a narrower interval, and only that last race is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgec.runtime.measurement.floor import NOISY
from edgec.targets.knobs import Configuration
from edgec.tuner.goals import DROP, LATENCY, MEMORY, OBJECTIVES, Goals, dominates
from edgec.tuner.measurements import Measurements, Standing
from edgec.tuner.search import LUCK, timed
from edgec.tuner.trials import State, Trial, TrialFailed

FINALISTS: Final = 4
WAVERS: Final = 0.1
"""A default that is off by more than this is told of."""
ROUNDS: Final = 2
"""Races with new processes between two finalists."""
MEMORY_FLOOR: Final = 0.02
"""Peak memory of equal processes differs by up to so much."""


@dataclass(frozen=True)
class Gain:
    """What the winner gains over the default, in the first objective.

    Attributes:
        ratio, low, high: the winner's value divided by the default's; time of a sample for the throughput, so below 1
            is always better.
        floor: differences up to this share are nobody's.
        significant: whether the interval excludes 1 and the gain exceeds the floor and half of the interval (of times,
            the root of their squares' sum).
        wide: whether the interval is wide, so that the gain is certain and its size is not.
        unstable: whether the race never came to rest, so that its interval says nothing.
    """

    objective: str
    ratio: float
    low: float
    high: float
    floor: float
    significant: bool
    blocks: int
    wide: bool = False
    unstable: bool = False

    def exceeds(self, floor: float) -> bool:
        """Whether the interval excludes 1 and the gain is larger than a floor and half of the interval together."""
        half = (self.high - self.low) / 2 / self.ratio
        return self.high < 1 and 1 - self.ratio > math.hypot(floor, half)  # as the verdict of a duel

    def to_json(self) -> dict[str, Any]:
        """As the document holds it."""
        return {
            "objective": self.objective,
            "ratio": self.ratio,
            "interval": [self.low, self.high],
            "floor": self.floor,
            "significant": self.significant,
            "blocks": self.blocks,
            "wide": self.wide,
            "text": self.text,
        }

    @property
    def measured(self) -> str:
        """The ratio and its interval, for people: ``0.527 (0.517 to 0.557) of the time``."""
        of = "the memory" if self.objective == "memory" else "the time"
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}) of {of}"

    @property
    def text(self) -> str:
        """One line for people."""
        if not self.significant:
            return "no significant gain"
        wide = ", a wide interval" if self.wide else ""
        if self.objective == "throughput":
            return f"{1 / self.ratio:.2f} times the throughput ({1 / self.high:.2f} to {1 / self.low:.2f}){wide}"
        word = "faster" if self.objective == "latency" else "less memory"
        share = f"{1 - self.ratio:.1%} ({1 - self.high:.1%} to {1 - self.low:.1%})"
        return f"{share} {word}{wide}"


@dataclass(frozen=True)
class Confirmed:
    """The winner of a study.

    Attributes:
        trial: its trial; the default's where nothing was significantly better.
        values, intervals: of the fresh race, where there was one.
        gain: None where there is no other configuration to compare with the default.
        notes: what happened on the way.
    """

    trial: Trial | None
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    gain: Gain | None
    notes: tuple[str, ...] = ()


def feasible(trials: Sequence[Trial], goals: Goals) -> list[Trial]:
    """Complete trials that keep every limit, the best in the first objective first."""
    found = [trial for trial in trials if trial.state is State.COMPLETE and goals.is_feasible(trial.values)]
    return sorted(found, key=lambda trial: (goals.costs(trial.values)[0], trial.number))


def front(trials: Sequence[Trial], goals: Goals) -> list[Trial]:
    """The complete trials within the limits that no other dominates, in the order of the first objective."""
    found = feasible(trials, goals)
    costs = {trial.number: goals.costs(trial.values) for trial in found}
    return [trial for trial in found if not any(dominates(costs[other.number], costs[trial.number]) for other in found)]


def candidates_of(trials: Sequence[Trial], goals: Goals) -> list[Trial]:
    """Who may win, the best in the first objective first; with several objectives the Pareto front."""
    return front(trials, goals) if len(goals.objectives) > 1 else feasible(trials, goals)


def needs_floor(trials: Sequence[Trial], goals: Goals) -> bool:
    """Whether the A/A floor decides anything: something is ahead of the default, in an objective of time."""
    found = candidates_of(trials, goals)
    return bool(found) and found[0].number != 0 and OBJECTIVES[goals.objectives[0]] != MEMORY


def confirm(
    trials: Sequence[Trial],
    goals: Goals,
    measurements: Measurements,
    floor: float,
    anew: Callable[[], float] | None = None,
) -> Confirmed:
    """Choose the winner and measure it again.

    Args:
        floor: the device's A/A floor for times; any number where it is not needed.
        anew: measures that floor once more.  Called at most once, where only a floor that speaks of a restless machine
            hides a gain; then the winner is chosen and confirmed again, too.
    """
    default = trials[0]
    standing_default = goals.is_feasible(default.values)
    candidates = candidates_of(trials, goals)
    notes: list[str] = []
    while candidates and candidates[0].number != 0:
        best = _final(candidates, goals, measurements, floor, notes)
        try:
            confirmed = _race(best, default, goals, measurements, floor)
        except TrialFailed as error:
            notes.append(f"trial {best.number} failed when it was measured again: {error.reason}")
            candidates = [trial for trial in candidates if trial is not best]
            continue
        if not goals.is_feasible(confirmed.values):
            notes.append(f"trial {best.number} did not keep the limits when it was measured again")
            candidates = [trial for trial in candidates if trial is not best]
            continue
        assert confirmed.gain is not None
        if confirmed.gain.significant or not standing_default:
            return Confirmed(best, confirmed.values, confirmed.intervals, confirmed.gain, (*notes, *confirmed.notes))
        if anew is not None and _is_hidden(confirmed):
            before, floor, anew = floor, anew(), None
            notes.append(
                f"trial {best.number} took {confirmed.gain.measured}, where the same configuration twice had differed "
                f"by up to {before:.1%}: that was measured again, is {floor:.1%} now, and so was the winner"
            )
            continue
        notes.append(
            f"trial {best.number} was the best, and not significantly better than the default: "
            f"{confirmed.gain.measured}, where the same configuration twice differs by up to {confirmed.gain.floor:.1%}"
        )
        return Confirmed(default, default.values, default.intervals, confirmed.gain, (*notes, *confirmed.notes))
    if not standing_default:
        return Confirmed(None, {}, {}, None, (*notes, "no configuration keeps the limits"))
    return Confirmed(default, default.values, default.intervals, None, (*notes, "nothing was better than the default"))


def _is_hidden(confirmed: Confirmed) -> bool:
    """Whether a gain that the interval is certain of is lost in a floor that speaks of what else the machine does."""
    gain = confirmed.gain
    if gain is None or gain.objective == "memory" or gain.floor <= NOISY or gain.unstable:
        return False
    return gain.exceeds(NOISY)


def _final(
    candidates: Sequence[Trial], goals: Goals, measurements: Measurements, floor: float, notes: list[str]
) -> Trial:
    """Who stands after the finalists have raced against each other."""
    name = OBJECTIVES[goals.objectives[0]]
    standing = candidates[0]
    if name == MEMORY:
        return standing
    within = goals.costs(standing.values)[0] + math.log1p(max(floor, LUCK))  # costs are logarithms
    finalists = [
        trial
        for trial in candidates
        if trial.number
        and (
            goals.costs(trial.values)[0] <= within or _overlap(standing.intervals.get(name), trial.intervals.get(name))
        )
    ]
    for challenger in finalists[1:FINALISTS]:
        try:
            ratio = _ratio(challenger, standing, measurements)
        except TrialFailed as error:
            notes.append(f"trial {challenger.number} against trial {standing.number} failed: {error.reason}")
            continue
        if ratio is not None and _cost(challenger, ratio, goals) < _cost(standing, 1.0, goals):
            standing = challenger
    return standing


def _ratio(challenger: Trial, standing: Trial, measurements: Measurements) -> float | None:
    """Time of a run of one, divided by the other's: the geometric mean of the rounds; None where none was stable."""
    ratios = []
    for _ in range(ROUNDS):
        with measurements.race(challenger.configuration, against=standing.configuration) as race:
            found = race.step()
            while not found.settled:
                found = race.step()
        if found.unstable is None:
            ratios.append(found.ratio)
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def _cost(trial: Trial, milliseconds: float, goals: Goals) -> float:
    """In the first objective, if a run took that long."""
    values, _ = timed(trial.configuration, milliseconds, milliseconds, milliseconds)
    return goals.costs({**trial.values, **values})[0]


def _overlap(first: tuple[float, float] | None, second: tuple[float, float] | None) -> bool:
    return first is not None and second is not None and first[0] <= second[1] and second[0] <= first[1]


def _race(best: Trial, default: Trial, goals: Goals, measurements: Measurements, floor: float) -> Confirmed:
    with measurements.race(best.configuration, against=default.configuration, fresh=True) as race:
        memory = race.memory_bytes
        standing = race.step()
        while not standing.settled:
            standing = race.step()
        values, intervals = _scaled(best.configuration, default, standing)
        notes = _wavered(default, standing)
        values.update(race.extra)
    if memory is not None:
        values[MEMORY] = float(memory)
    if DROP in best.values:
        values[DROP] = best.values[DROP]
    objective = goals.objectives[0]
    if objective == "memory":
        share = values[MEMORY] / default.values[MEMORY]
        ratio, low, high, limit = share, share * (1 - MEMORY_FLOOR), share * (1 + MEMORY_FLOOR), MEMORY_FLOOR
        significant, wide = high < 1 and 1 - ratio > limit, False
    else:
        name = OBJECTIVES[objective]
        scale = 1.0 if objective == "latency" else _samples(default.configuration) / _samples(best.configuration)
        ratio, low, high, limit = (*(scale * share for share in (standing.ratio, standing.low, standing.high)), floor)
        assert name in values
        significant, wide = False, standing.wide is not None
    gain = Gain(objective, ratio, low, high, limit, significant, standing.blocks, wide, standing.unstable is not None)
    if objective != "memory":
        gain = replace(gain, significant=not gain.unstable and gain.exceeds(limit))
    if standing.unstable is not None:
        notes.append(f"the confirmation was unstable: {standing.unstable}")
    if standing.wide is not None:
        notes.append(f"the confirmation's interval is wide: {standing.wide}")
    return Confirmed(best, values, intervals, gain, tuple(notes))


def _scaled(
    configuration: Configuration, default: Trial, standing: Standing
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    reference = default.values[LATENCY] if standing.alone_ms is None else standing.alone_ms / standing.ratio
    return timed(configuration, *(reference * share for share in (standing.ratio, standing.low, standing.high)))


def _wavered(default: Trial, standing: Standing) -> list[str]:
    """What to say where the default was not what it had been."""
    before, now = default.values[LATENCY], standing.other_ms
    if now is None or abs(math.log(now / before)) < math.log1p(WAVERS):
        return []
    return [f"the default took {now:.4g} ms in the confirmation, and {before:.4g} ms alone before: the host wavers"]


def _samples(configuration: Configuration) -> float:
    batch = configuration.get("batch", 1)
    return float(batch) if isinstance(batch, int) else 1.0
