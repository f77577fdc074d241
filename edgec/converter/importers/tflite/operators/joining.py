"""Concatenating, stacking, splitting and repeating.

Source: LiteRT kernels concatenation.cc, pack.cc, unpack.cc, split.cc, split_v.cc, tile.cc, broadcast_to.cc.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads


@reads("CONCATENATION", moves=True, layouts=True)
def concatenation(call: Call) -> None:
    """Concat."""
    options = call.options(schema.ConcatenationOptions)
    operands = [call.x(position) for position in range(call.count)]
    y = call.e.one("Concat", *operands, axis=call.axis(options.Axis()))
    call.give(call.activated(y, options.FusedActivationFunction()))


@reads("PACK", moves=True)
def pack(call: Call) -> None:
    """Concat along a new axis."""
    rank = len(call.result().shape)
    axis = call.axis(call.options(schema.PackOptions).Axis(), rank)
    parts = [call.e.unsqueeze(call.plain(position), [axis]) for position in range(call.count)]
    call.give_plain(call.e.one("Concat", *parts, axis=axis))


@reads("UNPACK", moves=True)
def unpack(call: Call) -> None:
    """Split into slices of extent 1, whose axis goes."""
    options = call.options(schema.UnpackOptions)
    axis, count = call.axis(options.Axis()), len(call.op.outputs)
    x = call.plain(0)
    parts = call.e.node("Split", [x], count, axis=axis, num_outputs=count) if count > 1 else [x]
    for position, part in enumerate(parts):
        call.give_plain(call.e.squeeze(part, [axis]), position)


@reads("SPLIT", moves=True, layouts=True)
def split(call: Call) -> None:
    """Split into equal parts; the axis is the first operand."""
    axis, count = int(call.const(0, "the axis").reshape(-1)[0]), len(call.op.outputs)
    _split(call, 1, axis, None, count)


@reads("SPLIT_V", moves=True, layouts=True)
def split_v(call: Call) -> None:
    """Split into parts of given sizes, one of which may be -1."""
    sizes = [int(size) for size in call.const(1, "the sizes").reshape(-1)]
    axis = int(call.const(2, "the axis").reshape(-1)[0])
    if -1 in sizes:
        extent = call.tensor(0).signature[axis]
        if extent < 0:
            call.refuse("a part takes what is left of an extent that is known only at run time")
        sizes[sizes.index(-1)] = extent - sum(size for size in sizes if size >= 0)
    _split(call, 0, axis, sizes, len(call.op.outputs))


def _split(call: Call, position: int, axis: int, sizes: list[int] | None, count: int) -> None:
    x = call.x(position)
    place = call.axis(axis, len(call.tensor(position).shape))
    if count == 1:
        call.give(x)
        return
    if sizes is None:
        parts = call.e.node("Split", [x], count, axis=place, num_outputs=count)
    else:
        parts = call.e.node("Split", [x, call.e.ints(sizes)], count, axis=place)
    for number, part in enumerate(parts):
        call.give(part, number)


@reads("TILE", moves=True)
def tile(call: Call) -> None:
    """Tile."""
    call.give_plain(call.e.one("Tile", call.plain(0), call.longs(1)))


@reads("BROADCAST_TO", moves=True)
def broadcast_to(call: Call) -> None:
    """Expand."""
    call.give_plain(call.e.one("Expand", call.plain(0), call.longs(1)))
