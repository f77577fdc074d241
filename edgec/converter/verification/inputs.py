"""Seeded random inputs that a model accepts.

Every sample has its own generator, ``PCG64`` seeded with (seed, sample number), so that sample 2 is the same whether or
not sample 1 was drawn.  Samples differ in kind as well: normal noise, a smooth image with noise, numbers in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgec.converter.verification.data import Feeds
from edgec.converter.verification.domains import Domain, find_domains
from edgec.converter.verification.parameters import find_plans
from edgec.errors import UsageError
from edgec.ir.graph import Model
from edgec.ir.types import Array
from edgec.runtime.session import TensorSpec

_BATCH = (1, 1, 2)
_SPATIAL = (64, 224, 32)
_OTHER = (8, 64, 2)
"""Extents for dimensions that nothing determines, one per attempt: axis 0, the last two of an image, all others."""

ATTEMPTS = len(_BATCH)

WIDER = (16.0, 255.0, 64.0, 1000.0, 255.0)
"""Factors of the samples beyond the wanted ones, one after the other: pixels and spectra are not in [-1, 1]."""


class Generator:
    """Draws samples for the inputs of a model.

    Args:
        inputs: what the model takes, with static shapes where they are known.
        model: the canonical model, from which domains are derived; its inputs go by the same names.
        ranges: input name to (low, high), which overrule what was derived.
        seed: of all samples.
        attempt: 0 at first; higher ones choose other extents for unknown dimensions and other numbers.

    Attributes:
        planned: names of the inputs that are drawn together with others or as a shape dictates.
        wider_from: number of the first sample whose unrestricted floats are multiplied by :data:`WIDER`; set where more
            samples are drawn only because the ones so far did not move an output.

    Raises:
        UsageError: EDG002 when a range names no input, EDG001 when it is empty.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        model: Model,
        ranges: Mapping[str, tuple[float, float]],
        seed: int,
        attempt: int = 0,
    ):
        self.inputs = tuple(inputs)
        self._shapes = _extents(inputs, attempt)
        self._attempt = attempt
        self._seed = seed
        self._ranges = dict(ranges)
        names = [spec.name for spec in inputs]
        for name, (low, high) in self._ranges.items():
            if name not in names:
                raise UsageError("EDG002", f"--range names no input: '{name}'", where=f"inputs: {', '.join(names)}")
            if not low <= high:
                raise UsageError("EDG001", f"the range of '{name}' is empty: {low:g}..{high:g}")
        self.wider_from: int | None = None
        self._domains = find_domains(model.graph)
        self._plans = find_plans(model.graph)
        self.planned = {source.name for call, _ in self._plans for source in call.free.values()}

    def describe(self, name: str) -> str:
        """The values that an input is drawn from, in words."""
        if name in self._ranges:
            low, high = self._ranges[name]
            return f"{low:g}..{high:g} (given)"
        domain = self._domains.get(name, Domain())
        text = domain.describe()
        if name in self.planned:
            call = next(call for call, _ in self._plans if any(v.name == name for v in call.free.values()))
            return f"as {call.node.op} needs it"
        return f"{text} ({domain.why})" if domain.why else text

    def draw(self, sample: int) -> Feeds:
        """One array per input."""
        rng = np.random.Generator(np.random.PCG64([self._seed, sample, self._attempt]))
        feeds: Feeds = {}
        for spec in self.inputs:
            shape = self._shapes[spec.name]
            if spec.name in self._ranges:
                low, high = self._ranges[spec.name]
                feeds[spec.name] = _bounded(rng, spec.dtype, shape, low, high)
            else:
                domain = self._domains.get(spec.name, Domain())
                feeds[spec.name] = _array(rng, spec.dtype, shape, domain, sample)
                if spec.dtype.kind == "f" and domain == Domain():
                    feeds[spec.name] = self._widened(feeds[spec.name], sample)
        settled: set[str] = set(self._ranges)
        for call, draw in self._plans:
            drawn = draw(rng)
            for position, source in call.free.items():
                if position not in drawn or source.name in settled or source.name not in feeds:
                    continue
                old = feeds[source.name]
                fresh = np.asarray(drawn[position])
                if fresh.size == old.size:
                    feeds[source.name] = fresh.astype(old.dtype).reshape(old.shape)
                    settled.add(source.name)
        return feeds

    def _widened(self, array: Array, sample: int) -> Array:
        if self.wider_from is None or sample < self.wider_from:
            return array
        factor = WIDER[(sample - self.wider_from) % len(WIDER)]
        return np.asarray(np.abs(array) * array.dtype.type(factor))


