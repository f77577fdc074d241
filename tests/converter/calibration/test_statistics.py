"""Statistics hold what numpy says of all the numbers together, in bounded memory, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.converter.calibration.observers import METHODS
from edgec.converter.calibration.statistics import BINS, Calibration, Statistics


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20),
        min_size=1,
        max_size=6,
    )
)
def test_every_number_is_counted_once_in_the_bin_that_holds_it(arrays: list[list[float]]) -> None:
    found = Statistics()
    for numbers in arrays:
        assert found.add(np.array(numbers, np.float32))
    flat = np.array([number for numbers in arrays for number in numbers], np.float32).astype(np.float64)
    assert found.counts.shape == (BINS,)
    assert found.counts.sum() == flat.size
    assert (found.low, found.high) == (flat.min(), flat.max())
    # a number near zero may have gone into the neighbouring bin only by being a bin's border
    places = np.floor(flat / found.width).astype(np.int64) - found.first
    assert np.array_equal(np.bincount(places, minlength=BINS), found.counts)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_channels_multiply_as_arrays_do(channels: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    factors = np.exp2(generator.integers(-3, 4, channels)).astype(np.float64)  # powers of two: nothing is rounded
    plain, wanted = Statistics(), Statistics()
    for array in generator.normal(size=(count, 2, channels, 3)).astype(np.float32):
        plain.add(array)
        wanted.add(array * factors[:, None].astype(np.float32))
    found = plain.multiplied(factors)
    assert found is not None and (found.low, found.high) == (wanted.low, wanted.high)
    assert found.means is not None and wanted.means is not None
    np.testing.assert_allclose(found.means, wanted.means, rtol=1e-12)
    assert np.array_equal(found.lows, wanted.lows) and np.array_equal(found.highs, wanted.highs)
    assert METHODS["minmax"](found) == METHODS["minmax"](wanted)
    assert plain.multiplied(np.ones(channels + 1)) is None


def test_what_is_not_finite_is_refused_and_not_counted() -> None:
    found = Statistics()
    assert not found.add(np.array([1.0, np.nan], np.float32))
    assert not found.add(np.array([np.inf], np.float32))
    assert not found.add(np.array([[[1.0, np.nan], [2.0, 3.0]]], np.float32))
    assert not found.add(np.array([[[1.0, -np.inf], [2.0, 3.0]]], np.float32))
    assert not found.counts.any() and found.low > found.high and not found.arrays and found.means is None


def test_large_arrays_are_thinned_out_but_their_extent_is_exact() -> None:
    array = np.zeros(1_000_003, np.float32)
    array[777] = 5.0
    found = Statistics()
    found.add(array)
    assert found.high == 5.0 and found.counts.sum() < 20_000


def test_statistics_survive_being_written() -> None:
    first, second = Statistics(), Statistics()
    first.add(np.linspace(-1, 3, 100, dtype=np.float32))
    second.add(np.zeros(4, np.float32))
    arrays = Calibration(7, {"a": first, "b": second}).to_arrays()
    found = Calibration.from_arrays(arrays)
    assert found.samples == 7 and list(found.values) == ["a", "b"]
    assert np.array_equal(found.values["a"].counts, first.counts) and found.values["a"].width == first.width


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_zero_and_stays_inside_the_extent(method: str) -> None:
    generator = np.random.default_rng(0)
    for numbers in (generator.normal(2, 0.1, 5000), generator.normal(size=5000), -generator.gamma(1, size=5000)):
        found = Statistics()
        found.add(numbers.astype(np.float32))
        chosen = METHODS[method](found)
        assert min(found.low, 0.0) - 1e-6 <= chosen.low <= 0 <= chosen.high <= max(found.high, 0.0) + 1e-6
        assert chosen.high > chosen.low


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_a_single_outlier_is_cut_off_by_percentile_and_entropy(method: str) -> None:
    numbers = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    found = Statistics()
    for _ in range(20):
        found.add(numbers)
    found.add(np.array([400.0], np.float32))
    assert METHODS["minmax"](found).high == 400.0
    assert METHODS[method](found).high < 200.0


def test_mse_has_the_smallest_error_of_all_methods() -> None:
    numbers = np.random.default_rng(0).laplace(size=16000).astype(np.float32)
    found = Statistics()
    found.add(numbers)
    errors = {}
    for name, method in METHODS.items():
        chosen = method(found)
        step = (chosen.high - chosen.low) / 255
        rounded = np.clip(np.round(numbers / step) * step, chosen.low, chosen.high)
        errors[name] = float(np.mean((rounded - numbers) ** 2))
    assert errors["mse"] <= min(errors.values()) * 1.02, errors
