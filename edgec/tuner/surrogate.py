"""A small Gaussian process over the knobs, which says what to measure next.

The logarithm of the time of one sample is taken as a sum: of what the targets' hints expect (as far as the measurements
let them be believed), of one effect per knob, of one effect per pair of knobs, and of what only the whole configuration
knows.  Times multiply (a level of optimisation
saves a share, a thread saves a share), so their logarithms add up: a few measurements say much about configurations
that were never seen, which is what tree-structured density estimates (TPE) do not use.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithms 2.1 and 5.1; Duvenaud,
Nickisch and Rasmussen, "Additive Gaussian Processes", 2011; Jones, Schonlau and Welch, "Efficient Global Optimization
of Expensive Black-Box Functions", 1998 (expected improvement).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgec.targets.knobs import Knob, Setting
from edgec.tuner.space import Codes, Space

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

SCALES: Final = (0.02, 0.07, 0.2, 0.5, 1.2)
"""Standard deviations of a knob's effect on the logarithm that are compared."""
SPREAD: Final = 0.15
"""What is expected of a knob without hints."""
PAIRS: Final = 0.35
"""Effect of a pair of knobs relative to the geometric mean of theirs."""
REST: Final = 0.03
"""Standard deviation of what only the whole configuration knows."""
OFFSET: Final = 0.5
NOISE: Final = (0.01, 0.04, 0.12)
"""Standard deviations of a measurement that are compared."""
FITTED: Final = 48
"""The scales are fitted to so many observations at most."""
TRUSTS: Final = (1.0, 0.5, 0.0)
"""How much of a knob's hints is believed; compared like the scales, once there is something to compare with."""
DOUBT: Final = 1.0
"""What it costs in the logarithm of the likelihood to give all of a knob's hints up."""
REACH: Final = 0.45
"""Numbers are alike over this share of the range of their logarithms."""


def likeness(knob: Knob) -> Matrix:
    """[values + 1, values + 1]: the correlation of the effects of two values; the last is a knob that is absent."""
    count = len(knob.values)
    found = np.eye(count + 1)
    if knob.is_ordered and count > 2:
        logarithms = np.log([max(float(value or 0), 1e-3) for value in knob.values])
        span = max(logarithms.max() - logarithms.min(), 1e-9) * REACH
        distance = (logarithms[:, None] - logarithms[None, :]) / span
        found[:count, :count] = np.exp(-0.5 * distance**2)
    return found


def expected(knob: Knob, default_ms: float) -> Vector:
    """[values + 1]: the hints as logarithms, relative to the default, of which one run takes ``default_ms``."""

    def share(value: Setting) -> float:
        return knob.hints.get(value, 1.0) + knob.overheads.get(value, 0.0) / default_ms

    base = share(knob.default)
    return np.array([*(math.log(share(value) / base) for value in knob.values), 0.0])


