"""Operands that pick or add a stretch along axes: starts and ends, paddings, ranges, scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgec.converter.verification.parameters.call import Call, Draw, handles


@handles("Slice")
def _slice(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None:
        return None
    count = max(call.length(position) for position in (1, 2, 3, 4) if call.has(position))
    axes = call.constant(3) if call.has(3) else list(range(count))
    if axes is None:
        changed = [axis for axis in range(len(data)) if out is not None and out[axis] != data[axis]]
        axes = (changed + [axis for axis in range(len(data)) if axis not in changed])[:count]
    axes = [axis + len(data) if axis < 0 else axis for axis in axes]
    starts, ends, steps = call.constant(1), call.constant(2), call.constant(4) if call.has(4) else [1] * count

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        drawn: dict[int, list[int]] = {1: [], 2: [], 3: list(axes), 4: []}
        for position, axis in enumerate(axes):
            extent = data[axis]
            wanted = out[axis] if out is not None else int(rng.integers(1, extent + 1)) if extent else 0
            if steps is not None:
                step = steps[position]
            else:
                widest = 1 if wanted < 2 else max((extent - 1) // (wanted - 1), 1)
                # where the extent is kept, walking backwards is the only step that shows
                step = -1 if wanted == extent and extent > 1 else min(widest, 2)
            first, last = _bounds(
                rng, extent, wanted, step, starts[position] if starts else None, ends[position] if ends else None
            )
            drawn[1].append(first)
            drawn[2].append(last)
            drawn[4].append(step)
        return drawn

    return draw


def _bounds(
    rng: np.random.Generator, extent: int, wanted: int, step: int, start: int | None, end: int | None
) -> tuple[int, int]:
    """A start and an end that pick ``wanted`` of ``extent`` elements; given ones are kept."""
    if not wanted:
        return (0, 0) if start is None else (start, start)
    reach = (wanted - 1) * abs(step)
    if start is None:
        if end is None:
            slack = int(rng.integers(0, max(extent - reach, 1)))
            start = slack if step > 0 else slack + reach
        else:
            stop = min(end + extent if end < 0 else end, extent)
            start = max(stop - 1 - reach, 0) if step > 0 else min(stop + 1 + reach, extent - 1)
    if end is None:
        from_front = start + extent if start < 0 else min(start, extent - 1)
        end = from_front + reach + 1 if step > 0 else from_front - reach - 1
        if end < 0:
            end = -extent - 1
    return start, end


@handles("Pad")
def _pad(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None:
        return None
    axes = list(range(len(data)))
    if call.has(3):
        given = call.constant(3)
        if given is None:
            changed = [axis for axis in axes if out is not None and out[axis] != data[axis]]
            given = (changed + [axis for axis in axes if axis not in changed])[: call.length(3)]
        axes = [axis + len(data) if axis < 0 else axis for axis in given]

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        before, after = [], []
        for axis in axes:
            total = out[axis] - data[axis] if out is not None else int(rng.integers(0, 3))
            first = int(rng.integers(0, total + 1)) if total >= 0 else -int(rng.integers(0, -total + 1))
            before.append(first)
            after.append(total - first)
        return {1: before + after, 3: list(axes)}

    return draw


@handles("Range")
def _range(call: Call) -> Draw | None:
    whole = call.node.output.dtype.is_integer
    given = [call.node.operand(p).numpy().item() if call.node.operand(p).const is not None else None for p in range(3)]

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        count = call.result[0] if call.result is not None else int(rng.integers(2, 8))
        delta = given[2] if given[2] is not None else (int(rng.integers(1, 4)) if whole else 0.5)
        start = given[0]
        if start is None:
            start = given[1] - count * delta if given[1] is not None else int(rng.integers(-5, 6))
        return {0: start, 1: start + count * delta, 2: delta}

    return draw


@handles("Resize")
def _resize(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None:
        return None
    axes = [a + len(data) if a < 0 else a for a in call.node.attr_ints("axes", list(range(len(data))))]

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        low, high = rng.uniform(0.0, 0.3, len(axes)), rng.uniform(0.6, 1.0, len(axes))
        drawn: dict[int, Any] = {1: np.concatenate([low, high])}
        extents = out if out is not None else tuple(2 * dim if axis >= 2 else dim for axis, dim in enumerate(data))
        scales = np.array([extents[axis] / max(data[axis], 1) for axis in axes], np.float32)
        for position, axis in enumerate(axes):
            if math.floor(np.float32(data[axis]) * scales[position]) < extents[axis]:
                scales[position] = np.nextafter(scales[position], np.float32(np.inf))
        drawn[2] = scales
        drawn[3] = [extents[axis] for axis in axes]
        return drawn

    return draw