def _extents(inputs: Sequence[TensorSpec], attempt: int) -> dict[str, tuple[int, ...]]:
    """Static shapes; a symbolic extent is the same wherever its name occurs."""
    symbols: dict[str, int] = {}
    shapes = {}
    for spec in inputs:
        shape = []
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, int):
                shape.append(dim)
                continue
            image = len(spec.shape) >= 4 and axis >= len(spec.shape) - 2
            extent = (_BATCH if axis == 0 else _SPATIAL if image else _OTHER)[attempt]
            shape.append(extent if dim is None else symbols.setdefault(dim, extent))
        shapes[spec.name] = tuple(shape)
    return shapes


def _array(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], domain: Domain, sample: int
) -> Array:
    if dtype.kind == "O":
        words = np.array(["a", "b", "cat", "dog", "Edge"], dtype=object)
        return np.asarray(words[rng.integers(0, len(words), shape)], dtype=object).reshape(shape)
    if domain.only and domain.values:
        chosen = np.asarray(domain.values)[rng.integers(0, len(domain.values), shape)]
        return np.asarray(chosen).astype(dtype).reshape(shape)
    if dtype.kind == "b":
        drawn = rng.random(shape) < 0.5
        return np.asarray(drawn, dtype=np.bool_).reshape(shape)
    if dtype.kind in "iu":
        array = _integers(rng, dtype, shape, domain, sample)
    else:
        array = _floats(rng, dtype, shape, domain, sample)
    if domain.gap:
        wide = array.astype(np.float64)
        gap = max(domain.gap, 1.0) if dtype.kind in "iu" else domain.gap
        wide = np.where(np.abs(wide) < gap, np.where((wide < 0) & (dtype.kind != "u"), -gap, gap), wide)
        array = wide.astype(dtype)
    if domain.values and array.size:
        if array.size == 1 and sample < len(domain.values):
            array = np.full(shape, domain.values[sample]).astype(dtype)
        else:
            there = rng.random(shape) < 0.25
            chosen = np.asarray(domain.values)[rng.integers(0, len(domain.values), shape)]
            array = np.where(there, chosen, array).astype(dtype)
    return array.reshape(shape)


def _bounded(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], low: float, high: float) -> Array:
    """Uniform in a range, both ends included."""
    if dtype.kind == "b":
        return np.asarray(rng.integers(int(low), int(high) + 1, shape)).astype(np.bool_).reshape(shape)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        first, last = max(int(np.ceil(low)), info.min), min(int(np.floor(high)), info.max)
        return np.asarray(rng.integers(first, max(first, last), shape, endpoint=True, dtype=dtype)).reshape(shape)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype).reshape(shape)


