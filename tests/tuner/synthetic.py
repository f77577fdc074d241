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


def header(of: Space, goals: Goals | None = None, name: str = "net.onnx") -> dict[str, Any]:
    return {
        "kind": "study",
        "schema": SCHEMA,
        "model": {"path": name, "name": name, "sha256": "0" * 64},
        "target": "onnxruntime",
        "goals": (goals or Goals()).to_json(),
        "seed": 0,
        "sampler": "surrogate",
        "knobs": of.describe(),
        "configurations": len(of.points or ()),
        "batch": 1,
        "input_shapes": {"x": [1, 3]},
        "options": {"precision": None},
        "target_options": {},
        "session": {},
        "basis": "replayed",
        "machine": {"processor": "none", "processors": 4},
        "notes": [],
    }


def opened(folder: Path, of: Space, goals: Goals | None = None, name: str = "net.onnx") -> Journal:
    """A journal with its first entry, to be entered."""
    with Journal(folder) as journal:
        if not journal.entries:
            journal.append(header(of, goals, name))
    return Journal(folder)


def finish(journal: Journal, search: Search, why: str) -> None:
    """Confirm the winner and write it down."""
    from edgec.tuner.confirming import confirm
    from edgec.tuner.study import _finish

    _finish(journal, search, why, confirm(search.trials, search.goals, search._measurements, 0.01), 0.01)


def searching(journal: Journal, of: Space, measurements: Replay, goals: Goals | None = None, **more: Any) -> Search:
    search = Search(of, goals or Goals(), measurements, journal, **more)
    if search.trials:
        measurements.pin(of.default)
    return search
