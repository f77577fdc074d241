"""Configurations: what is the same, what cannot work, what may be asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import UsageError
from edgec.targets import registry
from edgec.targets.knobs import Circumstances, Knob, Knobs, Part
from edgec.tuner.space import key_of, make_space

from .synthetic import knobs, space


def test_knobs_that_do_not_matter_are_left_out_so_that_equal_configurations_have_one_key() -> None:
    of = space()
    first = of.canonical({**of.default, "mode": "sequential", "inter": 2})
    second = of.canonical({**of.default, "mode": "sequential", "inter": 4})
    assert first == second
    assert "inter" not in first
    assert key_of(first) == key_of(second)
    parallel = of.canonical({**of.default, "mode": "parallel", "inter": 4})
    assert parallel["inter"] == 4


def test_the_points_are_all_distinct_and_possible() -> None:
    of = space((1, 2, 4))
    points = of.points
    assert points is not None
    keys = [key_of(point) for point in points]
    assert len(keys) == len(set(keys)) == 3 * 2 * (3 * 3 + (3 * 2 - 1) * 3)
    assert all(of.why_impossible(point) is None for point in points)
    assert points[0] == of.default


def test_true_and_one_are_two_values() -> None:
    of = make_space(Knobs((Knob("a", Part.SESSION, (True, False), True), Knob("b", Part.SESSION, (1, 2), 1))), {}, {})
    assert key_of({"a": True}) != key_of({"a": 1})
    assert len(of.points or ()) == 4


def test_an_unknown_knob_or_value_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no knob 'thread'"):
        make_space(knobs(), {"thread": (1,)}, {})
    with pytest.raises(UsageError, match="no value of the knob 'level'"):
        make_space(knobs(), {"level": ("most",)}, {})
    with pytest.raises(UsageError, match="default configuration cannot work"):
        make_space(knobs(), {"mode": ("parallel",), "inter": (4,), "threads": (4,)}, {})


def test_numbers_that_the_target_does_not_try_by_itself_may_be_asked_for() -> None:
    of = make_space(knobs(), {"batch": (3, 1)}, {})
    assert of.by_name["batch"].values == (1, 3)
    assert of.default["batch"] == 1


def test_frozen_knobs_and_those_that_have_to_be_asked_for_stay_at_their_defaults() -> None:
    offered = registry.load("onnxruntime").knobs(Circumstances(2, 1))
    of = make_space(offered, {}, {"batch": "the objective is latency"})
    assert of.by_name["spinning"].values == (False,)
    assert of.by_name["batch"].values == (1,)
    assert make_space(offered, {"spinning": (False, True)}, {}).by_name["spinning"].values == (False, True)


@pytest.mark.parametrize("name", ["onnxruntime", "tflite", "ethosu", "edgetpu"])
@settings(deadline=None)  # a busy machine is no failure
@given(cpus=st.integers(1, 64), batch=st.one_of(st.none(), st.integers(1, 100)), cuda=st.booleans())
def test_every_target_offers_a_space_with_a_default_that_can_work(
    name: str, cpus: int, batch: int | None, cuda: bool
) -> None:
    options = {"provider": "cuda"} if cuda and name == "onnxruntime" else {}
    offered = registry.load(name).knobs(Circumstances(cpus, batch, options=options))
    of = make_space(offered, {}, {})
    assert of.canonical(of.default) == of.default
    assert of.why_impossible(of.default) is None
    for knob in of.knobs:
        assert knob.default in knob.values
        assert set(knob.hints) <= set(knob.values)
        known = [other.name for other in of.knobs[: of.knobs.index(knob)]]
        assert set(knob.when) <= set(known), "a condition refers to a knob before it"
    if of.points is not None and batch is not None:
        assert len({key_of(point) for point in of.points}) == len(of.points)


@pytest.mark.parametrize("name", ["onnxruntime", "tflite"])
def test_mixed_precision_has_levels_of_the_loss_that_is_allowed(name: str) -> None:
    circumstances = Circumstances(2, 1, precisions=("float32", "int8", "mixed"), max_drop=0.02)
    of = make_space(registry.load(name).knobs(circumstances), {}, {"batch": "fixed"})
    assert of.by_name["mixed_drop"].values == (0.005, 0.01, 0.02)
    assert of.points is not None
    levels = {(point["precision"], point.get("mixed_drop")) for point in of.points}
    assert levels == {
        ("float32", None), ("int8", None), ("mixed", 0.005), ("mixed", 0.01), ("mixed", 0.02)
    }  # fmt: skip
    assert of.by_name["mixed_drop"].is_conversion
    asked = make_space(registry.load(name).knobs(circumstances), {"mixed_drop": (0.004, 0.002)}, {})
    assert asked.by_name["mixed_drop"].values == (0.002, 0.004)
    with pytest.raises(UsageError, match="no value of the knob"):
        make_space(registry.load(name).knobs(circumstances), {"threads": (1.5,)}, {})


def test_mixed_precision_has_no_levels_where_no_loss_is_spoken_of_or_it_is_not_tried() -> None:
    for circumstances in (
        Circumstances(2, 1, precisions=("float32", "mixed")),
        Circumstances(2, 1, precisions=("float32", "int8"), max_drop=0.02),
    ):
        assert all(knob.name != "mixed_drop" for knob in registry.load("tflite").knobs(circumstances).knobs)
    alone = Circumstances(2, 1, "mixed", ("mixed",), max_drop=0.02)
    (knob,) = [knob for knob in registry.load("tflite").knobs(alone).knobs if knob.name == "mixed_drop"]
    assert knob.when == {}