def _integers(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], domain: Domain, sample: int
) -> Array:
    try:
        info = np.iinfo(dtype)
        smallest, largest = int(info.min), int(info.max)
    except ValueError:  # 4-bit types of ml_dtypes
        smallest, largest = (0, 3) if dtype.name.startswith("u") else (-2, 1)
    if dtype.itemsize == 1:
        if sample % 3 and not domain.why and np.prod(shape) > 1:
            return _pixels(rng, dtype, shape, sample)
        low, high = smallest, largest
    else:
        low, high = (0, 20) if dtype.kind == "u" else (-10, 10)
    if domain.low is not None:
        low = int(domain.low)
        high = max(high, low + 10) if domain.high is None else high
    if domain.high is not None:
        high = int(domain.high)
        low = min(low, high - 10) if domain.low is None else low
    if domain.negative_too and sample % 2 and dtype.kind == "i":
        low = -high - 1
    low, high = max(low, smallest), min(high, largest)
    return np.asarray(rng.integers(low, max(low, high), shape, endpoint=True)).astype(dtype).reshape(shape)


def _floats(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], domain: Domain, sample: int
) -> Array:
    if domain.low is not None and domain.high is not None:
        array = np.asarray(rng.uniform(domain.low, domain.high, shape))
    elif domain.low is not None:
        array = domain.low + np.abs(rng.standard_normal(shape))
    elif domain.high is not None:
        array = domain.high - np.abs(rng.standard_normal(shape))
    else:
        array = _free(rng, shape, sample)
    if domain.whole:
        array = np.round(array)
    array = np.asarray(array).reshape(shape)
    if dtype.kind == "c":
        return (array + 1j * rng.standard_normal(shape)).astype(dtype)
    result = array.astype(dtype)
    if domain.special and result.size:
        flat = result.reshape(-1)
        for value in (np.nan, np.inf, -np.inf):
            flat[rng.random(flat.size) < 0.2] = value
    return result


def _free(rng: np.random.Generator, shape: tuple[int, ...], sample: int) -> Array:
    """Numbers that nothing restricts, of another kind in every sample."""
    kind = sample % 3
    if kind == 0:  # wide enough to reach the ends of saturating operators, whose middle is hardly told from noise
        return np.asarray(4 * rng.standard_normal(shape, dtype=np.float32))
    if kind == 1 and len(shape) >= 3 and shape[-1] > 3 and shape[-2] > 3:
        return _image(rng, shape)
    if kind == 1 and len(shape) == 4 and shape[-1] <= 4 and shape[1] > 3 and shape[2] > 3:  # channels-last
        return _image(rng, (shape[0], shape[3], *shape[1:3])).transpose(0, 2, 3, 1)
    if kind == 1:
        return np.asarray(rng.uniform(-1, 1, shape))
    return np.asarray(rng.random(shape, dtype=np.float32))


def _pixels(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], sample: int) -> Array:
    """8-bit numbers as quantized images have them: smooth ones of some contrast, or noise around some brightness."""
    info = np.iinfo(dtype)
    level, contrast = rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.5)
    if sample % 3 == 1 and len(shape) >= 3:
        # the two largest axes behind the first are taken for rows and columns, wherever the channels stand
        behind = sorted(range(1, len(shape)), key=lambda axis: -shape[axis])[:2]
        order = [axis for axis in range(len(shape)) if axis not in behind] + sorted(behind)
        drawn = _image(rng, tuple(shape[axis] for axis in order)).transpose(np.argsort(order))
    else:
        drawn = np.asarray(rng.standard_normal(shape))
    scaled = info.min + (level + contrast * drawn) * (info.max - info.min)
    return np.asarray(np.clip(np.round(scaled), info.min, info.max).astype(dtype))


def _image(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Waves of low frequency with a little noise, in about [-1, 1]: more like a photograph than noise is."""
    rows = np.linspace(0, 1, shape[-2], dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, shape[-1], dtype=np.float32)[None, :]
    planes = shape[:-2]
    total = np.zeros(shape, np.float32)
    for _ in range(3):
        frequency, phase = rng.uniform(0.5, 6, (2, *planes, 1, 1)), rng.uniform(0, 6.28, (*planes, 1, 1))
        total += np.sin(6.28 * (frequency[0] * rows + frequency[1] * columns) + phase, dtype=np.float32) / 3
    total += 0.1 * rng.standard_normal(shape, dtype=np.float32)
    return total
