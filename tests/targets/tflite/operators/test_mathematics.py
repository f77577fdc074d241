"""Composed functions stay accurate over their whole domain; integers are exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import erf

import numpy as np
import pytest

from .single import assert_same

WIDE = np.concatenate([np.logspace(-20, 18, 400), [0.0]]).astype(np.float32)
AROUND_ZERO = np.concatenate([WIDE, -WIDE])
UNIT = np.concatenate([np.linspace(-1, 1, 801), np.logspace(-20, -1, 100), 1 - np.logspace(-7, -1, 50)])
UNIT = UNIT.astype(np.float32)


@pytest.mark.parametrize(
    "op, function, x",
    [
        ("Atan", np.arctan, AROUND_ZERO),
        ("Asin", np.arcsin, UNIT),
        ("Acos", np.arccos, UNIT[np.abs(UNIT) < 0.9999]),
        ("Sinh", np.sinh, np.concatenate([np.linspace(-89, 89, 401), AROUND_ZERO[np.abs(AROUND_ZERO) < 1]])),
        ("Cosh", np.cosh, np.linspace(-89, 89, 401)),
        ("Asinh", np.arcsinh, AROUND_ZERO),
        ("Acosh", np.arccosh, np.concatenate([1 + np.logspace(-6, 3, 200), np.logspace(1, 18, 50)])),
        ("Atanh", np.arctanh, UNIT[np.abs(UNIT) < 1]),
    ],
)
def test_relative_error(op: str, function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> None:
    held = np.asarray(x, np.float32)
    expected = function(held.astype(np.float64)).astype(np.float32)
    assert_same(op, [held], expected=[expected], relative=5e-6, absolute=0)


def test_tangent_as_accurate_as_the_sine_and_cosine_of_the_runtime() -> None:
    x = np.linspace(-6, 6, 701).astype(np.float32)
    expected = np.tan(x.astype(np.float64)).astype(np.float32)
    assert_same("Tan", [x], expected=[expected], relative=5e-5, absolute=0)


def test_error_function_within_a_millionth() -> None:
    x = np.concatenate([np.linspace(-6, 6, 4001), np.logspace(-20, 0, 200)]).astype(np.float32)
    expected = np.array([erf(value) for value in x], np.float32)
    assert_same("Erf", [x], expected=[expected], relative=1e-6, absolute=0)


def test_infinities_and_poles() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([inf, -inf, nan, 0.0, 2.0, -2.0, 1.0, -1.0], np.float32)
    for op in ("Atan", "Asin", "Acos", "Sinh", "Asinh", "Acosh", "Atanh", "IsNaN", "Erf", "Sign"):
        assert_same(op, [x])
    assert_same("Cosh", [x[~np.isnan(x)]])  # LiteRT's EXP makes 0 of a NaN
    for positive, negative in itertools.product((0, 1), repeat=2):
        assert_same("IsInf", [x], detect_positive=positive, detect_negative=negative)


INT64 = np.iinfo(np.int64)


def test_int64_division_truncates_toward_zero() -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate(
        [rng.integers(INT64.min + 1, INT64.max, 500), rng.integers(-1000, 1000, 500), [INT64.max, -INT64.max, 0, 7, -7]]
    )
    b = np.concatenate([rng.integers(1, INT64.max, 250), rng.integers(1, 99, 750), [1, 1, 5, -2, 2]])
    sign = np.where(rng.random(a.size) < 0.5, -1, 1)
    assert_same("Div", [a.astype(np.int64), (b * sign).astype(np.int64)])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits(op: str, dtype: type) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    a = rng.integers(limits.min, limits.max, (4, 50), dtype=dtype, endpoint=True)
    b = rng.integers(limits.min, limits.max, (50,), dtype=dtype, endpoint=True)
    a[0, :2], b[:2] = (limits.min, limits.max), (limits.max, limits.min)
    assert_same(op, [a, b])
    assert_same("BitwiseNot", [a])


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(direction: str) -> None:
    x, places = np.arange(256, dtype=np.uint8).reshape(32, 8), np.arange(8, dtype=np.uint8)
    assert_same("BitShift", [x, places], direction=direction)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.float32])
@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders(dtype: type, fmod: int) -> None:
    if dtype is np.float32 and not fmod:
        pytest.skip("ONNX has no such form")
    low = 0 if dtype is np.uint8 else -50
    x = np.arange(low, 51).astype(dtype)
    divisors = np.array([3, 7, 50] if dtype is np.uint8 else [3, -7, 50], dtype).reshape(3, 1)
    assert_same("Mod", [x[np.newaxis], divisors], fmod=fmod)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_powers(dtype: type) -> None:
    base = np.arange(-3, 4).astype(dtype)
    for exponent in range(5):
        power = np.array(exponent, dtype)
        assert_same("Pow", [base, power], constant=(1,), expected=[base**power])
    exponents = np.arange(0, 19).astype(dtype).reshape(-1, 1)
    assert_same("Pow", [base[np.newaxis], exponents], expected=[base[np.newaxis] ** exponents])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_determinants(size: int) -> None:
    assert_same("Det", [np.random.default_rng(size).standard_normal((3, size, size)).astype(np.float32)])
