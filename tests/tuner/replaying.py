"""Run a study on replayed measurements:

    python -m tests.tuner.replaying FOLDER TRIALS SECONDS_PER_BLOCK SAMPLER [NAME]

$EDGEC_STORAGE is the URL of its storage where that is not the SQLite file in the folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgec.tuner.goals import Goals
from edgec.tuner.search import Budget
from edgec.tuner.storage import Mirror

from .synthetic import opened, replay, searching, space

GOALS = Goals(("throughput",), {"latency": 30.0})


def main(folder: Path, trials: int, seconds: float, sampler: str, name: str = "replayed") -> None:
    of = space((1, 2, 4))
    with opened(folder, of, GOALS) as journal:
        mirror = Mirror(folder, os.environ.get("EDGEC_STORAGE"), name, of, GOALS, {})
        search = searching(journal, of, replay(of, seconds=seconds), GOALS, mirror=mirror, sampler=sampler, seed=5)
        print("searching", flush=True)
        search.run(Budget(trials=trials))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
