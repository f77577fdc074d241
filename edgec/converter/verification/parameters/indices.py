"""Operands that are places in data: in range, and without collisions where those have no order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgec.converter.verification.parameters.call import Call, Draw, fixed, handles


@handles("OneHot")
def _one_hot(call: Call) -> Draw | None:
    if call.result is None:
        return lambda rng: {1: rng.integers(2, 8)}
    return fixed({1: call.result[call.node.attr_int("axis", -1)]})


@handles("GatherND", "ScatterND")
def _nd_indices(call: Call) -> Draw | None:
    data, indices = call.dims(0), call.dims(1)
    if data is None or not indices:
        return None
    skipped = call.node.attr_int("batch_dims", 0) if call.node.op == "GatherND" else 0
    extents = data[skipped : skipped + indices[-1]]
    rows = math.prod(indices[:-1])

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        cells = math.prod(extents)
        # a scatter to the same place twice has no defined order
        flat = rng.choice(cells, rows, replace=call.node.op == "GatherND" or rows > cells)
        return {1: np.stack(np.unravel_index(flat, extents), -1).reshape(indices)} if extents else {}

    return draw


@handles("ScatterElements")
def _scatter(call: Call) -> Draw | None:
    data, indices = call.dims(0), call.dims(1)
    if data is None or indices is None:
        return None
    axis = call.node.attr_int("axis", 0) % max(len(data), 1)
    if indices[axis] > data[axis]:
        return None

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        places = np.argsort(rng.random((*indices[:axis], data[axis], *indices[axis + 1 :])), axis=axis)
        return {1: np.take(places, np.arange(indices[axis]), axis=axis)}

    return draw


@handles("Compress")
def _compress(call: Call) -> Draw | None:
    length = call.length(1)

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        chosen = np.zeros(length, np.bool_)
        axis = call.node.attributes.get("axis")
        count = call.result[int(axis or 0)] if call.result is not None else max(length // 2, 1)
        chosen[rng.permutation(length)[:count]] = True
        return {1: chosen}

    return draw


@handles("MaxUnpool")
def _max_unpool(call: Call) -> Draw | None:
    indices, out = call.dims(1), call.result
    if indices is None:
        return None
    cells = math.prod(out) if out is not None else math.prod(indices)

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        chosen = np.sort(rng.choice(cells, math.prod(indices), replace=False))
        return {1: chosen.reshape(indices), 2: list(out or ())}

    return draw
