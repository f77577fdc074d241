"""Optuna's storage of a study: derived from the journal, so that optuna-dashboard and other tools can read it.

One coordinator writes; a finished trial is one transaction, which a thread makes while the processes of the next trial
start, and which has ended before anything is measured.  In the study's own SQLite file, synchronisation is left to
the operating system: what is lost with the machine is written again from the journal when the study goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from edgec.errors import UsageError
from edgec.tuner.database import Database, open_storage, parse
from edgec.tuner.goals import OBJECTIVES, Goals
from edgec.tuner.journal import writing_failed
from edgec.tuner.samplers import distributions
from edgec.tuner.space import Space
from edgec.tuner.trials import State, Trial

DATABASE: Final = "study.db"
STATES: Final = {State.COMPLETE: TrialState.COMPLETE, State.PRUNED: TrialState.PRUNED, State.FAILED: TrialState.FAIL}
CONSTRAINTS: Final = "constraints"
"""Where Optuna kept all constraints of a trial before each had a name: optuna-dashboard looks for them there."""
ROOM: Final = 1 << 16
SQLITE: Final = "sqlite:///"


def directions(goals: Goals) -> list[StudyDirection]:
    """Optuna's direction of each objective."""
    return [
        StudyDirection.MAXIMIZE if objective == "throughput" else StudyDirection.MINIMIZE
        for objective in goals.objectives
    ]


def frozen(trial: Trial, space: Space, goals: Goals) -> FrozenTrial:
    """A finished trial as Optuna's: knobs that do not matter at their defaults, constraints of every limit.

    Every value is an attribute of its own, so that dashboards can sort by it and draw it.
    """
    values: list[float] | None = None
    if trial.state is State.COMPLETE:
        values = [trial.values[OBJECTIVES[objective]] for objective in goals.objectives]
    elif trial.state is State.PRUNED and len(goals.objectives) == 1:
        found = trial.values.get(OBJECTIVES[goals.objectives[0]])
        values = None if found is None else [found]
    constraints = goals.violations(trial.values)
    attributes: dict[str, Any] = {**trial.values, "configuration": dict(trial.configuration), "seconds": trial.seconds}
    attributes.update({f"{name} (95 %)": list(pair) for name, pair in trial.intervals.items()})
    if trial.reason is not None:
        attributes["reason"] = trial.reason
    marks: dict[str, Any] = {f"constraints:{name}": excess for name, excess in constraints.items()}
    marks[CONSTRAINTS] = list(constraints.values())
    made = create_trial(
        state=STATES[trial.state],
        values=values,
        params=space.complete(trial.configuration),
        distributions=distributions(space),
        user_attrs=attributes,
        system_attrs=marks,
    )
    if made.datetime_complete is not None:
        made.datetime_start = made.datetime_complete - datetime.timedelta(seconds=trial.seconds)
    return made


class Mirror:
    """The study in an Optuna storage.

    Args:
        url: SQLAlchemy's, such as ``postgresql://host/name``; the study's own SQLite file by default.

    Attributes:
        database: where it is.

    Raises:
        UsageError: EDG814 when the storage cannot be opened, or holds a study of the name with other trials.
        EdgecError: EDG013 where its driver is not installed.
    """

    def __init__(self, folder: Path, url: str | None, name: str, space: Space, goals: Goals, machine: dict[str, Any]):
        self._space = space
        self._goals = goals
        self._own = url is None
        self._folder = folder
        own = f"{SQLITE}{(folder / DATABASE).absolute()}"
        self.database = parse(url) if url is not None else Database(own, own)
        self.name = name
        with self._failures("opened"), quietly():
            # A connection that died while a trial was measured (the server was started anew) is noticed and replaced.
            storage = open_storage(self.database) if self._own else open_storage(self.database, pool_pre_ping=True)
            if self._own:
                _relax(storage)
            self._storage = storage
            known = {summary.study_name: summary for summary in optuna.get_all_study_summaries(storage)}
            if name in known and self._own and known[name].directions != directions(goals):
                optuna.delete_study(study_name=name, storage=storage)
            self._study = optuna.create_study(
                storage=storage, study_name=name, directions=directions(goals), load_if_exists=True
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names([OBJECTIVES[objective] for objective in goals.objectives])
            kept = self._study.user_attrs
            for key, value in machine.items():
                if key not in kept:
                    self._study.set_user_attr(key, value)
            self._count = len(self._study.get_trials(deepcopy=False))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._writing: Future[None] | None = None

    def start(self, trials: Sequence[Trial]) -> None:
        """Begin to add the finished trials that the storage does not hold; :meth:`wait` says how it went."""
        self.wait()
        if self._count != len(trials):
            self._writing = self._thread.submit(self.catch_up, tuple(trials))

    def wait(self) -> None:
        """Wait for what was begun.

        Raises:
            UsageError: as :meth:`catch_up`.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """End the thread and the connections; SQLite then takes its files beside the database back."""
        self._thread.shutdown(cancel_futures=True)
        self._storage.remove_session()
        self._storage.engine.dispose()

    def catch_up(self, trials: Sequence[Trial]) -> None:
        """Add the finished trials that the storage does not hold.

        Raises:
            UsageError: EDG814 when it holds more trials than there are: another study writes into it.
        """
        if self._count > len(trials):
            raise self._foreign(self._count, len(trials))
        for trial in trials[self._count :]:
            with self._failures("written"):
                self._study.add_trial(frozen(trial, self._space, self._goals))
                held = self._count + 1 if self._own else len(self._study.get_trials(deepcopy=False))
            self._count += 1
            if held != self._count:
                raise self._foreign(held, self._count)

    def _foreign(self, held: int, known: int) -> UsageError:
        return UsageError(
            "EDG814",
            f"the storage holds {held} trials of '{self.name}', the study {known}",
            where=self.database.shown,
            why="a copy of the study's folder writes into it, too",
            help="delete that study from the storage, or give another --storage",
        )

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            # Optuna's own error only says that a commit failed; its cause knows why.
            known = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
            text = str(known or error).strip()
            reason = text.splitlines()[0] if text else type(error).__name__
            if self._own:
                _require_space(self._folder)
            raise UsageError(
                "EDG814",
                f"the storage of the study cannot be {doing}",
                where=self.database.shown,
                why=self.database.scrubbed(reason),
                help="what was measured is in the journal: the same command goes on when the storage can be reached, "
                "or with another --storage",
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
