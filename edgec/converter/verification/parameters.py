"""Values for run-time parameters that depend on each other or on the shape of a result.

The shape given to a Reshape must have as many elements as its data, the starts and ends of a Slice must give the
declared extents.  For every node with such operands among the graph's inputs :func:`find_plans` returns a plan: a
function that draws all of them at once, so that they fit together and give the declared output shape.

Source: the operators' specifications in https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import Array

Draw = Callable[[np.random.Generator], dict[int, Any]]
"""Draws operand position to value; only positions that are free are used."""

Handler = Callable[["Call"], "Draw | None"]

HANDLERS: dict[str, Handler] = {}


class Call:
    """A node, and which of its operands come unchanged from graph inputs."""

    def __init__(self, node: Node, free: dict[int, Value]):
        self.node = node
        self.free = free

    def dims(self, position: int) -> tuple[int, ...] | None:
        """The static extents of an operand."""
        value = self.node.input(position)
        return value.dims if value is not None and value.is_static else None

    @property
    def result(self) -> tuple[int, ...] | None:
        """The static extents of the first output, or of what is computed from it element by element."""
        value = self.node.output
        for _ in range(8):
            if value.is_static:
                return value.dims
            following = next((node for node in value.users if _keeps_shape(node, value)), None)
            if following is None:
                return None
            value = following.output
        return None

    def length(self, position: int) -> int:
        """Number of elements of an operand; 1 where unknown."""
        dims = self.dims(position)
        return math.prod(dims) if dims is not None else 1

    def constant(self, position: int) -> list[int] | None:
        """The elements of a constant operand."""
        value = self.node.input(position)
        return [int(item) for item in value.numpy().ravel()] if value is not None and value.const is not None else None

    def has(self, position: int) -> bool:
        """Whether the operand is given."""
        return self.node.input(position) is not None


_ELEMENTWISE = frozenset("Identity Cast Log Exp Sqrt Neg Abs Sin Cos Floor Ceil Round Sigmoid Relu".split())
_ARITHMETIC = frozenset("Add Sub Mul Div Pow".split())


def _keeps_shape(node: Node, value: Value) -> bool:
    if node.op in _ELEMENTWISE:
        return True
    others = [item for item in node.inputs if item is not None and item is not value]
    return node.op in _ARITHMETIC and all(item.is_static and math.prod(item.dims) == 1 for item in others)


def _handles(*ops: str) -> Callable[[Handler], Handler]:
    def enter(function: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = function
        return function

    return enter


def _fixed(values: dict[int, Any]) -> Draw:
    return lambda rng: values


@_handles("Reshape")
def _reshape(call: Call) -> Draw | None:
    data, length = call.dims(0), call.length(1)
    wanted: list[int] | None = list(call.result) if call.result is not None else None
    if wanted is None or len(wanted) != length:
        wanted = [-1] + [1] * (length - 1) if length else []
        if data is not None and length:
            wanted[0] = math.prod(data)
    return _fixed({1: wanted})


@_handles("Expand")
def _expand(call: Call) -> Draw | None:
    length = call.length(1)
    if call.result is not None and len(call.result) >= length:
        return _fixed({1: list(call.result)[len(call.result) - length :]})
    data = call.dims(0) or ()
    return _fixed({1: ([1] * length + list(data))[-length:] if length else []})


@_handles("Tile")
def _tile(call: Call) -> Draw | None:
    data = call.dims(0)
    if data is None:
        return None
    if call.result is not None:
        return _fixed({1: [out // max(extent, 1) for out, extent in zip(call.result, data)]})
    return lambda rng: {1: rng.integers(1, 3, len(data))}


@_handles("ConstantOfShape", "RandomNormal", "RandomUniform")
def _of_shape(call: Call) -> Draw | None:
    if call.result is not None and len(call.result) == call.length(0):
        return _fixed({0: list(call.result)})
    return lambda rng: {0: rng.integers(1, 4, call.length(0))}


@_handles("Unsqueeze", "Squeeze")
def _squeeze(call: Call) -> Draw | None:
    small, large = call.dims(0), call.result
    if small is None:
        return None
    if call.node.op == "Squeeze":
        small, large = (large if large is not None else ()), small
    if large is None:
        return _fixed({1: list(range(call.length(1)))})
    for axes in itertools.combinations(range(len(large)), call.length(1)):
        rest = tuple(extent for axis, extent in enumerate(large) if axis not in axes)
        if all(large[axis] == 1 for axis in axes) and (call.result is None or rest == tuple(small)):
            return _fixed({1: list(axes)})
    return None


def _reduced(data: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    if keep:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(data))
    return tuple(extent for axis, extent in enumerate(data) if axis not in axes)


@_handles(*(f"Reduce{kind}" for kind in "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()))
def _reduce(call: Call) -> Draw | None:
    data, length = call.dims(0), call.length(1)
    if data is None:
        return None
    keep = bool(call.node.attr_int("keepdims", 1))
    for axes in itertools.combinations(range(len(data)), length):
        if call.result is None or _reduced(data, axes, keep) == call.result:
            return _fixed({1: list(axes)})
    return None


@_handles("Split")
def _split(call: Call) -> Draw | None:
    axis = call.node.attr_int("axis", 0)
    if not all(output.is_static for output in call.node.outputs):
        data = call.dims(0)
        if data is None:
            return None
        count = len(call.node.outputs)
        cuts = [data[axis] // count] * count
        cuts[-1] += data[axis] - sum(cuts)
        return _fixed({1: cuts})
    return _fixed({1: [output.dims[axis] for output in call.node.outputs]})


@_handles("Slice")
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


@_handles("Pad")
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


@_handles("Range")
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


@_handles("Resize")
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


@_handles("OneHot")
def _one_hot(call: Call) -> Draw | None:
    if call.result is None:
        return lambda rng: {1: rng.integers(2, 8)}
    return _fixed({1: call.result[call.node.attr_int("axis", -1)]})


@_handles("GatherND", "ScatterND")
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


@_handles("ScatterElements")
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


@_handles("Compress")
def _compress(call: Call) -> Draw | None:
    length = call.length(1)

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        chosen = np.zeros(length, np.bool_)
        axis = call.node.attributes.get("axis")
        count = call.result[int(axis or 0)] if call.result is not None else max(length // 2, 1)
        chosen[rng.permutation(length)[:count]] = True
        return {1: chosen}

    return draw


@_handles("MaxUnpool")
def _max_unpool(call: Call) -> Draw | None:
    indices, out = call.dims(1), call.result
    if indices is None:
        return None
    cells = math.prod(out) if out is not None else math.prod(indices)

    def draw(rng: np.random.Generator) -> dict[int, Any]:
        chosen = np.sort(rng.choice(cells, math.prod(indices), replace=False))
        return {1: chosen.reshape(indices), 2: list(out or ())}

    return draw


@_handles("NonMaxSuppression")
def _boxes(call: Call) -> Draw | None:
    dims = call.dims(0)
    return None if dims is None else (lambda rng: {0: _rectangles(rng, dims, 1.0)})


@_handles("RoiAlign")
def _rois(call: Call) -> Draw | None:
    data, dims = call.dims(0), call.dims(1)
    if data is None or dims is None:
        return None
    scale = call.node.attr_float("spatial_scale", 1.0)
    return lambda rng: {1: _rectangles(rng, dims, min(data[2:]) / scale)}


def _rectangles(rng: np.random.Generator, dims: tuple[int, ...], size: float) -> Array:
    """Corners x1, y1, x2, y2 with a positive area, inside a square of this size."""
    corner = rng.uniform(0, 0.6 * size, (*dims[:-1], 2))
    return np.concatenate([corner, corner + rng.uniform(0.1 * size, 0.4 * size, (*dims[:-1], 2))], axis=-1)


@_handles("AffineGrid")
def _affine_grid(call: Call) -> Draw | None:
    if call.result is None:
        return None
    batch, *spatial, _ = call.result
    return _fixed({1: [batch, 1, *spatial]})


@_handles("CenterCropPad")
def _center_crop(call: Call) -> Draw | None:
    if call.result is None:
        return None
    axes = call.node.attr_ints("axes", list(range(len(call.result))))
    return _fixed({1: [call.result[axis] for axis in axes]})


@_handles("Col2Im")
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
            return _fixed({1: list(out[2:]), 2: list(sides)})
    return None


@_handles("HannWindow", "HammingWindow", "BlackmanWindow")
def _window(call: Call) -> Draw | None:
    return _fixed({0: call.result[0] if call.result is not None else 8})


@_handles("DFT")
def _dft(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None:
        return None
    changed = [axis for axis in range(1, len(data) - 1) if out is not None and out[axis] != data[axis]]
    axis = (call.constant(2) or changed or [len(data) - 2])[0]
    return _fixed({1: data[axis], 2: axis})


@_handles("STFT")
def _stft(call: Call) -> Draw | None:
    signal, out, window = call.dims(0), call.result, call.dims(2)
    if signal is None or out is None:
        return None
    frames, bins = out[1], out[2]
    lengths = [window[0]] if window else [2 * (bins - 1), bins]
    for length in lengths:
        for step in range(1, signal[1] + 1):
            if (signal[1] - length) // step + 1 == frames:
                return _fixed({1: step, 3: length})
    return None


@_handles("MelWeightMatrix")
def _mel(call: Call) -> Draw | None:
    bins, mels = call.result if call.result is not None else (9, 4)
    return _fixed({0: mels, 1: 2 * (bins - 1), 2: 8192, 3: 0.0, 4: 4096.0})


# which inputs they apply to

_SAME_VALUES = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def _origin(value: Value | None, inputs: set[Value]) -> Value | None:
    """The graph input whose elements a value holds in the same order, or None."""
    while value is not None and value not in inputs:
        node = value.producer
        if node is None or node.op not in _SAME_VALUES or node.domain:
            return None
        value = node.input(0)
    return value


def find_plans(graph: Graph) -> list[tuple[Call, Draw]]:
    """Every node whose operands must be drawn together, and how."""
    inputs = set(graph.inputs)
    plans: list[tuple[Call, Draw]] = []
    for node in graph.nodes:
        handler = HANDLERS.get(node.op) if not node.domain else None
        if handler is None:
            continue
        free = {}
        for position, value in enumerate(node.inputs):
            source = _origin(value, inputs)
            if source is not None and (position or node.op not in _DATA_FIRST):
                free[position] = source
        if free:
            call = Call(node, free)
            draw = handler(call)
            if draw is not None:
                plans.append((call, draw))
    return plans


_DATA_FIRST = frozenset(HANDLERS) - {
    "ConstantOfShape",
    "RandomNormal",
    "RandomUniform",
    "Range",
    "HannWindow",
    "HammingWindow",
    "BlackmanWindow",
    "MelWeightMatrix",
    "NonMaxSuppression",
}
"""Operators whose operand 0 is data and never drawn by a plan."""
