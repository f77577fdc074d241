"""Cutting boxes out of tensors.

Source: LiteRT kernels slice.cc, strided_slice.cc; TensorFlow's documentation of tf.strided_slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value
from edgec.ir.types import DataType

SMALLEST, LARGEST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


@reads("SLICE", moves=True, layouts=True)
def slice_box(call: Call) -> None:
    """Slice from begin to begin + size; -1 takes the rest."""
    e = call.e
    rank = len(call.tensor(0).shape)
    begin, size = call.known(1), call.known(2)
    if begin is None or size is None:
        call.plainly()
        starts, sizes = call.longs(1), call.longs(2)
        rest = e.one("Equal", sizes, e.ints([-1]))
        ends = e.one("Where", rest, e.ints([LARGEST]), e.one("Add", starts, sizes))
        call.give(e.one("Slice", call.x(), starts, ends, e.ints(range(rank))))
        return
    first = [int(item) for item in begin.reshape(-1)]
    counts = [int(item) for item in size.reshape(-1)]
    if len(first) != rank or len(counts) != rank or any(start < 0 for start in first):
        raise ValueError(f"a box from {first} of {counts} in rank {rank} at '{call.op.name}'")
    ends_known = [LARGEST if count < 0 else start + count for start, count in zip(first, counts)]
    x = call.x()
    starts_known, stops = call.spread(first), call.spread(ends_known)
    axes = [
        axis
        for axis, (start, stop) in enumerate(zip(starts_known, stops))
        if start or (stop != LARGEST and (x.shape is None or x.shape[axis] != stop))
    ]
    if not axes:
        call.give(x)
        return
    call.give(
        e.one("Slice", x, e.ints([starts_known[a] for a in axes]), e.ints([stops[a] for a in axes]), e.ints(axes))
    )


@dataclass
class _Plan:
    """One axis of the operand in a strided slice.

    Attributes:
        position: of its begin, end and step among the operands' elements; -1 where an ellipsis takes the axis whole.
    """

    axis: int
    position: int
    shrinks: bool = False


def _plan(call: Call, count: int, rank: int) -> tuple[list[_Plan], list[int]]:
    """How the elements of begin, end and step belong to axes, and where the result has new axes."""
    options = call.options(schema.StridedSliceOptions)
    masks = {name: getattr(options, name)() for name in ("EllipsisMask", "NewAxisMask", "ShrinkAxisMask")}
    consumed = sum(
        1 for item in range(count) if not (masks["EllipsisMask"] >> item & 1 or masks["NewAxisMask"] >> item & 1)
    )
    plans: list[_Plan] = []
    fresh: list[int] = []
    place = 0  # axis of the result
    for item in range(count):
        if masks["EllipsisMask"] >> item & 1:
            for _ in range(rank - consumed):
                plans.append(_Plan(len(plans), -1))
                place += 1
        elif masks["NewAxisMask"] >> item & 1:
            fresh.append(place)
            place += 1
        else:
            shrinks = bool(masks["ShrinkAxisMask"] >> item & 1)
            plans.append(_Plan(len(plans), item, shrinks))
            place += not shrinks
    if len(plans) > rank:
        raise ValueError(f"{len(plans)} axes sliced of {rank} at '{call.op.name}'")
    return plans, fresh


@reads("STRIDED_SLICE", moves=True, layouts=True)
def strided_slice(call: Call) -> None:
    """Slice, then Squeeze and Unsqueeze."""
    e, options = call.e, call.options(schema.StridedSliceOptions)
    rank, count = len(call.tensor(0).shape), int(np.prod(call.tensor(1).shape, dtype=np.int64))
    if count > 32:
        raise ValueError(f"{count} slices at '{call.op.name}'")
    plans, fresh = _plan(call, count, rank)
    shrunk = [plan.axis for plan in plans if plan.shrinks]
    if shrunk or fresh:
        call.plainly()
    x = call.x()
    steps = call.const(3, "the steps").reshape(-1)
    if not steps.all():
        raise ValueError(f"a step of 0 at '{call.op.name}'")
    begin, end = call.known(1), call.known(2)
    sliced = [plan for plan in plans if plan.position >= 0]
    if begin is not None and (end is not None or all(plan.shrinks for plan in sliced)):
        chosen: list[tuple[int, int, int, int]] = []
        for plan in sliced:
            start, stop = int(begin.reshape(-1)[plan.position]), 0
            step = int(steps[plan.position])
            if plan.shrinks:
                stop, step = start + 1 if start != -1 else LARGEST, 1
            else:
                assert end is not None
                stop = int(end.reshape(-1)[plan.position]) + (start if options.Offset() else 0)
                if options.BeginMask() >> plan.position & 1:
                    start = 0 if step > 0 else LARGEST
                if options.EndMask() >> plan.position & 1:
                    stop = LARGEST if step > 0 else SMALLEST
            if (start, stop, step) != (0, LARGEST, 1):
                chosen.append((call.axis(plan.axis), start, stop, step))
        if chosen:
            axes, starts, stops, by = (list(column) for column in zip(*chosen))
            x = e.one("Slice", x, e.ints(starts), e.ints(stops), e.ints(axes), e.ints(by))
    elif sliced:
        x = _at_run_time(call, x, sliced, [int(steps[plan.position]) for plan in sliced])
    call.give(e.unsqueeze(e.squeeze(x, shrunk), fresh))


def _at_run_time(call: Call, x: Value, plans: list[_Plan], steps: list[int]) -> Value:
    """The slice with begins and ends that are computed."""
    e, options = call.e, call.options(schema.StridedSliceOptions)
    positions = [plan.position for plan in plans]

    def flags(mask: int) -> Value:
        return e.constant(np.array([bool(mask >> position & 1) for position in positions]))

    def pick(position: int) -> Value:
        return e.one("Gather", e.reshape(call.longs(position), [-1]), e.ints(positions), axis=0)

    starts, stops = pick(1), pick(2)
    if options.Offset():
        stops = e.one("Add", starts, stops)
    whole_start = e.ints([0 if step > 0 else LARGEST for step in steps])
    whole_stop = e.ints([LARGEST if step > 0 else SMALLEST for step in steps])
    last = e.one("Equal", starts, e.ints([-1]))
    after = e.one("Where", last, e.ints([LARGEST]), e.one("Add", starts, e.ints([1])))
    shrinking = e.constant(np.array([plan.shrinks for plan in plans]))
    begin_mask = options.BeginMask()
    for plan in plans:
        if plan.shrinks:
            begin_mask &= ~(1 << plan.position)
    starts = e.one("Where", flags(begin_mask), whole_start, starts)
    stops = e.one("Where", flags(options.EndMask()), whole_stop, stops)
    stops = e.one("Where", shrinking, after, stops)
    axes = e.ints([call.axis(plan.axis) for plan in plans])
    by = e.ints([1 if plan.shrinks else step for plan, step in zip(plans, steps)])
    return e.one("Slice", x, e.cast(starts, DataType.INT64), e.cast(stops, DataType.INT64), axes, by)
