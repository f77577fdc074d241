"""Layout permutations keep their promise about bytes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.targets.tflite.layout.permutation import (
    channels_last,
    identity,
    invert,
    same_bytes,
    stored,
    through_reshape,
)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two shapes with the same element count, and a permutation of the first."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=5))
    before = tuple(factors)
    pieces: list[int] = []
    for factor in factors:
        if factor == 4 and draw(st.booleans()):
            pieces += [2, 2]
        else:
            pieces.append(factor)
    after: list[int] = []
    for piece in pieces:
        if after and draw(st.booleans()):
            after[-1] *= piece
        else:
            after.append(piece)
    if draw(st.booleans()):
        after.insert(draw(st.integers(0, len(after))), 1)
    permutation = tuple(draw(st.permutations(range(len(before)))))
    assert math.prod(before) == math.prod(after)
    return before, tuple(after), permutation


@given(reshapes())
def test_a_reshape_passed_through_a_layout_stores_the_same_bytes(case: tuple[tuple[int, ...], ...]) -> None:
    before, after, permutation = case
    result = through_reshape(before, after, permutation)
    if result is None:
        return
    value = np.arange(math.prod(before)).reshape(before)
    np.testing.assert_array_equal(
        value.transpose(permutation).reshape(-1), value.reshape(after).transpose(result).reshape(-1)
    )


def test_flattening_spatial_axes_goes_through_channels_last() -> None:
    assert through_reshape((1, 8, 5, 7), (1, 8, 35), (0, 2, 3, 1)) == (0, 2, 1)


def test_flattening_channels_with_space_does_not() -> None:
    assert through_reshape((1, 8, 5, 7), (1, 280), (0, 2, 3, 1)) is None


def test_a_pooled_image_flattens_for_free() -> None:
    assert through_reshape((1, 8, 1, 1), (1, 8), (0, 2, 3, 1)) == (0, 1)


@given(st.permutations(range(5)))
def test_inverting_twice_gives_the_permutation_back(order: list[int]) -> None:
    permutation = tuple(order)
    assert invert(invert(permutation)) == permutation
    assert stored(stored((2, 3, 4, 5, 6), permutation), invert(permutation)) == (2, 3, 4, 5, 6)


def test_axes_of_extent_one_do_not_matter_for_bytes() -> None:
    assert same_bytes((1, 1, 4, 5), identity(4), channels_last(4))
    assert not same_bytes((1, 2, 4, 5), identity(4), channels_last(4))
