"""The A/A floor: what it is made of, what it is worth, and how long it is kept."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from edgec.runtime.measurement import DuelRules, Floor, cached_floor, floor_key, keep_floor, measure_floor
from edgec.runtime.measurement.duel import Duel
from edgec.runtime.measurement.floor import MINIMUM, default_folder, floor_of, forget_floor, student
from tests.runtime.measurement.synthetic import Machine


@pytest.mark.parametrize(("freedom", "expected"), [(5, 2.571), (8, 2.306), (12, 2.179), (30, 2.042), (1000, 1.962)])
def test_quantiles_of_students_t_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert student(0.95, freedom) == pytest.approx(expected, rel=0.005)


def test_a_floor_holds_nineteen_of_twenty_further_differences() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        ratios = np.exp(random.normal(0, 0.02, 8))
        held += abs(random.normal(0, 0.02)) <= math.log1p(floor_of(ratios))
    assert 0.93 < held / 2000 < 0.97


def test_no_floor_is_below_the_minimum() -> None:
    assert floor_of([1.0] * 8) == MINIMUM
    with pytest.raises(ValueError, match="no ratio"):
        floor_of([])


def test_processes_that_differ_by_layout_raise_the_floor() -> None:
    machine = Machine(0)
    rules = DuelRules(budget_s=1.0)

    def value(layout: float) -> float:
        class Opened:
            def __enter__(self):  # type: ignore[no-untyped-def]
                return machine.subject(1e-3, layout=layout)

            def __exit__(self, *_: object) -> None: ...

        return measure_floor(Opened, rules=rules, clock=machine.clock).value

    assert value(0.0) < 0.02 < 0.04 < value(0.03)


def test_a_floor_from_a_busy_machine_is_soon_forgotten(tmp_path: Path) -> None:
    for value, age_s, kept in ((0.02, 3600.0, True), (0.2, 300.0, True), (0.2, 3600.0, False)):
        floor = Floor(value, (1.0, 1 + value), time.time() - age_s, "key")
        assert keep_floor(floor, folder=tmp_path)
        assert (cached_floor("key", folder=tmp_path) is not None) == kept


def test_every_pair_is_opened_anew_and_closed() -> None:
    machine = Machine(0)
    events: list[str] = []

    class Opened:
        def __enter__(self):  # type: ignore[no-untyped-def]
            events.append("open")
            return machine.subject(1e-3)

        def __exit__(self, *_: object) -> None:
            events.append("close")

    seen: list[int] = []
    floor = measure_floor(
        Opened,
        key="here",
        rules=DuelRules(budget_s=0.5),
        pairs=3,
        progress=lambda number, _: seen.append(number),
        clock=machine.clock,
    )
    assert events == ["open", "open", "close", "close"] * 3
    assert seen == [0, 1, 2] and len(floor.ratios) == 3 and floor.key == "here"


def test_a_floor_is_kept_until_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    floor = Floor(0.012, (1.001, 0.99), now, "cpu | something")
    assert cached_floor(floor.key, folder=tmp_path) is None
    assert keep_floor(floor, folder=tmp_path)
    assert cached_floor(floor.key, folder=tmp_path) == floor
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert cached_floor(floor.key, folder=tmp_path) is None
    assert cached_floor(floor.key, folder=tmp_path, maximum_age_s=1e9) == floor
    monkeypatch.setattr(time, "time", lambda: now - 60)  # a clock that was set back
    assert cached_floor(floor.key, folder=tmp_path) is None
    forget_floor(floor.key, folder=tmp_path)
    forget_floor(floor.key, folder=tmp_path)
    assert cached_floor(floor.key, folder=tmp_path, maximum_age_s=1e9) is None


def test_a_damaged_file_is_no_floor(tmp_path: Path) -> None:
    floor = Floor(0.012, (1.0,), 0.0, "k")
    keep_floor(floor, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    for text in ("", "[]", "{}", json.dumps({"value": "x", "ratios": [], "measured": 0, "key": "k"})):
        path.write_text(text)
        assert cached_floor("k", folder=tmp_path, maximum_age_s=1e12) is None


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert not keep_floor(Floor(0.01, (), 0.0, "k"), folder=blocked / "floors")


def test_a_floor_holds_for_its_device_runtime_and_size_only() -> None:
    keys = {
        floor_key("cpu", "a:b", 1e-3),
        floor_key("cuda:0", "a:b", 1e-3),
        floor_key("cpu", "c:d", 1e-3),
        floor_key("cpu", "a:b", 1e-1),
        floor_key("cpu", "a:b", 1e-3, DuelRules(slot_s=0.05)),
    }
    assert len(keys) == 5
    assert floor_key("cpu", "a:b", 1e-3) == floor_key("cpu", "a:b", 9e-3)


def test_the_cache_lies_where_the_user_says() -> None:
    assert default_folder({"XDG_CACHE_HOME": "/elsewhere"}) == Path("/elsewhere/edgec/floors")
    assert default_folder({}).parts[-3:] == (".cache", "edgec", "floors")


def test_a_floor_keeps_equals_from_winning() -> None:
    """The whole protocol: a floor measured on a noisy machine, then a hundred comparisons of equals on it."""
    wins = 0
    for seed in range(10):
        machine = Machine(seed)
        rules = DuelRules(budget_s=1.0)
        floor = measure_floor(lambda machine=machine: machine.opened(1e-3), rules=rules, clock=machine.clock)
        rules = DuelRules(budget_s=1.0, floor=floor.value)
        for _ in range(10):
            estimate = Duel(machine.subject(1e-3), machine.subject(1e-3), rules, clock=machine.clock).run()
            wins += estimate.verdict == "candidate"
    assert wins <= 5
