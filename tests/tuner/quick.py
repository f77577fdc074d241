"""``edgec``, but a study measures for as short a time as it can:

    python -m tests.tuner.quick tune ...

For tests of what happens around the measurements, to which their precision is of no importance: the processes, the
locks, the files and the order of things are those of ``python -m edgec``.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from typing import Any

from edgec.cli.main import main
from edgec.runtime.measurement import DuelRules, LatencyRules, WarmUp
from edgec.runtime.measurement.floor import measure_floor
from edgec.tuner import measuring, study
from tests.command import edgec as command

SLOT_S = 0.001
"""Unlike that of real measurements: a floor that is kept holds for one length of a slot."""
DUEL = DuelRules(
    slot_s=SLOT_S, minimum_blocks=measuring.BELIEVED, minimum_s=0.0, half_width=1e3, unstable_above=1e3, budget_s=3.0
)
ALONE = LatencyRules(
    minimum_slots=3,
    minimum_s=0.0,
    half_width=1e3,
    unstable_above=1e3,
    drift_above=1e3,
    variation_above=1e3,
    spread_above=1e3,
)
QUICK = measuring.Rules(duel=DUEL, confirmation=DUEL, latency=ALONE, warm_up=WarmUp(seconds=0.0, limit_s=0.1))

edgec = functools.partial(command, module=__name__)


def hasten() -> None:
    """Let studies of this process measure quickly."""

    def rules(**given: Any) -> measuring.Rules:
        return replace(QUICK, **given)

    study.Rules = rules  # type: ignore[assignment, misc]
    measuring.measure_floor = functools.partial(measure_floor, pairs=2)


if __name__ == "__main__":
    hasten()
    sys.exit(main())
