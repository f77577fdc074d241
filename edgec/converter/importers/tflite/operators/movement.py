"""Operators that move elements: reshaping, transposing, padding, blocks.

Source: LiteRT kernels reshape.cc, transpose.cc, pad.cc, mirror_pad.cc, space_to_batch_nd.cc, batch_to_space_nd.cc.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value
from edgec.ir.types import DataType


@reads("RESHAPE", moves=True)
def reshape(call: Call) -> None:
    """Reshape; the shape is an operand or an option."""
    x = call.plain(0)
    shape: list[int] | None = None
    if call.has(1):
        known = call.known(1)
        shape = None if known is None else [int(extent) for extent in known.reshape(-1)]
        if shape is None:
            call.give_plain(call.e.one("Reshape", x, call.longs(1)))
            return
    else:
        options = call.op.options_or_none(schema.ReshapeOptions)
        given = options.NewShapeAsNumpy() if options is not None else 0
        shape = list(call.result().signature) if isinstance(given, int) else [int(extent) for extent in given]
    if shape == [0] and not call.result().shape:  # how old files write a scalar
        shape = []
    if x.is_static and -1 in shape and shape.count(-1) == 1:
        rest = int(np.prod([extent for extent in shape if extent >= 0], dtype=np.int64))
        total = int(np.prod(x.dims, dtype=np.int64))
        if rest and total % rest == 0:
            shape = [total // rest if extent < 0 else extent for extent in shape]
    call.give_plain(call.e.reshape(x, shape))


@reads("EXPAND_DIMS", moves=True)
def expand_dims(call: Call) -> None:
    """Unsqueeze."""
    axis = int(call.const(1, "the axis").reshape(-1)[0])
    call.give_plain(call.e.unsqueeze(call.plain(0), [call.axis(axis, len(call.tensor(0).shape) + 1)]))


@reads("SQUEEZE", moves=True)
def squeeze(call: Call) -> None:
    """Squeeze; without axes all of extent 1."""
    options = call.op.options_or_none(schema.SqueezeOptions)
    given = options.SqueezeDimsAsNumpy() if options is not None else 0
    axes = [] if isinstance(given, int) else [call.axis(int(axis)) for axis in given]
    if not axes:
        signature = call.tensor(0).signature
        axes = [axis for axis, extent in enumerate(signature) if extent == 1]
    call.give_plain(call.e.squeeze(call.plain(0), axes))


@reads("TRANSPOSE", moves=True)
def transpose(call: Call) -> None:
    """Transpose."""
    order = [int(axis) for axis in call.const(1, "the permutation").reshape(-1)]
    rank = len(call.tensor(0).shape)
    order = [axis + rank if axis < 0 else axis for axis in order]
    if sorted(order) != list(range(rank)):
        raise ValueError(f"the permutation {order} of rank {rank} at '{call.op.name}'")
    call.give_plain(call.e.transpose(call.plain(0), order))


def _fill(call: Call, x: Value) -> Value | None:
    """What PAD fills with: zero, as it is stored."""
    quantization = call.tensor(0).quantization
    if not call.stored or quantization is None or not x.dtype.is_integer:
        return None
    return call.e.scalar(int(quantization.zero_points[0]), x)


@reads("PAD", "PADV2", moves=True, layouts=True)
def pad(call: Call) -> None:
    """Pad with zeros or a number."""
    e = call.e
    rank = len(call.tensor(0).shape)
    known = call.known(1)
    if known is None:
        call.plainly()
        pads = e.reshape(e.transpose(call.longs(1), (1, 0)), [2 * rank])
    else:
        pairs = known.reshape(rank, 2)
        before, after = call.spread(pairs[:, 0].tolist()), call.spread(pairs[:, 1].tolist())
        pads = e.ints([*before, *after])
    x = call.x()
    value = _fill(call, x)
    if call.op.code == "PADV2":
        value = e.reshape(call.plain(2), [])
    call.give(e.one("Pad", x, pads, value))


@reads("MIRROR_PAD", moves=True, layouts=True)
def mirror_pad(call: Call) -> None:
    """Pad by reflection; where the border itself is repeated, one Gather per axis."""
    e = call.e
    mode = call.options(schema.MirrorPadOptions).Mode()
    pairs = call.const(1, "the padding").reshape(-1, 2)
    before, after = call.spread(pairs[:, 0].tolist()), call.spread(pairs[:, 1].tolist())
    x = call.x()
    if mode == schema.MirrorPadMode.REFLECT:
        call.give(e.one("Pad", x, e.ints([*before, *after]), mode="reflect"))
        return
    for axis, (low, high) in enumerate(zip(before, after)):
        extent = x.shape[axis] if x.shape is not None else None
        if not low and not high:
            continue
        if not isinstance(extent, int):
            call.refuse("an extent that is padded is known only at run time")
        if not 0 <= low <= extent or not 0 <= high <= extent:
            raise ValueError(f"{low} and {high} mirrored elements of {extent} at '{call.op.name}'")
        order = [*range(low - 1, -1, -1), *range(extent), *range(extent - 1, extent - 1 - high, -1)]
        x = e.one("Gather", x, e.ints(order), axis=axis)
    call.give(x)


@reads("DEPTH_TO_SPACE", moves=True)
def depth_to_space(call: Call) -> None:
    """DepthToSpace in the order of its default mode."""
    size = call.options(schema.DepthToSpaceOptions).BlockSize()
    _require_block(call, size)
    call.give_image(call.e.one("DepthToSpace", call.image(), blocksize=size, mode="DCR"))


@reads("SPACE_TO_DEPTH", moves=True)
def space_to_depth(call: Call) -> None:
    """SpaceToDepth."""
    size = call.options(schema.SpaceToDepthOptions).BlockSize()
    _require_block(call, size)
    call.give_image(call.e.one("SpaceToDepth", call.image(), blocksize=size))


def _require_block(call: Call, size: int) -> None:
    if size < 1:
        raise ValueError(f"blocks of {size} at '{call.op.name}'")


def _blocks(call: Call) -> tuple[Value, list[int], list[tuple[int, int]], tuple[int, ...]]:
    x = call.plain(0)
    block = [int(size) for size in call.const(1, "the blocks").reshape(-1)]
    margins = [(int(low), int(high)) for low, high in call.const(2, "the margins").reshape(-1, 2)]
    if not x.is_static:
        call.refuse("the shape is known only at run time")
    if len(margins) != len(block) or len(block) >= len(x.dims) or any(size < 1 for size in block):
        raise ValueError(f"blocks of {block} in rank {len(x.dims)} at '{call.op.name}'")
    return x, block, margins, x.dims


@reads("SPACE_TO_BATCH_ND", moves=True)
def space_to_batch(call: Call) -> None:
    """Pad, cut every spatial axis into blocks, and move what is inside a block to the batch."""
    e = call.e
    x, block, margins, dims = _blocks(call)
    count = len(block)
    rest = len(dims) - 1 - count
    low, high = [0, *(pair[0] for pair in margins), *([0] * rest)], [0, *(pair[1] for pair in margins), *([0] * rest)]
    x = e.one("Pad", x, e.ints([*low, *high]), _fill(call, x))
    dims = x.dims
    cut = [dims[0], *(part for axis, size in enumerate(block) for part in (dims[axis + 1] // size, size))]
    x = e.reshape(x, [*cut, *dims[1 + count :]])
    inner, outer = [2 + 2 * axis for axis in range(count)], [1 + 2 * axis for axis in range(count)]
    tail = list(range(1 + 2 * count, 1 + 2 * count + rest))
    x = e.transpose(x, [*inner, 0, *outer, *tail])
    spatial = [dims[axis + 1] // size for axis, size in enumerate(block)]
    call.give_plain(e.reshape(x, [dims[0] * int(np.prod(block)), *spatial, *dims[1 + count :]]))


@reads("BATCH_TO_SPACE_ND", moves=True)
def batch_to_space(call: Call) -> None:
    """The way back: from the batch into the blocks of every spatial axis, then crop."""
    e = call.e
    x, block, margins, dims = _blocks(call)
    count = len(block)
    batch, rest = dims[0] // int(np.prod(block)), len(dims) - 1 - count
    x = e.reshape(x, [*block, batch, *dims[1:]])
    mixed = [axis for place in range(count) for axis in (count + 1 + place, place)]
    x = e.transpose(x, [count, *mixed, *range(2 * count + 1, 2 * count + 1 + rest)])
    spatial = [dims[axis + 1] * size for axis, size in enumerate(block)]
    x = e.reshape(x, [batch, *spatial, *dims[1 + count :]])
    if any(low or high for low, high in margins):
        starts = [low for low, _ in margins]
        ends = [extent - high for extent, (_, high) in zip(spatial, margins)]
        x = e.one("Slice", x, e.ints(starts), e.ints(ends), e.ints(range(1, count + 1)))
    call.give_plain(x)


@reads("REVERSE_V2", moves=True)
def reverse(call: Call) -> None:
    """Slice with a step of -1."""
    e = call.e
    axes = [call.axis(int(axis)) for axis in call.const(1, "the axes").reshape(-1)]
    minimum = int(np.iinfo(np.int64).min)
    steps = [-1] * len(axes)
    call.give_plain(
        e.one("Slice", call.plain(0), e.ints(steps), e.ints([minimum] * len(axes)), e.ints(axes), e.ints(steps))
    )


@reads("REVERSE_SEQUENCE", moves=True)
def reverse_sequence(call: Call) -> None:
    """ReverseSequence; its axes must be the first two."""
    options = call.options(schema.ReverseSequenceOptions)
    time, batch = options.SeqDim(), options.BatchDim()
    if sorted((time, batch)) != [0, 1]:
        call.refuse(f"sequences along axis {time} of batches along axis {batch}")
    lengths = call.e.cast(call.raw(1), DataType.INT64)
    call.give_plain(call.e.one("ReverseSequence", call.plain(0), lengths, time_axis=time, batch_axis=batch))
