"""What a trial costs besides its measurement: proposing, the journal on the disk, what it waits for Optuna's storage.

    python -m benchmarks.tuning_overhead

A study on replayed measurements that take no time, over the knobs that the target onnxruntime has on eight processors,
with the journal and SQLite in a temporary folder; beside it Optuna's own way, ask and tell on SQLite.  Starting the
worker of a trial, which is part of measuring it, is played by sleeping for OPENING_S (a real one takes 0.6 s and more,
benchmarks/measurement.py); the sleep is not counted, and what the coordinator does meanwhile (Optuna's storage) only in
the CPU time.  Written to benchmarks/results/tuning-overhead.json: milliseconds per trial, wall and CPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does

import numpy as np
import optuna

from benchmarks.measure.machine import describe as machine
from edgec.targets import registry
from edgec.targets.knobs import Circumstances
from edgec.tuner.goals import Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.measurements import Race, Reference
from edgec.tuner.replay import Replay
from edgec.tuner.samplers import distributions
from edgec.tuner.search import Budget, Search
from edgec.tuner.space import Space, key_of, make_space
from edgec.tuner.storage import Mirror
from edgec.tuner.trials import State, Trial

RESULT = Path(__file__).parent / "results" / "tuning-overhead.json"
TRIALS = 120
OPENING_S = 0.2


class Instant(Replay):
    """Made-up times, at once."""

    def reference(self, configuration: Any) -> Reference:
        return Reference(10.0, 9.9, 10.1)

    def pin(self, configuration: Any) -> None:
        self._pinned = (10.0,)

    @contextlib.contextmanager
    def race(self, configuration: Any, *, against: Any | None = None, fresh: bool = False) -> Iterator[Race]:
        time.sleep(OPENING_S)
        with super().race(configuration, against=against, fresh=fresh) as race:
            yield race


def space() -> Space:
    """Batch, precision, threads, modes, memory: thousands of configurations."""
    knobs = registry.load("onnxruntime").knobs(Circumstances(8, 1, "float32", ("float32", "float16", "int8")))
    return make_space(knobs, {}, {})


def ours(folder: Path, of: Space) -> dict[str, Any]:
    """Per trial, as `edgec tune` works."""
    assert of.points is not None
    rows = {key_of(point): [5 + zlib.crc32(key_of(point).encode()) % 1000 / 100] for point in of.points}
    goals = Goals(("throughput",))
    with Journal(folder) as journal:
        journal.append({"kind": "study", "schema": SCHEMA})
        mirror = Mirror(folder, None, "overhead", of, goals, {})
        clock = Clock()
        search = Search(of, goals, Instant(rows), journal, mirror, watch=clock)
        search.run(Budget(trials=TRIALS))
        clock.lap()  # with what the storage still had to take
    wall, cpu = np.diff(np.array(clock.laps), axis=0).T * 1e3
    wall[1:-1] -= OPENING_S * 1e3  # the default is not raced, and after the last trial nothing is
    wall[-2] += wall[-1]
    cpu[-2] += cpu[-1]
    return summary(wall[:-1].tolist(), cpu[:-1].tolist())


class Clock:
    """Elapsed and CPU seconds when trials end.

    Attributes:
        laps: the pairs, the first one from the beginning.
    """

    def __init__(self) -> None:
        self.laps: list[tuple[float, float]] = []
        self.lap()

    def lap(self) -> None:
        """Take the time."""
        self.laps.append((time.perf_counter(), time.process_time()))

    def __call__(self, trial: Trial) -> None:
        """A trial begins or ends."""
        if trial.state is not State.RUNNING:
            self.lap()


def naive(folder: Path, of: Space) -> dict[str, Any]:
    """Per trial, Optuna's ask and tell on SQLite as it comes."""
    study = optuna.create_study(storage=f"sqlite:///{folder / 'naive.db'}", direction="minimize")
    wall, cpu = [], []
    for number in range(TRIALS):
        began, busy = time.perf_counter(), time.process_time()
        trial = study.ask(distributions(of))
        study.tell(trial, 5 + number % 7)
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - busy) * 1e3)
    return summary(wall, cpu)


def summary(wall: list[float], cpu: list[float]) -> dict[str, Any]:
    """Milliseconds."""
    return {name: spread(values) for name, values in {"wall_ms": wall, "cpu_ms": cpu}.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Median, 90th percentile and mean."""
    median, p90 = np.quantile(values, (0.5, 0.9))
    return {"median": float(median), "p90": float(p90), "mean": float(np.mean(values))}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    of = space()
    with tempfile.TemporaryDirectory() as folder:
        document = {
            "machine": machine(),
            "configurations": len(of.points or ()),
            "trials": TRIALS,
            "edgec": ours(Path(folder), of),
            "optuna_sqlite": naive(Path(folder), of),
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
