"""Run a study on replayed measurements, in a process of its own that can be killed.

    python -m tests.tuner.replaying FOLDER TRIALS SECONDS_PER_BLOCK SAMPLER [NAME]

$EDGEC_STORAGE is the URL of its storage where that is not the SQLite file in the folder.

:class:`Runs` starts many of them: each is forked from a process that has imported what a study needs and done nothing
else, since the imports take longer than what is tested.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.tuner.goals import Goals
from edgec.tuner.search import Budget
from edgec.tuner.storage import Mirror
from tests.command import ROOT, environment

from .synthetic import opened, replay, searching, space

GOALS = Goals(("throughput",), {"latency": 30.0})
IMPORTED_LATER: Final = """alembic.command alembic.config alembic.migration alembic.script optuna.storages._rdb.models
sqlalchemy.dialects.postgresql sqlalchemy.dialects.sqlite sqlalchemy.orm""".split()


def main(folder: Path, trials: int, seconds: float, sampler: str, name: str = "replayed") -> None:
    of = space((1, 2, 4))
    with opened(folder, of, GOALS) as journal:
        mirror = Mirror(folder, os.environ.get("EDGEC_STORAGE"), name, of, GOALS, {})
        search = searching(journal, of, replay(of, seconds=seconds), GOALS, mirror=mirror, sampler=sampler, seed=5)
        print("searching", flush=True)
        search.run(Budget(trials=trials))


class Runs:
    """Starts runs; use as a context manager."""

    def __enter__(self) -> Runs:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tuner.replaying", "fork"],
            cwd=ROOT,
            env=environment(OPENBLAS_NUM_THREADS="1"),  # a process that forks has no threads
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def start(self, *arguments: object, **variables: str) -> Run:
        """Fork a process that runs a study; arguments as on the command line."""
        return Run(self, self.ask("start", [str(argument) for argument in arguments], variables))

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@dataclass(frozen=True)
class Run:
    """A process that runs a study, as ``subprocess.Popen`` shows it."""

    runs: Runs
    pid: int

    def listen(self) -> None:
        """Wait until it searches, or has ended."""
        self.runs.ask("listen", self.pid)

    def poll(self) -> int | None:
        code: int | None = self.runs.ask("poll", self.pid)
        return code

    def wait(self) -> int:
        code: int = self.runs.ask("wait", self.pid)
        return code

    def kill(self) -> None:
        """SIGKILL; it is not known to have ended before, so that its number is still its own."""
        os.kill(self.pid, signal.SIGKILL)


def fork() -> list[str] | None:
    """Do what :class:`Runs` asks for; the arguments in a process that is to run a study, None at the end."""
    for name in IMPORTED_LATER:
        importlib.import_module(name)
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1
    outputs: dict[int, int] = {}
    codes: dict[int, int] = {}
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        answer: int | None
        if verb == "start":
            reading, writing = os.pipe()
            answer = os.fork()
            if not answer:
                os.dup2(writing, 1)
                os.closerange(3, writing + 1)
                os.environ.update(rest[1])
                return list(rest[0])
            os.close(writing)
            outputs[answer] = reading
        elif verb == "listen":
            answer = len(os.read(outputs[rest[0]], 1 << 10))
        else:
            if rest[0] not in codes:
                pid, status = os.waitpid(rest[0], os.WNOHANG if verb == "poll" else 0)
                if pid:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    os.close(outputs.pop(pid))
            answer = codes.get(rest[0])
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    given = sys.argv[1:] if sys.argv[1:] != ["fork"] else fork()
    if given is not None:
        main(Path(given[0]), int(given[1]), float(given[2]), *given[3:])
