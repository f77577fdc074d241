"""Einsum and Fourier transforms equal NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from .single import assert_same

EXTENTS = {"a": 2, "b": 3, "c": 4, "d": 5, "i": 3, "j": 4, "k": 5}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "ij,jk",
        "ij,kj->ki",
        "bij,bjk->bik",
        "abij,abkj->abik",
        "i,i->",
        "i,j->ij",
        "ij->ji",
        "ij->",
        "ij->j",
        "ii->i",
        "ii",
        "aii->a",
        "ij,ij->ij",
        "ij,jk,kc->ic",
        "abc,cd->abd",
        "abc,acd,bd->d",
        "ba",
        "ij,ik->i",
    ],
)
def test_einsum(equation: str) -> None:
    terms = equation.partition("->")[0].split(",")
    operands = [normal(*(EXTENTS[label] for label in term)) for term in terms]
    expected = np.einsum(equation, *operands, dtype=np.float64)
    for constant in ((), (1,) if len(terms) > 1 else ()):
        assert_same("Einsum", operands, constant=constant, equation=equation, expected=[np.float32(expected)])


def test_einsum_broadcasts_behind_an_ellipsis() -> None:
    cases = [
        ("...ij,...jk->...ik", [normal(2, 1, 3, 4), normal(1, 5, 4, 2)]),
        ("...ii->...i", [normal(2, 3, 3)]),
        ("i...,i...->...", [normal(3, 4), normal(3, 1)]),
        ("b...,...->b...", [normal(2, 3), normal(3)]),
    ]
    for equation, operands in cases:
        expected = np.einsum(equation, *operands, dtype=np.float64).astype(np.float32)
        assert_same("Einsum", operands, equation=equation, expected=[expected])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_einsum_of_integers(dtype: type) -> None:
    a, b = np.arange(12).reshape(3, 4).astype(dtype), np.arange(20).reshape(4, 5).astype(dtype)
    assert_same("Einsum", [a, b], equation="ij,jk->ik", expected=[a @ b])


@pytest.mark.parametrize("length", [8, 11, 64])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_fourier_transforms(length: int, parts: int, inverse: int) -> None:
    x = normal(2, length, 3, parts)
    signal = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    result = (np.fft.ifft if inverse else np.fft.fft)(signal, axis=1)
    expected = np.stack([result.real, result.imag], axis=-1).astype(np.float32)
    operands = [x, None, np.array(1)]
    assert_same("DFT", operands, constant=(2,), inverse=inverse, expected=[expected], relative=1e-4, absolute=1e-5)


@pytest.mark.parametrize("length", [8, 10, 20])
def test_one_sided_and_padded_transforms(length: int) -> None:
    x = normal(1, 12, 1)
    result = np.fft.rfft(x[..., 0], n=length, axis=1)
    expected = np.stack([result.real, result.imag], axis=-1).astype(np.float32)
    operands = [x, np.array(length), np.array(1)]
    assert_same("DFT", operands, constant=(1, 2), onesided=1, expected=[expected], relative=1e-4, absolute=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [True, False])
def test_short_time_transforms(onesided: int, windowed: bool) -> None:
    signal, window = normal(2, 80, 1), np.hanning(16).astype(np.float32)
    frames = np.stack([signal[:, start : start + 16, 0] for start in range(0, 65, 8)], axis=1)
    if windowed:
        frames = frames * window
    result = np.fft.fft(frames, axis=-1)[..., : 9 if onesided else 16]
    expected = np.stack([result.real, result.imag], axis=-1).astype(np.float32)
    operands = [signal, np.array(8), window if windowed else None, np.array(16)]
    assert_same(
        "STFT",
        operands,
        constant=(1, 2, 3),
        onesided=onesided,
        expected=[expected],
        relative=1e-4,
        absolute=1e-5,
    )
