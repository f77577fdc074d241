"""A small search space with known times."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.targets.knobs import Circumstances, Impossible, Knob, Knobs, Part, Setting, batch_knob
from edgec.tuner.goals import Goals
from edgec.tuner.journal import SCHEMA, Journal
from edgec.tuner.replay import Replay
from edgec.tuner.search import Search
from edgec.tuner.space import Space, key_of, make_space

EFFECTS: Mapping[str, Mapping[Setting, float]] = {
    "precision": {"float32": 1.0, "int8": 0.55},
    "threads": {1: 1.0, 2: 0.6, 4: 0.45},
    "mode": {"sequential": 1.0, "parallel": 1.3},
    "inter": {2: 1.0, 4: 1.05},
    "level": {"none": 1.6, "basic": 1.2, "all": 1.0},
}


def knobs() -> Knobs:
    return Knobs(
        (
            *batch_knob(Circumstances(4)),
            Knob("precision", Part.PRECISION, ("float32", "int8"), "float32"),
            Knob("threads", Part.SESSION, (1, 2, 4), 1),
            Knob("mode", Part.SESSION, ("sequential", "parallel"), "sequential"),
            Knob("inter", Part.SESSION, (2, 4), 2, when={"mode": ("parallel",)}),
            Knob("level", Part.SESSION, ("none", "basic", "all"), "all"),
        ),
        (Impossible("crowd", lambda c: "too many threads" if c.get("inter", 1) == 4 and c["threads"] == 4 else None),),
    )


def space(batches: tuple[int, ...] = (1,)) -> Space:
    return make_space(knobs(), {"batch": batches}, {})


def milliseconds(configuration: Mapping[str, Any]) -> float:
    """A product of effects, a little of its own for every configuration, a part of the time shared by the batch."""
    total = 10.0
    for name, effects in EFFECTS.items():
        if name in configuration:
            total *= effects[configuration[name]]
    batch = configuration["batch"]
    return total * (0.6 + 0.4 * batch) * (1 + zlib.crc32(key_of(configuration).encode()) % 100 / 2000)


def replay(of: Space, blocks: int = 4, **more: Any) -> Replay:
    """Every configuration of the space, with times that wander by a per cent."""
    assert of.points is not None
    rows = {
        key_of(point): [milliseconds(point) * (1 + 0.01 * (block % 3 - 1)) for block in range(blocks)]
        for point in of.points
    }
    return Replay(rows, **more)


def header(of: Space) -> dict[str, Any]:
    return {"kind": "study", "schema": SCHEMA, "knobs": of.describe()}


def opened(folder: Path, of: Space) -> Journal:
    """A journal with its first entry, to be entered."""
    with Journal(folder) as journal:
        if not journal.entries:
            journal.append(header(of))
    return Journal(folder)


def searching(journal: Journal, of: Space, measurements: Replay, goals: Goals | None = None, **more: Any) -> Search:
    search = Search(of, goals or Goals(), measurements, journal, **more)
    if search.trials:
        measurements.pin(of.default)
    return search
