"""Splits into unequal parts become slices."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir.passes.base import parse_pipeline
from tests.ir.equivalence import model_of, ops_of, random_feeds, run


@pytest.mark.parametrize(
    ("axis", "sizes", "expected"),
    [(1, (2, 3, 1), ["Slice"] * 3), (-1, (1, 3), ["Slice"] * 2), (1, (2, 2, 2), ["Split"]), (0, (2,), ["Split"])],
)
def test_the_parts_are_the_same(axis: int, sizes: tuple[int, ...], expected: list[str]) -> None:
    shape = [2, 6, 4]
    results = []
    for number, size in enumerate(sizes):
        extents = list(shape)
        extents[axis] = size
        results.append(f"float[{','.join(map(str, extents))}] y{number}")
    names = ", ".join(f"y{number}" for number in range(len(sizes)))
    constant = f"int64[{len(sizes)}] s = {{{', '.join(map(str, sizes))}}}"
    body = f"g (float[2,6,4] x) => ({', '.join(results)}) <{constant}> {{ {names} = Split <axis = {axis}> (x, s) }}"
    before, after = model_of(body), model_of(body)
    for item in parse_pipeline("slice-unequal-splits"):
        item.apply(after)
    assert ops_of(after) == expected
    feeds = random_feeds(before)
    for old, new in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_array_equal(new, old)
