"""Non-maximum suppression of detections.

LiteRT's kernel takes one class of one image, lets boxes at the threshold itself survive differently, and is only right
for scores above zero.  So the boxes are sorted first, and it is given descending whole numbers in place of scores.

Source: ONNX NonMaxSuppression-11; LiteRT kernels non_max_suppression.cc.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.indexing import true_positions
from edgec.targets.tflite.operators.selection import top
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

CALL_LIMIT = 1024
"""Images times classes; each takes some ten operators."""

# [x centre, y centre, width, height] times this is [top, left, bottom, right]
_CORNERS = np.array([[0, 1, 0, -0.5], [1, 0, -0.5, 0], [0, 1, 0, 0.5], [1, 0, 0.5, 0]], np.float32)


def _above(call: Call, position: int) -> T:
    """The next float above an overlap limit: LiteRT suppresses at the limit, ONNX above it."""
    b = call.b
    if not call.has(position):
        return b.constant(np.nextafter(np.float32(0), np.float32(1)))
    if call.is_const(position):
        limit = np.float32(call.const(position, "the limit").reshape(()))
        if limit >= 1:
            refuse(
                f"an overlap limit of {limit:g}, which suppresses nothing", "leave out the suppression", rule="EDG406"
            )
        return b.constant(np.nextafter(np.maximum(limit, np.float32(0)), np.float32(2)))
    limit_tensor = b.maximum(b.reshape(call.raw(position), ()), b.constant(np.float32(0)))
    bits = b.one("BITCAST", [limit_tensor], DataType.INT32, ())
    return b.one("BITCAST", [b.add(bits, b.scalar(1, bits))], DataType.FLOAT, ())


@lowers("NonMaxSuppression")
def non_max_suppression(call: Call) -> T:
    """NON_MAX_SUPPRESSION_V4 per image and class; how many boxes survive is known only at run time."""
    b = call.b
    (images, count, _), classes = call.dims(0), call.dims(1)[1]
    if images * classes > CALL_LIMIT:
        refuse(f"{images} x {classes} images and classes; edgec unrolls up to {CALL_LIMIT}", rule="EDG405")
    most = count
    if not call.has(2):
        refuse("max_output_boxes_per_class is left out, so nothing is ever selected", rule="EDG404")
    if call.is_const(2):
        most = min(int(call.const(2, "the limit").reshape(())), count)
        if most <= 0:
            refuse("max_output_boxes_per_class is 0, so nothing is ever selected", rule="EDG404")
    boxes = call.raw(0)
    if call.node.attr_int("center_point_box", 0):
        boxes = b.fully_connected(boxes, b.constant(_CORNERS))
    scores = b.reshape(call.raw(1), (images * classes, count))
    ordered, order = top(call, scores, count)
    ranks = b.constant(np.arange(count, 0, -1, dtype=np.float32).reshape(1, count))
    if call.has(4):
        threshold = b.reshape(call.raw(4), ())
        ranks = b.select(b.compare("GREATER", ordered, threshold), ranks, b.constant(np.zeros((1, 1), np.float32)))
    else:
        ranks = b.constant(np.tile(np.arange(count, 0, -1, dtype=np.float32), (images * classes, 1)))
    limit = _above(call, 3)
    places: list[T] = []
    counts: list[T] = []
    for number in range(images * classes):
        own_order = b.reshape(b.slice(order, (number, 0), (1, count)), (count,))
        image = b.slice(boxes, (number // classes, 0, 0), (1, count, 4)) if images > 1 else boxes
        sorted_boxes = b.gather(b.reshape(image, (count, 4)), own_order, 0)
        own_ranks = b.reshape(b.slice(ranks, (number, 0), (1, count)), (count,))
        kept, kept_count = b.emit(
            "NON_MAX_SUPPRESSION_V4",
            [sorted_boxes, own_ranks, b.constant(np.array(most, np.int32)), limit, b.constant(np.float32(0))],
            [(DataType.INT32, (most,)), (DataType.INT32, ())],
            options("NonMaxSuppressionV4Options"),
        )
        places.append(b.gather(own_order, kept, 0))
        counts.append(b.reshape(kept_count, (1,)))
    found = b.concat(counts, 0)
    if not call.is_const(2):
        found = b.minimum(found, b.reshape(b.cast(call.raw(2), DataType.INT32), ()))
    valid = b.compare("LESS", b.constant(np.arange(most, dtype=np.int32)), b.reshape(found, (found.size, 1)))
    owners = np.stack([np.arange(images * classes) // classes, np.arange(images * classes) % classes], axis=1)
    labels = b.constant(np.repeat(owners, most, axis=0).astype(np.int32))
    column = b.reshape(b.concat(places, 0), (images * classes * most, 1))
    survivors = true_positions(call, b.reshape(valid, (images * classes * most,)))
    return b.cast(b.gather(b.concat([labels, column], 1), survivors, 0), DataType.INT64)
