"""Resizing images.

Source: LiteRT kernels resize_bilinear.cc, resize_nearest_neighbor.cc (reference_ops.h); ONNX Resize-19.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.graph import Value


def _sizes(call: Call, x: Value) -> Value:
    """Extents of the whole result, as the operator takes them."""
    e = call.e
    return e.one("Concat", e.lengths(x, [0, 1]), call.longs(1), axis=0)


@reads("RESIZE_BILINEAR")
def bilinear(call: Call) -> None:
    """Resize, linear."""
    options = call.options(schema.ResizeBilinearOptions)
    x = call.image()
    mode = "align_corners" if options.AlignCorners() else "half_pixel" if options.HalfPixelCenters() else "asymmetric"
    call.give_image(
        call.e.one("Resize", x, None, None, _sizes(call, x), mode="linear", coordinate_transformation_mode=mode)
    )


@reads("RESIZE_NEAREST_NEIGHBOR", moves=True)
def nearest(call: Call) -> None:
    """Resize, nearest: LiteRT rounds down, with aligned corners half up; half-pixel centres are those of half up."""
    options = call.options(schema.ResizeNearestNeighborOptions)
    x = call.image()
    if options.AlignCorners():
        mode, rounding = "align_corners", "round_prefer_ceil"
    elif options.HalfPixelCenters():
        mode, rounding = "half_pixel", "round_prefer_ceil"
    else:
        mode, rounding = "asymmetric", "floor"
    y = call.e.one(
        "Resize",
        x,
        None,
        None,
        _sizes(call, x),
        mode="nearest",
        coordinate_transformation_mode=mode,
        nearest_mode=rounding,
    )
    call.give_image(y)
