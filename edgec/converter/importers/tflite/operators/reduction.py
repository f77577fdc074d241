"""Reductions, sums along an axis, and the largest elements.

Source: LiteRT kernels reduce.cc, arg_min_max.cc, cumsum.cc, topk_v2.cc.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.types import DataType

REDUCTIONS = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
    "REDUCE_ANY": "ReduceMax",
    "REDUCE_ALL": "ReduceMin",
}


@reads(*REDUCTIONS, layouts=True)
def reduction(call: Call) -> None:
    """The reduction of the same meaning; truth values go through int32."""
    e = call.e
    keep = bool(call.options(schema.ReducerOptions).KeepDims())
    known = call.known(1)
    rank = len(call.tensor(0).shape)
    if known is None:
        call.plainly()
        axes = e.reshape(call.longs(1), [-1])
    else:
        places = [int(axis) % max(rank, 1) for axis in known.reshape(-1)]
        if any(not -rank <= int(axis) < max(rank, 1) for axis in known.reshape(-1)):
            raise ValueError(f"axes {known.tolist()} of rank {rank} at '{call.op.name}'")
        if not keep and not _same_order(places, rank):
            call.plainly()
        axes = e.ints(sorted({call.axis(axis) for axis in places}))
    x = call.x()
    if x.dtype is DataType.BOOL:
        y = e.cast(e.one(REDUCTIONS[call.op.code], e.cast(x, DataType.INT32), axes, keepdims=int(keep)), DataType.BOOL)
    else:
        y = e.one(REDUCTIONS[call.op.code], x, axes, keepdims=int(keep), noop_with_empty_axes=1)
    if keep:
        call.give(y)
    else:
        call.give_plain(y)


def _same_order(dropped: list[int], rank: int) -> bool:
    """Whether the axes that stay have the same order channels-first and channels-last."""
    kept = [axis for axis in range(rank) if axis not in dropped]
    return rank - 1 in dropped or all(axis in (0, rank - 1) for axis in kept)


@reads("ARG_MAX", "ARG_MIN", moves=True)
def arg_max(call: Call) -> None:
    """The first position of the largest or smallest element along an axis."""
    axis = int(call.const(1, "the axis").reshape(-1)[0])
    dtype = call.result().dtype
    if dtype is None:
        call.refuse(f"a result of {call.result().kind}")
    op = "ArgMax" if call.op.code == "ARG_MAX" else "ArgMin"
    call.stored = True
    y = call.e.one(op, call.plain(0), axis=call.axis(axis), keepdims=0)
    call.give_plain(call.e.cast(y, dtype))


@reads("CUMSUM")
def cumsum(call: Call) -> None:
    """CumSum."""
    options = call.options(schema.CumsumOptions)
    axis = call.e.reshape(call.longs(1), [])
    call.give_plain(
        call.e.one("CumSum", call.plain(0), axis, exclusive=int(options.Exclusive()), reverse=int(options.Reverse()))
    )


@reads("TOPK_V2", moves=True)
def top_k(call: Call) -> None:
    """The largest elements of the last axis, and where they are."""
    count = call.e.reshape(call.longs(1), [1])
    values, indices = call.e.node("TopK", [call.plain(0), count], 2, axis=-1, largest=1, sorted=1)
    dtype = call.result(1).dtype
    if dtype is None:
        call.refuse(f"indices of {call.result(1).kind}")
    call.give_plain(values)
    call.give_plain(call.e.cast(indices, dtype), 1)
