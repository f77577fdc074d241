"""Picking elements by index.

Source: LiteRT kernels gather.cc, gather_nd.cc, embedding_lookup.cc, one_hot.cc, where.cc.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.types import DataType


@reads("GATHER", moves=True)
def gather(call: Call) -> None:
    """Gather, or GatherND where the first axes belong together."""
    e, options = call.e, call.op.options_or_none(schema.GatherOptions)
    axis = call.axis(options.Axis() if options is not None else 0)
    batch = options.BatchDims() if options is not None else 0
    indices = call.raw(1)
    if batch < 0:
        batch += len(call.tensor(1).shape)
    if not batch:
        call.give_plain(e.one("Gather", call.plain(0), indices, axis=axis))
        return
    if axis != batch:
        call.refuse(f"{batch} batch axes and the axis {axis}")
    places = e.unsqueeze(e.cast(indices, DataType.INT64), [len(call.tensor(1).shape)])
    call.give_plain(e.one("GatherND", call.plain(0), places, batch_dims=batch))


@reads("GATHER_ND", moves=True)
def gather_nd(call: Call) -> None:
    """GatherND."""
    call.give_plain(call.e.one("GatherND", call.plain(0), call.longs(1)))


@reads("EMBEDDING_LOOKUP", moves=True)
def embedding_lookup(call: Call) -> None:
    """Gather along the first axis; the indices are the first operand."""
    call.give_plain(call.e.one("Gather", call.plain(1), call.raw(0), axis=0))


@reads("ONE_HOT", moves=True)
def one_hot(call: Call) -> None:
    """Where an index equals the position along a new axis; indices outside of it are nowhere."""
    e = call.e
    depth = int(call.const(1, "the depth").reshape(-1)[0])
    axis = call.axis(call.options(schema.OneHotOptions).Axis(), len(call.tensor(0).shape) + 1)
    rank = len(call.tensor(0).shape) + 1
    positions = np.arange(depth).reshape([-1 if place == axis else 1 for place in range(rank)])
    same = e.one("Equal", e.unsqueeze(call.longs(0), [axis]), e.constant(positions))
    call.give_plain(e.one("Where", same, call.plain(2), call.plain(3)))


@reads("WHERE")
def where(call: Call) -> None:
    """The indices of what is not zero, one row each."""
    found = call.e.one("NonZero", call.raw(0))
    call.give_plain(call.e.transpose(found, (1, 0)))