class Surrogate:
    """A fitted process.

    Args:
        space: the knobs.
        observed: configurations that were measured, as :meth:`~edgec.tuner.space.Space.encode` has them.
        logarithms: what is to become small, as logarithms, one per configuration.
        noise: standard deviation of each of them where it is known (from its interval), else 0.
        hinted: whether the knobs' hints are about this quantity.
        default_ms: time of one run of the default, milliseconds.
    """

    def __init__(
        self,
        space: Space,
        observed: Codes,
        logarithms: Sequence[float],
        noise: Sequence[float] = (),
        hinted: bool = True,
        default_ms: float = math.inf,
    ):
        self._space = space
        self._varied = [column for column, knob in enumerate(space.knobs) if len(knob.values) > 1]
        self._likeness = [likeness(knob) for knob in space.knobs]
        zero = [np.zeros(len(knob.values) + 1) for knob in space.knobs]
        self._hints = [expected(knob, default_ms) for knob in space.knobs] if hinted else zero
        self._prior = np.array(
            [max(SPREAD, 0.5 * float(np.abs(hints).max())) if np.any(hints) else SPREAD for hints in self._hints]
        )
        self._rows = observed
        self._first = float(logarithms[0])
        self._risen = np.asarray(logarithms, float) - self._first
        self._known = np.asarray(noise, float) if len(noise) else np.zeros(len(observed))
        self._trust = np.ones(len(space.knobs))
        self._scales, self._noise = self._fit()
        self._level = self._first - float(self._mean(self._rows[:1])[0])
        self._residual = self._surprise(self._trust)
        kernel = self._kernel(self._rows, self._rows, self._scales)
        kernel[np.diag_indices_from(kernel)] += self._noise**2 + self._known**2
        self._factor = np.linalg.cholesky(kernel)
        self._weights = _solve(self._factor, self._residual)

    def predict(self, rows: Codes) -> tuple[Vector, Vector]:
        """Means and standard deviations of the logarithms of encoded configurations, without a measurement's noise."""
        cross = self._kernel(rows, self._rows, self._scales)
        mean = self._mean(rows) + self._level + cross @ self._weights
        inner = np.linalg.solve(self._factor, cross.T)
        variance = self._variance(self._scales) - np.sum(inner**2, axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def effects(self) -> dict[str, float]:
        """Knob to the standard deviation of its fitted effect on the logarithm over its values, pairs left out."""
        found = {}
        space = self._space
        for column in self._varied:
            knob = space.knobs[column]
            count = len(knob.values)
            scale = self._scales[column]
            cross = scale**2 * self._likeness[column][:count][:, self._rows[:, column]]
            effect = self._trust[column] * self._hints[column][:count] + cross @ self._weights
            found[knob.name] = float(np.std(effect))
        return found

    def _mean(self, rows: Codes) -> Vector:
        total = np.zeros(len(rows))
        for column, hints in enumerate(self._hints):
            total += self._trust[column] * hints[rows[:, column]]
        return total

    def _surprise(self, trust: Vector) -> Vector:
        """What the hints, believed so far, do not explain of the observations, relative to the first one."""
        found = self._risen.copy()
        for column, hints in enumerate(self._hints):
            given = hints[self._rows[:, column]]
            found -= trust[column] * (given - given[0])
        return found

    def _alike(self, first: Codes, second: Codes) -> Matrix:
        """[varied knobs, first, second]: how alike the values of each knob are."""
        found = np.empty((len(self._varied), len(first), len(second)))
        for place, column in enumerate(self._varied):
            found[place] = self._likeness[column][first[:, column][:, None], second[:, column][None, :]]
        return found

    def _kernel(self, first: Codes, second: Codes, scales: Vector) -> Matrix:
        return self._summed(self._alike(first, second), scales)

    def _summed(self, alike: Matrix, scales: Vector) -> Matrix:
        """The kernel from the likeness of each knob; the variance of a pair of knobs is PAIRS**2 * s_k * s_l."""
        used = scales[self._varied]
        count, shape = len(used), alike.shape[1:]
        flat = alike.reshape(count, -1)
        squared = flat * flat
        single = used**2 @ flat
        linear = used @ flat
        pairs = 0.5 * (linear**2 - used**2 @ squared)
        whole = flat.prod(axis=0) if count else np.ones(flat.shape[1])
        return np.asarray(OFFSET**2 + single + PAIRS**2 * pairs + REST**2 * whole).reshape(shape)

    def _variance(self, scales: Vector) -> float:
        used = scales[self._varied]
        pairs = 0.5 * (used.sum() ** 2 - (used**2).sum())
        return float(OFFSET**2 + (used**2).sum() + PAIRS**2 * pairs + REST**2)

    def _fit(self) -> tuple[Vector, float]:
        """The scales and the noise under which the observations, and the scales themselves, are most likely.

        So is :attr:`_trust`, how much of each knob's hints is believed.
        """
        scales = self._prior.copy()
        noise = NOISE[1]
        if len(self._rows) < 4:
            return scales, noise
        keep = self._kept()
        fit = _Fit(self._alike(self._rows[keep], self._rows[keep]), self._known[keep], self._prior[self._varied])
        given = [hints[self._rows[keep, column]] - hints[self._rows[0, column]] for column, hints in self._hinting()]
        places = {column: place for place, (column, _) in enumerate(self._hinting())}
        trust, used = np.ones(len(given)), scales[self._varied]
        risen = self._risen[keep]

        def surprises(tried: Matrix) -> Matrix:
            """[tried, observations]: what is left of them, for every trust that is tried."""
            explained: Matrix = tried @ np.array(given).reshape(len(given), len(risen))
            return risen - explained

        def doubts(tried: Matrix) -> Vector:
            return np.asarray(DOUBT * np.sum(1 - tried, axis=1))

        best = float(fit.losses(used[None], np.array([noise]), surprises(trust[None]))[0] + doubts(trust[None])[0])
        for _ in range(2):
            for place, column in enumerate(self._varied):
                tried = np.tile(used, (len(SCALES), 1))
                tried[:, place] = SCALES
                found = fit.losses(tried, np.full(len(SCALES), noise), surprises(trust[None])) + doubts(trust[None])
                best, chosen = _lower(best, found)
                used = used if chosen is None else tried[chosen]
                if column in places:
                    believed = np.tile(trust, (len(TRUSTS), 1))
                    believed[:, places[column]] = TRUSTS
                    found = fit.losses(used[None], np.array([noise]), surprises(believed)) + doubts(believed)
                    best, chosen = _lower(best, found)
                    trust = trust if chosen is None else believed[chosen]
            same = np.tile(used, (len(NOISE), 1))
            found = fit.losses(same, np.array(NOISE), surprises(trust[None])) + doubts(trust[None])
            best, chosen = _lower(best, found)
            noise = noise if chosen is None else NOISE[chosen]
        for column, place in places.items():
            self._trust[column] = trust[place]
        scales[self._varied] = used
        return scales, noise

    def _hinting(self) -> list[tuple[int, Vector]]:
        """The knobs whose hints say something."""
        return [(column, self._hints[column]) for column in self._varied if np.any(self._hints[column])]

    def _kept(self) -> npt.NDArray[np.int64]:
        """The first observation, the best, and the latest."""
        count = len(self._rows)
        if count <= FITTED:
            return np.arange(count)
        order = np.argsort(self._risen, kind="stable")
        chosen = {0, *order[: FITTED // 2].tolist(), *range(count - FITTED // 2, count)}
        return np.array(sorted(chosen))


class _Fit:
    """How unlikely observations are under scales and noises, several of them at once.

    Args:
        alike: [varied knobs, observations, observations].
        known: [observations] standard deviations of the measurements.
        prior: [varied knobs] the scales that are expected.
    """

    def __init__(self, alike: Matrix, known: Vector, prior: Vector):
        count, size = len(alike), len(known)
        self._flat = alike.reshape(count, -1)
        self._squared = self._flat * self._flat
        self._whole = REST**2 * (self._flat.prod(axis=0) if count else np.ones(size * size)) + OFFSET**2
        self._known, self._prior, self._size = known**2, prior, size

    def losses(self, scales: Matrix, noises: Vector, residuals: Matrix) -> Vector:
        """The negative logarithm of the likelihood, constants left out.

        Args:
            scales: [tried, varied knobs].
            noises: [tried].
            residuals: [1, observations]; or [several, observations] where one scale is tried.

        Returns:
            [tried], or [several].
        """
        size = self._size
        linear, squares = scales @ self._flat, scales * scales
        kernels = self._whole + squares @ self._flat + PAIRS**2 * 0.5 * (linear * linear - squares @ self._squared)
        added = noises[:, None] ** 2 + self._known
        kernels[:, :: size + 1] += added
        kernels = kernels.reshape(-1, size, size)
        if len(scales) == 1:
            factors = np.linalg.cholesky(kernels)
            inner = np.linalg.solve(factors[0], residuals.T).T
        else:
            # A factor of the kernel bordered by the residual holds the solution in its last row; the corner only has to
            # be large enough.  That saves the triangular systems, which NumPy solves as if they were full.
            bordered = np.empty((len(scales), size + 1, size + 1))
            bordered[:, :size, :size] = kernels
            bordered[:, size, :size] = bordered[:, :size, size] = residuals
            bordered[:, size, size] = 1 + np.sum(residuals**2) / added.min(axis=1)
            whole = np.linalg.cholesky(bordered)
            factors, inner = whole[:, :size, :size], whole[:, size, :size]
        away = np.log(scales / self._prior)
        determinants = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        found: Vector = 0.5 * np.sum(inner**2, axis=1) + determinants + 0.5 * np.sum(away**2, axis=1) / 0.8**2
        return found


def _lower(best: float, found: Vector) -> tuple[float, int | None]:
    """The lowest, and where it is; of equals the first, and None where none is below the best so far."""
    chosen = None
    for place, value in enumerate(found.tolist()):
        if value < best - 1e-9:
            best, chosen = value, place
    return best, chosen


def expected_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """How much lower than ``best`` a value is expected to be, counting higher ones as nothing."""
    gap = (best - mean) / deviation
    density = np.exp(-0.5 * gap**2) / math.sqrt(2 * math.pi)
    below = 0.5 * np.array([math.erfc(-value / math.sqrt(2)) for value in gap])
    return np.asarray((best - mean) * below + deviation * density)


def below(mean: Vector, deviation: Vector, limit: float) -> Vector:
    """The probability of a value of at most ``limit``."""
    return 0.5 * np.array(
        [math.erfc((value - limit) / (spread * math.sqrt(2))) for value, spread in zip(mean, deviation)]
    )


def _solve(factor: Any, vector: Vector) -> Any:
    return np.linalg.solve(factor.T, np.linalg.solve(factor, vector))
