"""The smallest choice that keeps the loss within a limit: along the greedy path, then back where that was not needed.

Every decision is made on a run of the real artifact; estimates only say which one to try next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edgec.converter.calibration.mixed.loss import WIDEST, Loss
from edgec.converter.calibration.mixed.options import RELATIVE_L2
from edgec.converter.calibration.mixed.path import Choice
from edgec.converter.calibration.mixed.units import Unit, Units
from edgec.errors import VerificationError

PRUNING_RUNS: Final = 8
"""Most artifacts that are made to see what can be taken back."""

Evaluate = Callable[[frozenset[Unit]], Loss]


@dataclass(frozen=True)
class Trial:
    """One artifact: which units were float, and what it lost."""

    raised: frozenset[Unit]
    loss: Loss
    accepted: bool


@dataclass
class Search:
    """The search over one model.

    Attributes:
        make_path: measures the noise of the units, and says which way to go; called where integers alone lose too much.
        limit: of the loss, in its metric.
        metric: see :mod:`edgec.converter.calibration.mixed.loss`.
        instead: options that lose less than raising every node, for the error's help; empty where there are none.
        trials: all artifacts that were made, in order.
    """

    units: Units
    make_path: Callable[[], list[Choice]]
    evaluate: Evaluate
    limit: float
    metric: str
    instead: str = ""
    trials: list[Trial] = field(default_factory=list)
    path: list[Choice] = field(default_factory=list)

    def run(self) -> Trial:
        """The cheapest accepted trial that was found.

        Raises:
            VerificationError: EDG038 when even the last choice of the path is not accepted.
        """
        first = self._try(frozenset())
        if first.accepted:
            return first
        self.path = self.make_path()
        low, high = 0, len(self.path) - 1
        best: Trial | None = None
        latest = first
        guessing = True
        while high - low > 1:
            middle = (low + high) // 2
            if guessing:
                middle = min(max(self._guess(latest, best is not None), low + 1), high - 1)
            guessing = not guessing
            latest = self._try(self.path[middle].raised)
            if latest.accepted:
                best, high = latest, middle
            else:
                low = middle
        if best is None:
            best = self._try(self.path[high].raised)
            if not best.accepted:
                raise self._unreachable(best)
        return self._pruned(best)

    def _try(self, raised: frozenset[Unit]) -> Trial:
        for trial in self.trials:
            if trial.raised == raised:
                return trial
        loss = self.evaluate(raised)
        trial = Trial(raised, loss, loss.within(self.limit))
        self.trials.append(trial)
        return trial

    @property
    def _allowed(self) -> float:
        """The noise energy that may be left."""
        return min(self.limit if self.metric == RELATIVE_L2 else WIDEST, WIDEST) ** 2

    def _factor(self, trial: Trial) -> float:
        """By how much the estimate is wrong, seen at a trial."""
        estimated = self.units.noise(trial.raised)
        real = trial.loss.relative_l2**2
        return min(max(real / estimated, 1e-3), 1e3) if estimated > 0 and real > 0 else 1.0

    def _guess(self, latest: Trial, found: bool) -> int:
        """The first choice of the path whose noise, corrected by the latest trial, is allowed."""
        factor = self._factor(latest)
        for index, choice in enumerate(self.path):
            if choice.noise * factor <= self._allowed:
                return index
        return len(self.path) - 1

    def _pruned(self, best: Trial) -> Trial:
        """Take units back, those with the least noise per cost first, as many as the loss allows."""
        for _ in range(2):
            order = self._dispensable(best.raised)
            fits, fails = 0, len(order) + 1
            factor = self._factor(best)
            count = self._guessed_drops(best.raised, order, factor)
            before = best
            while fails - fits > 1 and len(self.trials) < self._budget:
                count = min(max(count, fits + 1), fails - 1)
                smaller = self.units.settled(best.raised.difference(order[:count]))
                trial = self._try(smaller)
                if trial.accepted and self.units.cost(smaller) < self.units.cost(before.raised):
                    fits, before = count, trial
                else:
                    fails = count
                count = (fits + fails) // 2
            if before is best:
                break
            best = before
        return best

    @property
    def _budget(self) -> int:
        return PRUNING_RUNS + len(self.path).bit_length() + 2

    def _dispensable(self, raised: frozenset[Unit]) -> list[Unit]:
        """Units whose return to integers makes the choice cheaper, by the noise that this adds per cost."""
        noise, cost = self.units.noise(raised), self.units.cost(raised)
        worth = []
        for unit in sorted(raised, key=lambda item: item.index):
            smaller = raised - {unit}
            if self.units.settled(smaller) == raised:
                continue
            saved = cost - self.units.cost(smaller)
            if saved > 0:
                worth.append(((self.units.noise(smaller) - noise) / saved, unit.index, unit))
        return [unit for _, _, unit in sorted(worth, key=lambda item: item[:2])]

    def _guessed_drops(self, raised: frozenset[Unit], order: list[Unit], factor: float) -> int:
        count, left = 0, set(raised)
        for unit in order:
            left.discard(unit)
            if self.units.noise(left) * factor > self._allowed:
                break
            count += 1
        return max(count, 1)

    def _unreachable(self, last: Trial) -> VerificationError:
        return VerificationError(
            "EDG038",
            f"the loss of {self.metric} stays above --max-drop {self.limit:.3g}",
            why=f"with every node raised it is {last.loss.value:.3g} (relative L2 {last.loss.relative_l2:.3g})",
            help=f"a larger --max-drop, or {self.instead}" if self.instead else "a larger --max-drop",
            details={"loss": last.loss.value, "relative_l2": last.loss.relative_l2, "max_drop": self.limit},
        )
