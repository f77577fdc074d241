"""What a study amounts to, from its journal alone: the document of ``edgec tune --json`` and of its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import EdgecError
from edgec.tuner.confirming import front
from edgec.tuner.goals import Goals
from edgec.tuner.journal import read_journal
from edgec.tuner.search import finished_trials, running_trial
from edgec.tuner.space import key_of
from edgec.tuner.trials import Trial

SCHEMA: Final = "edgec-tune-1"
FINISHED: Final = "finished"
UNFINISHED: Final = "unfinished"
STORAGE: Final = "storage"
"""Kind of the journal's entries that say where Optuna's copy of the study is."""
INFEASIBLE: Final = "infeasible"


@dataclass(frozen=True)
class StudyResult:
    """A study, as far as it has come.

    Attributes:
        folder: the study's.
        trials: finished ones, and the one that was running when the journal ended.
        finish: the entry that ended the study; None while it is not finished.
        storages: where Optuna's copy of the study was kept, the last one now; without passwords.
    """

    folder: Path
    header: Mapping[str, Any]
    trials: tuple[Trial, ...]
    finish: Mapping[str, Any] | None
    storages: tuple[str, ...] = ()

    @property
    def goals(self) -> Goals:
        """Objectives and limits."""
        return Goals(tuple(self.header["goals"]["objectives"]), self.header["goals"]["limits"])

    @property
    def status(self) -> str:
        """``finished``, ``unfinished``, or ``infeasible``: finished, and no configuration keeps the limits."""
        if self.finish is None:
            return UNFINISHED
        return FINISHED if self.finish["winner"] is not None else INFEASIBLE

    @property
    def winner(self) -> Mapping[str, Any] | None:
        """Number, configuration, values and intervals of the winner."""
        return None if self.finish is None else self.finish["winner"]

    def require_winner(self) -> Mapping[str, Any]:
        """The winner.

        Raises:
            EdgecError: EDG813 where no configuration keeps the limits, EDG815 where the study is not finished.
        """
        if self.finish is None:
            raise EdgecError(
                "EDG815",
                f"the study in '{self.folder}' is not finished",
                why=f"{len(self.trials)} trials, and the winner is not confirmed",
                help="give the command of the study again: it goes on",
            )
        if self.winner is None:
            raise infeasible(self)
        return self.winner

    def to_json(self) -> dict[str, Any]:
        """The document (schema ``edgec-tune-1``)."""
        goals = self.goals
        counts = {state: sum(trial.state == state for trial in self.trials) for state in STATES}
        finish = self.finish or {}
        return {
            "schema": SCHEMA,
            "status": self.status,
            "study": str(self.folder),
            "model": self.header["model"],
            "target": self.header["target"],
            "basis": self.header["basis"],
            "goals": goals.to_json(),
            "knobs": self.header["knobs"],
            "configurations": self.header["configurations"],
            "sampler": self.header["sampler"],
            "seed": self.header["seed"],
            "machine": self.header["machine"],
            "storage": self.storages[-1] if self.storages else None,
            "counts": counts,
            "seconds": round(sum(trial.seconds for trial in self.trials), 3),
            "ended": finish.get("why"),
            "trials": [trial.to_json() for trial in self.trials],
            "default": _short(self.trials[0]) if self.trials and self.trials[0].values else None,
            "front": [trial.number for trial in front(self.trials, goals)],
            "winner": self.winner,
            "gain": finish.get("gain"),
            "notes": [*self.header["notes"], *self._moves(), *finish.get("notes", ())],
            "command": self.command(),
            "error": None,
        }

    def _moves(self) -> list[str]:
        """Told, since whoever left out --storage once did not mean to."""
        pairs = zip(self.storages, self.storages[1:])
        return [
            f"Optuna's copy of the study went on in {after}; what was in {before} stays as it was"
            for before, after in pairs
        ]

    def command(self) -> str | None:
        """What makes the winner's artifact; None while there is none."""
        if self.winner is None:
            return None
        model = self.header["model"]["path"]
        return shlex.join(
            ["edgec", "convert", model, "--target", self.header["target"], "--tuned", str(self.folder), "-o", "out"]
        )


STATES: Final = ("complete", "failed", "pruned", "running")


def infeasible(result: StudyResult) -> EdgecError:
    """EDG813: no configuration keeps the limits."""
    limits = ", ".join(f"{name} {limit:g}" for name, limit in result.goals.limits.items())
    return EdgecError(
        "EDG813",
        f"none of {len(result.trials)} configurations keeps the limits",
        why=f"the limits: {limits}",
        help="edgec tune report shows how far each of them is off",
    )


def read_study(folder: str | Path) -> StudyResult:
    """A study from its folder, which is only read.

    Raises:
        UsageError: EDG810 where there is none, EDG816 where its journal is damaged.
    """
    path = Path(folder)
    return result_of(path, read_journal(path))


def result_of(folder: Path, entries: Sequence[Mapping[str, Any]]) -> StudyResult:
    """A study from the entries of its journal."""
    from edgec.errors import UsageError

    if not entries:
        raise UsageError("EDG810", f"'{folder}' holds no study", help="edgec tune MODEL --target NAME -o FOLDER")
    listed = [dict(entry) for entry in entries]
    trials = finished_trials(listed)
    running = running_trial(listed)
    finishes = [entry for entry in listed if entry["kind"] == "finish" and entry["trials"] == len(trials)]
    shown = trials if running is None else [*trials, running]
    finish = finishes[-1] if finishes and running is None else None
    return StudyResult(folder, listed[0], tuple(shown), finish, storages(listed))


def storages(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Where Optuna's copy of a study has been kept, in order."""
    return tuple(entry["where"] for entry in entries if entry["kind"] == STORAGE)


def _short(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "configuration": dict(trial.configuration),
        "values": dict(trial.values),
        "intervals": {name: list(pair) for name, pair in trial.intervals.items()},
    }


def winner_entry(trial: Trial, values: Mapping[str, float], intervals: Mapping[str, Any]) -> dict[str, Any]:
    """The winner as the journal and the document hold it, with the values of the confirmation."""
    return {
        "number": trial.number,
        "key": key_of(trial.configuration),
        "configuration": dict(trial.configuration),
        "values": dict(values),
        "intervals": {name: list(pair) for name, pair in intervals.items()},
    }
