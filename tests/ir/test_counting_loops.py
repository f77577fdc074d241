"""Loops that count, as Keras' recurrent layers do, are unrolled; loops whose end depends on the inputs stay."""

from __future__ import annotations

import pytest

from tests.ir.equivalence import apply, model_of, ops_of, rewritten


def _counting(trips: str, start: int, bound: int, trip_operand: str = "n") -> str:
    """A loop that adds 1 to a carried counter until it reaches ``bound``, and collects x times the counter."""
    return (
        f"g (float[3] x) => (float[3] y) <{trips}bool c = {{1}}, int32 zero = {{{start}}}> "
        f"{{ t, y = Loop({trip_operand}, c, zero, x) <body = b (int64 i, bool k, int32 time, float[3] s) "
        "=> (bool more, int32 next, float[3] sum) "
        f"<int32 one = {{1}}, int32 bound = {{{bound}}}> "
        "{ next = Add(time, one) more = Less(next, bound) f = Cast<to = 1>(time) p = Add(s, f) sum = Abs(p) }> }"
    )


@pytest.mark.parametrize(("start", "bound", "runs"), [(0, 4, 4), (2, 4, 2), (9, 4, 1), (0, 100, 16)], ids=str)
def test_a_loop_that_counts_to_a_constant_is_unrolled(start: int, bound: int, runs: int) -> None:
    text = _counting("int64 n = {16}, ", start, bound)
    model = rewritten(text, "fold-constants,eliminate-dead-code", exact=True)
    assert "Loop" not in ops_of(model)
    assert ops_of(model).count("Abs") == runs


def test_a_loop_without_a_trip_count_is_unrolled_as_well() -> None:
    text = _counting("", 0, 5, '""')
    model = apply(model_of(text), "fold-constants,eliminate-dead-code")
    assert ops_of(model).count("Abs") == 5


def test_a_loop_whose_condition_depends_on_an_input_stays() -> None:
    text = (
        "g (float[3] x, int32 zero) => (float[3] y) <int64 n = {16}, bool c = {1}> "
        "{ t, y = Loop(n, c, zero, x) <body = b (int64 i, bool k, int32 time, float[3] s) "
        "=> (bool more, int32 next, float[3] sum) <int32 one = {1}, int32 bound = {4}> "
        "{ next = Add(time, one) more = Less(next, bound) sum = Abs(s) }> }"
    )
    assert "Loop" in ops_of(rewritten(text, "fold-constants", exact=True))


def test_a_loop_that_would_never_end_stays() -> None:
    text = (
        "g (float[3] x) => (float[3] y) <bool c = {1}, int32 zero = {0}> "
        '{ t, y = Loop("", c, zero, x) <body = b (int64 i, bool k, int32 time, float[3] s) '
        "=> (bool more, int32 next, float[3] sum) <int32 one = {1}> "
        "{ next = Add(time, one) more = LessOrEqual(time, next) sum = Abs(s) }> }"
    )
    assert "Loop" in ops_of(apply(model_of(text), "fold-constants"))
