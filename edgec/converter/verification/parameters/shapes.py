"""Operands that are a shape, axes or extents: they follow from the declared result."""

from __future__ import annotations

import itertools
import math

from edgec.converter.verification.parameters.call import Call, Draw, fixed, handles


@handles("Reshape")
def _reshape(call: Call) -> Draw | None:
    data, length = call.dims(0), call.length(1)
    wanted: list[int] | None = list(call.result) if call.result is not None else None
    if wanted is None or len(wanted) != length:
        wanted = [-1] + [1] * (length - 1) if length else []
        if data is not None and length:
            wanted[0] = math.prod(data)
    return fixed({1: wanted})


@handles("Expand")
def _expand(call: Call) -> Draw | None:
    length = call.length(1)
    if call.result is not None and len(call.result) >= length:
        return fixed({1: list(call.result)[len(call.result) - length :]})
    data = call.dims(0) or ()
    return fixed({1: ([1] * length + list(data))[-length:] if length else []})


@handles("Tile")
def _tile(call: Call) -> Draw | None:
    data = call.dims(0)
    if data is None:
        return None
    if call.result is not None:
        return fixed({1: [out // max(extent, 1) for out, extent in zip(call.result, data)]})
    return lambda rng: {1: rng.integers(1, 3, len(data))}


@handles("ConstantOfShape", "RandomNormal", "RandomUniform")
def _of_shape(call: Call) -> Draw | None:
    if call.result is not None and len(call.result) == call.length(0):
        return fixed({0: list(call.result)})
    return lambda rng: {0: rng.integers(1, 4, call.length(0))}


@handles("Unsqueeze", "Squeeze")
def _squeeze(call: Call) -> Draw | None:
    small, large = call.dims(0), call.result
    if small is None:
        return None
    if call.node.op == "Squeeze":
        small, large = (large if large is not None else ()), small
    if large is None:
        return fixed({1: list(range(call.length(1)))})
    for axes in itertools.combinations(range(len(large)), call.length(1)):
        rest = tuple(extent for axis, extent in enumerate(large) if axis not in axes)
        if all(large[axis] == 1 for axis in axes) and (call.result is None or rest == tuple(small)):
            return fixed({1: list(axes)})
    return None


def _reduced(data: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    if keep:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(data))
    return tuple(extent for axis, extent in enumerate(data) if axis not in axes)


@handles(*(f"Reduce{kind}" for kind in "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()))
def _reduce(call: Call) -> Draw | None:
    data, length = call.dims(0), call.length(1)
    if data is None:
        return None
    keep = bool(call.node.attr_int("keepdims", 1))
    for axes in itertools.combinations(range(len(data)), length):
        if call.result is None or _reduced(data, axes, keep) == call.result:
            return fixed({1: list(axes)})
    return None


@handles("Split")
def _split(call: Call) -> Draw | None:
    axis = call.node.attr_int("axis", 0)
    if not all(output.is_static for output in call.node.outputs):
        data = call.dims(0)
        if data is None:
            return None
        count = len(call.node.outputs)
        cuts = [data[axis] // count] * count
        cuts[-1] += data[axis] - sum(cuts)
        return fixed({1: cuts})
    return fixed({1: [output.dims[axis] for output in call.node.outputs]})


@handles("AffineGrid")
def _affine_grid(call: Call) -> Draw | None:
    if call.result is None:
        return None
    batch, *spatial, _ = call.result
    return fixed({1: [batch, 1, *spatial]})


@handles("CenterCropPad")
def _center_crop(call: Call) -> Draw | None:
    if call.result is None:
        return None
    axes = call.node.attr_ints("axes", list(range(len(call.result))))
    return fixed({1: [call.result[axis] for axis in axes]})


@handles("Col2Im")
def _col2im(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None or out is None:
        return None
    block = data[1] // out[1]
    rank = len(out) - 2
    strides, dilations = call.node.attr_ints("strides", [1] * rank), call.node.attr_ints("dilations", [1] * rank)
    pads = call.node.attr_ints("pads", [0] * 2 * rank)
    for sides in itertools.product(*(range(1, block + 1) for _ in range(rank))):
        windows = [
            (out[2 + a] + pads[a] + pads[a + rank] - dilations[a] * (sides[a] - 1) - 1) // strides[a] + 1
            for a in range(rank)
        ]
        if math.prod(sides) == block and math.prod(windows) == data[2]:
            return fixed({1: list(out[2:]), 2: list(sides)})
    return None
