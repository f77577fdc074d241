"""Choosing boxes, and elements that differ.

Source: LiteRT kernels non_max_suppression.cc, unique.cc; ONNX NonMaxSuppression-11, Unique-11.
"""

from __future__ import annotations

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value
from edgec.ir.types import DataType


@reads("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def non_max_suppression(call: Call) -> None:
    """NonMaxSuppression of one image and class; the results are filled up with zeros to the largest number of boxes."""
    e, soft = call.e, call.op.code == "NON_MAX_SUPPRESSION_V5"
    if soft and call.const(5, "sigma").reshape(-1)[0] != 0:
        call.refuse("soft suppression, which lowers scores instead of dropping boxes")
    scores, most = call.plain(1), e.reshape(call.longs(2), [1])
    thresholds = [e.reshape(call.plain(position), [1]) for position in (3, 4)]
    rows = e.one("NonMaxSuppression", e.unsqueeze(call.plain(0), [0]), e.unsqueeze(scores, [0, 1]), most, *thresholds)
    chosen = e.reshape(e.one("Gather", rows, e.ints([2]), axis=1), [-1])
    count = e.lengths(chosen)
    missing = e.one("Concat", e.ints([0]), e.one("Sub", most, count), axis=0)
    size = most.const.numpy().tolist() if most.const is not None else None

    def filled(x: Value) -> Value:
        padded = e.one("Pad", x, missing)
        return padded if size is None else e.reshape(padded, size)

    call.give_plain(filled(e.cast(chosen, DataType.INT32)))
    if soft:
        call.give_plain(filled(e.one("Gather", scores, chosen, axis=0)), 1)
    call.give_plain(e.reshape(e.cast(count, DataType.INT32), []), 2 if soft else 1)


@reads("UNIQUE")
def unique(call: Call) -> None:
    """Unique in the order of first occurrence, and for every element its number among them."""
    dtype = call.result(1).dtype
    if dtype is None:
        call.refuse(f"numbers of the type {call.result(1).kind}")
    values, _, numbers = call.e.node("Unique", [call.plain(0)], 3, sorted=0)
    call.give_plain(values)
    call.give_plain(call.e.cast(numbers, dtype), 1)
