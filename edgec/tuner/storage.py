"""Optuna's storage of a study: derived from the journal, so that optuna-dashboard and other tools can read it.

One coordinator writes; a finished trial is one transaction.  In the study's own SQLite file, synchronisation is left to
the operating system: what is lost with the machine is written again from the journal when the study goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from edgec.errors import UsageError
from edgec.tuner.goals import OBJECTIVES, Goals
from edgec.tuner.journal import writing_failed
from edgec.tuner.samplers import distributions
from edgec.tuner.space import Space
from edgec.tuner.trials import State, Trial

DATABASE: Final = "study.db"
STATES: Final = {State.COMPLETE: TrialState.COMPLETE, State.PRUNED: TrialState.PRUNED, State.FAILED: TrialState.FAIL}
ROOM: Final = 1 << 16
SQLITE: Final = "sqlite:///"


def directions(goals: Goals) -> list[StudyDirection]:
    """Optuna's direction of each objective."""
    return [
        StudyDirection.MAXIMIZE if objective == "throughput" else StudyDirection.MINIMIZE
        for objective in goals.objectives
    ]


def frozen(trial: Trial, space: Space, goals: Goals) -> FrozenTrial:
    """A finished trial as Optuna's: knobs that do not matter at their defaults, constraints of every limit."""
    values: list[float] | None = None
    if trial.state is State.COMPLETE:
        values = [trial.values[OBJECTIVES[objective]] for objective in goals.objectives]
    elif trial.state is State.PRUNED and len(goals.objectives) == 1:
        found = trial.values.get(OBJECTIVES[goals.objectives[0]])
        values = None if found is None else [found]
    constraints = goals.violations(trial.values)
    attributes: dict[str, Any] = {
        "reason": trial.reason,
        "values": dict(trial.values),
        "intervals": {name: list(pair) for name, pair in trial.intervals.items()},
        "configuration": dict(trial.configuration),
        "seconds": trial.seconds,
    }
    made = create_trial(
        state=STATES[trial.state],
        values=values,
        params=space.complete(trial.configuration),
        distributions=distributions(space),
        user_attrs=attributes,
        system_attrs={f"constraints:{name}": excess for name, excess in constraints.items()},
    )
    if made.datetime_complete is not None:
        made.datetime_start = made.datetime_complete - datetime.timedelta(seconds=trial.seconds)
    return made


class Mirror:
    """The study in an Optuna storage.

    Args:
        url: SQLAlchemy's, such as ``postgresql://host/name``; the study's own SQLite file by default.

    Raises:
        UsageError: EDG814 when the storage cannot be opened, or holds a study of the name with other trials.
    """

    def __init__(self, folder: Path, url: str | None, name: str, space: Space, goals: Goals, machine: dict[str, Any]):
        self._space = space
        self._goals = goals
        self._own = url is None
        self._folder = folder
        self.url = url or f"{SQLITE}{(folder / DATABASE).absolute()}"
        self.name = name
        with self._failures("opened"), quietly():
            storage = optuna.storages.RDBStorage(self.url)
            if self._own:
                _relax(storage)
            known = {summary.study_name: summary for summary in optuna.get_all_study_summaries(storage)}
            if name in known and self._own and known[name].directions != directions(goals):
                optuna.delete_study(study_name=name, storage=storage)
            self._study = optuna.create_study(
                storage=storage, study_name=name, directions=directions(goals), load_if_exists=True
            )
            if name not in known:
                for key, value in machine.items():
                    self._study.set_user_attr(key, value)
            self._count = len(self._study.get_trials(deepcopy=False))

    def catch_up(self, trials: Sequence[Trial]) -> None:
        """Add the finished trials that the storage does not hold.

        Raises:
            UsageError: EDG814 when it holds more trials than there are: another study writes into it.
        """
        if self._count > len(trials):
            raise UsageError(
                "EDG814",
                f"the storage holds {self._count} trials of '{self.name}', the study {len(trials)}",
                where=_shown(self.url),
                help="delete that study from the storage, or give another --storage",
            )
        for trial in trials[self._count :]:
            with self._failures("written"):
                self._study.add_trial(frozen(trial, self._space, self._goals))
            self._count += 1

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if self._own:
                _require_space(self._folder)
            raise UsageError(
                "EDG814",
                f"the storage of the study cannot be {doing}",
                where=_shown(self.url),
                why=reason,
                help="what was measured is in the journal; give a storage that can be reached with --storage",
            ) from error


def _require_space(folder: Path) -> None:
    """Say so where the disk is full, which SQLite calls an I/O error.

    Raises:
        EdgecError: EDG010 or EDG011.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError as error:
        raise writing_failed(folder / DATABASE, error) from error


def _relax(storage: optuna.storages.RDBStorage) -> None:
    """Let SQLite leave synchronisation to the operating system, on every connection."""
    from sqlalchemy import event

    def connected(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(storage.engine, "connect", connected)
    storage.engine.dispose()


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def ask(study: optuna.Study, space: Space, accepted: Callable[[Any], bool], attempts: int) -> dict[str, Any] | None:
    """Ask a study for configurations until one is accepted.

    What was asked for is told as failed, which no sampler looks at: the trial is added when it has been measured.

    Returns:
        The canonical configuration, None after so many attempts.
    """
    for _ in range(attempts):
        trial = study.ask(distributions(space))
        study.tell(trial, state=TrialState.FAIL)
        configuration = space.canonical(trial.params)
        if accepted(configuration):
            return configuration
    return None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna from logging what is made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
